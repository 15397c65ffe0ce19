"""The fixed splits of the results."""

import numpy as np
from PIL import Image

from clustercl.benchmarks.result_lists import PARTS, rows, split


def test_groups_are_not_separated_and_parts_have_their_size():
    groups = {f"g{n}": [f"g{n}a", f"g{n}b"] if n % 10 == 0 else [f"g{n}a"] for n in range(90)}
    found = split(groups, (("train", 60), ("validation", 9), ("test", 30)))
    assert len(found) == 99
    for names in groups.values():
        assert len({found[name] for name in names}) == 1
    counts = {part: list(found.values()).count(part) for part in ("train", "validation", "test")}
    assert abs(counts["train"] - 60) <= 1 and abs(counts["validation"] - 9) <= 1
    assert found == split(dict(reversed(groups.items())), (("train", 60), ("validation", 9), ("test", 30)))


def test_rows_of_a_folder(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(6):
        pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for name in (f"ISIC_{number:07d}", "ISIC_0000099") if number == 0 else (f"ISIC_{number:07d}",):
            Image.fromarray(pixels).save(tmp_path / f"{name}.png")
            if number < 4:
                Image.fromarray((pixels[..., 0] > 99).astype(np.uint8) * 255).save(
                    tmp_path / f"{name}_segmentation.png"
                )
    found = rows("skin", tmp_path)
    assert len(found) == 7 and PARTS["skin"][0] == ("train", 1500)
    assert [row[-1] for row in found if row[2]] == ["train"] * 5  # far fewer than 1,500
    assert [row[-1] for row in found if not row[2]] == ["", ""]
    same = [row[3] for row in found if row[0] in ("ISIC_0000000", "ISIC_0000099")]
    assert len(same) == 2 and len(set(same)) == 1  # pixel for pixel the same
