"""The table, the figure and the files of a comparison."""

import csv
import io
import json
from dataclasses import replace

from PIL import Image

from clustercl.evaluation.comparison import Line
from clustercl.report.comparison import figure, markdown, write_comparison

LINES = [
    Line("simclr", 0.1, 40, 3, 0.7012, (0.68, 0.72), 0.01, None, None, None, None, 0.6, 12.34),
    Line("pseudo-class", 0.1, 40, 3, 0.7512, (0.73, 0.77), 0.02, 0.05, (2, 3), 0.625, 0.0123, 0.65, 10.0),
    Line("simclr", 1.0, 40, 1, 0.8, (0.78, 0.82), None, None, None, None, None, 0.7, 8.0),
    Line("mae", 0.1, 40, 1, 0.8, (0.78, 0.82), None, 0.1, (1, 1), 0.5, 0.02, 0.7, 8.0),
]


def test_the_table():
    text = markdown(LINES, "simclr").splitlines()
    assert (
        text[0].startswith("| labels | method | cases |") and "| to simclr | better in | cases better | p |" in text[0]
    )
    assert text[2] == "| 0.1 | simclr | 40 | 3 | 0.701 | 0.680 to 0.720 | 0.010 |  |  |  |  | 0.600 | 12.3 |"
    assert text[3] == (
        "| 0.1 | pseudo-class | 40 | 3 | **0.751** | 0.730 to 0.770 | 0.020 | +0.050 | 2 of 3 | 62% | 0.012 | "
        "0.650 | 10.0 |"
    )
    assert text[4].startswith("| 1 | simclr | 40 | 1 | **0.800** |")
    of_half = replace(LINES[0], method="byol", cases=20, dice=0.9)  # the easier half, perhaps
    half = markdown([*LINES, of_half], "simclr")
    assert "| byol | 20 | 3 | 0.900 |" in half and "**0.751**" in half
    assert text[5].startswith("| 0.1 | mae | 40 | 1 | 0.800 |")  # of a single seed, so not the best of three
    assert "corrected" in "\n".join(text) and "is none, counts with the diagonal of its image" in "\n".join(text)


def test_the_figure_is_a_picture():
    with Image.open(io.BytesIO(figure(LINES))) as picture:
        assert picture.size[0] > 600 and len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_files_grow_with_the_cells_that_are_finished(tmp_path):
    assert write_comparison(tmp_path, "simclr") is None and not (tmp_path / "results.csv").exists()
    for method in ("mae", "simclr"):
        folder = tmp_path / "runs" / method / "labels1-seed0"
        (folder / "evaluation").mkdir(parents=True)
        cell = {"method": method, "label_fraction": 1.0, "fold": "1/2", "seed": 0}
        (folder / "cell.json").write_text(json.dumps(cell))
        (folder / "evaluation" / "per_case.csv").write_text("case,class,dice,jaccard,hd95\na,x,0.5,0.4,3\n")
        table = write_comparison(tmp_path, "simclr")
        assert (table is None) == (method == "mae")  # the baseline comes second
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["method", "label_fraction", "fold", "seed", "case", "dice", "jaccard", "hd95"]
    assert rows[1:] == [[name, "1.0", "1/2", "0", "a", "0.5", "0.4", "3.0"] for name in ("mae", "simclr")]
    write_comparison(tmp_path, "simclr", order=["simclr", "scratch"])
    with open(tmp_path / "results.csv", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["method", "simclr", "mae"]
    table = (tmp_path / "table.md").read_text()
    assert table.index("| simclr |") < table.index("| mae |") and (tmp_path / "figure.png").stat().st_size > 1000
