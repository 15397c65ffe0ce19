"""Demo data: the layouts, what is in the files, chance that repeats, and refusals that leave nothing behind."""

import csv

import nibabel
import numpy as np
import pytest
from nibabel.orientations import io_orientation
from PIL import Image
from scipy import ndimage

from clustercl.data import demo_full, demo_heart, demo_skin
from clustercl.data.cases import find_cases
from clustercl.data.demo import generator, write_demo
from clustercl.data.demo_noise import cells, fractal
from clustercl.data.demo_scanner import scan
from clustercl.data.demo_shapes import Grid, ellipsoid
from clustercl.data.read import read_pair
from clustercl.data.task import get_task
from clustercl.errors import DataError, UsageError

CASES = {"skin": 11, "heart": 5}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder of demo data of each task."""
    root = tmp_path_factory.mktemp("demo")
    return {task: write_demo(root / "new" / task, task, seed=3, cases=cases) for task, cases in CASES.items()}


@pytest.fixture(scope="module")
def hearts():
    """(image, label, affine) of each kind, in another orientation each."""
    return {
        kind: demo_heart.volume(np.random.default_rng(7), kind, code)
        for kind, code in zip(demo_heart.KINDS, demo_heart.ORIENTATIONS)
    }


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_skin_is_laid_out_as_isic_2017(demo):
    expected = [f"ISIC-2017_Training_Data/ISIC_{n:07d}.jpg" for n in range(1, 12)]
    expected += [f"ISIC-2017_Training_Part1_GroundTruth/ISIC_{n:07d}_segmentation.png" for n in range(1, 12)]
    expected += [f"unlabelled/ISIC_{10000 + n:07d}.jpg" for n in range(1, 7)]
    assert files(demo["skin"]) == sorted([*expected, "kinds.csv"])


def test_heart_is_named_as_mm_whs(demo):
    expected = [f"ct_train/ct_train_{n}_{what}.nii.gz" for n in range(1001, 1006) for what in ("image", "label")]
    expected += [f"ct_test/ct_test_{n}_image.nii.gz" for n in (2001, 2002, 2003)]
    assert files(demo["heart"]) == sorted([*expected, "kinds.csv"])


@pytest.mark.parametrize("task", ["skin", "heart"])
def test_readers_take_every_case(task, demo):
    cases = find_cases(get_task(task), demo[task])
    assert sum(case.label is not None for case in cases) == CASES[task]
    assert sum(case.label is None for case in cases) == (CASES[task] + 1) // 2
    for case in cases:
        _, label = read_pair(case, get_task(task))
        if label is not None:
            assert set(np.unique(label)) == set(range(get_task(task).num_classes))


@pytest.mark.parametrize(("task", "kinds"), [("skin", demo_skin.KINDS), ("heart", demo_heart.KINDS)])
def test_kinds_are_listed_by_case(task, kinds, demo):
    with open(demo[task] / "kinds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["id"] for row in rows) == [case.id for case in find_cases(get_task(task), demo[task])]
    assert {row["kind"] for row in rows} == set(kinds)


def test_masks_are_one_lesion_of_0_and_255(demo):
    for path in (demo["skin"] / "ISIC-2017_Training_Part1_GroundTruth").iterdir():
        mask = np.asarray(Image.open(path))
        assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
        assert ndimage.label(mask)[1] == 1
        assert 0.01 < (mask > 0).mean() < 0.6
    sizes = {Image.open(path).size for path in (demo["skin"] / "ISIC-2017_Training_Data").iterdir()}
    assert len(sizes) >= 3 and len({round(w / h, 2) for w, h in sizes}) >= 3


def test_volumes_are_signed_16_bit_with_both_affines(demo):
    codes, spacings = set(), set()
    for path in sorted((demo["heart"] / "ct_train").glob("*_image.nii.gz")):
        image, label = (nibabel.load(str(path).replace("_image", what)) for what in ("_image", "_label"))
        for volume in (image, label):
            assert volume.get_data_dtype() == np.int16
            assert volume.header["qform_code"] == volume.header["sform_code"] == 1
            # The quaternion is stored in float32: origins of some 200 mm are good to about 1e-5 mm.
            np.testing.assert_allclose(volume.get_qform(), volume.get_sform(), atol=1e-3)
        np.testing.assert_array_equal(image.affine, label.affine)
        codes.add("".join(nibabel.aff2axcodes(image.affine)))
        spacings.add(tuple(round(float(size), 2) for size in sorted(image.header.get_zooms())))
        assert all(55 <= n <= 110 for n in image.shape) and all(1.9 < s < 3.1 for s in image.header.get_zooms())
    assert codes == set(demo_heart.ORIENTATIONS)
    assert len(spacings) >= 3 and any(low < high for low, *_, high in spacings)


def canonical(image, label, affine):
    """Arrays with axes right, anterior, superior, and the spacing along them."""
    volumes = [nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine)) for array in (image, label)]
    return *(np.asarray(volume.dataobj) for volume in volumes), np.diag(volumes[0].affine)[:3]


def test_every_structure_is_whole_and_has_a_plausible_volume(hearts):
    # ml, generous bounds around the normal values of adults (LV 70-180, wall 80-180, atria 40-150).
    bounds = {"LV": (40, 260), "RV": (50, 280), "LA": (35, 220), "RA": (35, 220), "MYO": (40, 260), "AA": (25, 150),
              "PA": (15, 120)}  # fmt: skip
    task = get_task("heart")
    for kind, (image, label, affine) in hearts.items():
        assert image.shape == label.shape and image.dtype == label.dtype == np.int16
        assert set(np.unique(label)) == {0, *task.values}
        for name, value in zip(task.classes, task.values):
            assert ndimage.label(label == value)[1] == 1, f"{kind} {name}"
            ml = (label == value).sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
            assert bounds[name][0] < ml < bounds[name][1], f"{kind} {name}: {ml:.0f} ml"


def test_the_heart_lies_as_in_people(hearts):
    """Centres in mm (right, front, up), and which structures touch."""
    task = get_task("heart")
    touching = [("LV", "MYO"), ("LV", "LA"), ("LV", "AA"), ("RV", "MYO"), ("RV", "RA"), ("RV", "PA")]
    for kind, volume in hearts.items():
        image, label, spacing = canonical(*volume)
        middle = {
            name: np.argwhere(label == value).mean(axis=0) * spacing for name, value in zip(task.classes, task.values)
        }
        right, front, up = range(3)
        assert middle["RA"][right] > middle["RV"][right] > middle["LV"][right], kind
        assert middle["RV"][front] > middle["LV"][front] > middle["LA"][front], kind
        assert middle["AA"][up] > middle["LV"][up] and middle["PA"][up] > middle["RV"][up], kind
        for one, other in touching:
            a, b = (label == task.values[task.classes.index(name)] for name in (one, other))
            assert (ndimage.binary_dilation(a) & b).sum() >= 10, f"{kind}: {one} and {other}"
        assert (image < -700).mean() > 0.1 and (image > 300).mean() > 0.005, f"{kind}: no lungs or no bone"


def test_contrast_differs_between_chambers_and_kinds(hearts):
    def level(kind, value):
        image, label, _ = hearts[kind]
        return float(np.median(image[label == value]))

    assert level("coronary", 500) > level("coronary", 600) + 100
    assert level("embolism", 600) > level("embolism", 500) + 80
    assert abs(level("chest", 500) - level("chest", 600)) < 60


def test_no_threshold_finds_the_structures(hearts):
    """The best window of HU for all of a heart's blood, chosen on the truth itself, stays far from a segmentation."""
    for kind, (image, label, _) in hearts.items():
        blood = np.isin(label, (500, 600, 420, 550, 820, 850))
        best, smooth = 0.0, ndimage.uniform_filter(image.astype(np.float32), 3)
        for low in range(60, 400, 20):
            guess = smooth > low
            best = max(best, 2 * (guess & blood).sum() / (guess.sum() + blood.sum()))
        assert best < 0.9, f"{kind}: {best:.2f}"


def test_no_threshold_finds_the_lesions(demo):
    """Otsu's threshold on brightness, the classic baseline, misses a good part of them."""
    dice = []
    for case in find_cases(get_task("skin"), demo["skin"]):
        if case.label is None:
            continue
        image, label = read_pair(case, get_task("skin"))
        grey = image.mean(axis=2)
        counts, edges = np.histogram(grey, 64)
        below = np.cumsum(counts)[:-1]
        total = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
        above = below[-1] + counts[-1] - below
        between = (
            below * above * (total[:-1] / np.maximum(below, 1) - (total[-1] - total[:-1]) / np.maximum(above, 1)) ** 2
        )
        guess = grey < edges[1 + between.argmax()]
        dice.append(2 * (guess & (label > 0)).sum() / (guess.sum() + (label > 0).sum()))
    assert np.mean(dice) < 0.75


@pytest.mark.parametrize("task", ["skin", "heart"])
def test_a_case_depends_on_seed_and_number_alone(task, demo, tmp_path):
    again = write_demo(tmp_path / "fewer", task, seed=3, cases=1)
    other = write_demo(tmp_path / "other", task, seed=4, cases=1)
    for name in files(again):
        if name == "kinds.csv":
            continue
        arrays = [
            np.asarray(nibabel.load(folder / name).dataobj if task == "heart" else Image.open(folder / name))
            for folder in (demo[task], again, other)
        ]
        np.testing.assert_array_equal(arrays[0], arrays[1])
        assert arrays[0].shape != arrays[2].shape or (arrays[0] != arrays[2]).any()


def test_labelled_and_unlabelled_cases_are_never_the_same():
    draws = {
        generator(0, task, labelled, 0).integers(2**60) for task in ("skin", "heart") for labelled in (True, False)
    }
    assert len(draws) == 4


def test_a_folder_that_is_there_and_empty_is_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_demo(".", "skin", cases=1)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "kinds.csv", "unlabelled",
    ]  # fmt: skip


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match=r"new or an empty folder.* holds thesis\.tex: name another"):
        write_demo(tmp_path, "skin", cases=1)
    assert files(tmp_path) == ["thesis.tex"]
    with pytest.raises(DataError, match="this is a file"):
        write_demo(tmp_path / "thesis.tex", "skin", cases=1)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("lung", {}, "unknown task 'lung': wanted one of skin, heart"),
        ("skin", {"cases": 0}, "wanted 1 to 9999 labelled cases, got 0"),
        ("skin", {"seed": -1}, "from 0 on, got -1"),
    ],
)
def test_impossible_requests_leave_nothing(task, settings, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        write_demo(tmp_path / "demo", task, **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("existed", [False, True])
def test_what_fails_midway_leaves_nothing(existed, tmp_path, monkeypatch):
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("No space left on device")
        return np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)

    monkeypatch.setattr(demo_skin, "photograph", fail)
    if existed:
        (tmp_path / "demo").mkdir()
    with pytest.raises(DataError, match=r"cannot be written here \(No space left on device\)"):
        write_demo(tmp_path / "demo", "skin", cases=3)
    assert [path.name for path in tmp_path.rglob("*")] == (["demo"] if existed else [])


def test_fractal_is_smooth_and_of_unit_spread():
    field = fractal(np.random.default_rng(0), (40, 50, 30), (10, 10, 5))
    assert field.shape == (40, 50, 30) and field.dtype == np.float32
    assert field.std() == pytest.approx(1, abs=1e-3)  # float32 rounding of a division by the spread
    assert np.abs(np.diff(field, axis=0)).mean() < 0.6 * np.abs(np.diff(field, axis=2)).mean() * 1.2


def test_cells_are_sorted_distances():
    near, second = cells(np.random.default_rng(0), (30, 40), 8.0)
    assert near.shape == (30, 40) and (near <= second).all() and near.max() < 2 * 8.0


def test_ellipsoid_and_tube_measure_millimetres():
    grid = Grid((41, 41, 41), (1.0, 1.0, 1.0), (0, 0, 0))
    ball = ellipsoid(grid.axes, (0, 0, 0), (10, 10, 10))
    assert ball[20, 20, 20 + 13] == pytest.approx(3, abs=1e-4) and ball[20, 20 + 7, 20] == pytest.approx(-3, abs=1e-4)
    tube = grid.tube([(0, 0, -15), (0, 0, 15)], 5.0)
    # Spheres 1.75 mm apart along the axis: between two of them the surface dips by at most 0.08 mm.
    assert tube[20 + 5, 20, 20] == pytest.approx(0, abs=0.1) and tube[20, 20 + 8, 20] == pytest.approx(3, abs=0.1)
    assert tube[0, 0, 0] > 100


def test_the_scanner_adds_noise_of_the_wanted_size_and_bands_between_dense_parts():
    x, y = np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5, indexing="ij")
    hu = np.where(np.hypot(x, y) < 26, 40.0, -1000.0)[..., None].repeat(4, axis=2).astype(np.float32)
    hu[10:15, 29:34] = hu[49:54, 29:34] = 1500
    spacing = np.array([3.0, 3.0, 3.0])
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(scan(rng, hu, spacing, 0, 0), hu, atol=1e-3)  # float32 of values up to 1500
    assert (scan(rng, hu, spacing, 20, 0) - hu).std() == pytest.approx(20, rel=0.01)
    bands = scan(rng, hu, spacing, 0, 0.1) - hu
    assert bands[28:36, 29:34].mean() < bands[28:36, 12:17].mean() - 5, "dark between two dense rods"


def test_full_size_photographs(tmp_path):
    folder = write_demo(tmp_path / "full", "skin", cases=1, full_size=True)
    small = write_demo(tmp_path / "small", "skin", cases=1)
    for large, image in zip(sorted(folder.rglob("*.jpg")), sorted(small.rglob("*.jpg")), strict=True):
        with Image.open(large) as picture, Image.open(image) as other:
            assert picture.size == (3000, 2000)
            # Of the same image: grain and compression change a mean over 12 x 12 pixels by little.
            means = (np.asarray(one.resize(other.size, Image.Resampling.BOX), float) for one in (picture, other))
            assert np.abs(np.subtract(*means)).mean() < 4
    cases = find_cases(get_task("skin"), folder)
    assert read_pair(cases[0], get_task("skin"))[1].shape == (2000, 3000)


@pytest.mark.parametrize("number", range(5))
def test_full_size_volumes_keep_their_field_of_view(number, monkeypatch):
    monkeypatch.setattr(demo_full, "VOLUME", (96, 80, 64))
    rng = np.random.default_rng(number)
    image, label, affine = demo_heart.volume(rng, "coronary", demo_heart.ORIENTATIONS[number])
    large, values, moved = demo_full.volume(rng, image, label, affine)
    assert sorted(large.shape) == [64, 80, 96] == sorted(values.shape) and large.dtype == np.int16
    right, front, up = (int(axis) for axis in np.argsort(io_orientation(moved)[:, 0]))
    assert (large.shape[right], large.shape[front], large.shape[up]) == (96, 80, 64)
    for corner in np.ndindex(2, 2, 2):  # the outer faces, half a voxel beyond the first and last centres
        before = affine @ [*(np.array(corner) * image.shape - 0.5), 1]
        assert np.allclose(moved @ [*(np.array(corner) * large.shape - 0.5), 1], before)
    assert set(np.unique(values)) == set(np.unique(label))
