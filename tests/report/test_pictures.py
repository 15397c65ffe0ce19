"""What is drawn is right: directions, slices, the cut of the tree, the choice of cases, the colours of contours."""

import io
import sys
import weakref

import numpy as np
import pytest
from PIL import Image

from clustercl import cut_tree, linkage
from clustercl.data.prepare import Geometry, ras_spacing, to_ras
from clustercl.errors import DataError, RunError
from clustercl.files import save_npy, write_csv
from clustercl.report.clusters import VOLUMES_READ, _candidates, draw_examples, draw_tree, read_tree
from clustercl.report.curves import draw_curves
from clustercl.report.overlays import Segmented, choose, draw_case, segment, slices
from clustercl.report.pictures import overlay_strip
from clustercl.report.run import Ranked, Run
from clustercl.report.style import PREDICTED
from clustercl.report.volumes import aspect, view


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(picture: np.ndarray, colour: str) -> int:
    """Pixels within 40 grey levels of a colour: antialiasing mixes it with what lies beside."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=2) < 40).sum())


def test_the_patients_right_is_on_the_left_and_front_and_head_are_up():
    stored = np.zeros((5, 6, 7))
    stored[0, 0, 6] = 1  # of LPS order: right, anterior, superior
    volume = to_ras(stored, np.diag([-1.0, -2.0, 3.0, 1.0]))
    assert volume[4, 5, 6] == 1
    assert view(volume, "axial", 6)[0, 0] == 1
    assert view(volume, "coronal", 5)[0, 0] == 1
    assert view(volume, "sagittal", 4)[0, 0] == 1
    assert view(volume, "axial", 6).shape == (6, 5)
    assert view(volume, "sagittal", 4).shape == (7, 6)


def test_spacing_follows_the_axes():
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 5, 1, -2, 1  # stored as superior, right, posterior
    spacing = ras_spacing(Geometry((5, 6, 7), affine, (5.0, 1.0, 2.0)))
    assert spacing == (1.0, 2.0, 5.0)
    assert aspect(spacing, "axial") == 2.0
    assert aspect(spacing, "coronal") == 5.0
    assert aspect(spacing, "sagittal") == 2.5


def test_slices_lie_where_the_truth_is_largest_and_show_far_predictions():
    truth = np.zeros((40, 40, 40), np.uint8)
    truth[5:10, 5:12, 20] = 1
    truth[6, 6, 15:25] = 1
    prediction = np.zeros_like(truth)
    prediction[38, 6, 20] = 1
    image = np.broadcast_to(np.arange(40.0), truth.shape)  # its value is z
    parts = slices(Segmented(Ranked("a", 0.1), image, truth, prediction, (1.0, 1.0, 2.0)))
    assert np.unique(parts["axial"].image).tolist() == [20.0]
    assert (parts["axial"].truth > 0).sum() == 35
    assert (parts["axial"].prediction > 0).sum() == 1
    assert parts["axial"].truth.shape[0] < 40  # cut to the surroundings
    assert parts["coronal"].aspect == 2.0


def test_a_chain_of_thousands_of_pseudo_classes_is_drawn(finished, tmp_path, monkeypatch):
    run, n = Run(finished("skin")), 4000
    chain = np.array([[0, 1, 1.0, 2], *([k, n + k - 2, float(k), k + 1] for k in range(2, n))])  # as of single linkage
    labels = cut_tree(chain, 2000)
    monkeypatch.setattr(Run, "array", lambda self, name: chain)
    monkeypatch.setattr(Run, "units", [{"pseudo_class": str(label)} for label in labels])
    limit, tree = sys.getrecursionlimit(), read_tree(run)
    assert len(tree.order) == 2000 and sys.getrecursionlimit() == limit
    assert tree.colours is tree.colours  # else drawing would be quadratic in the pseudo-classes
    assert pixels(draw_tree(tree)).shape[2] == 3


def test_a_case_without_structures_is_drawn(finished):
    run = Run(finished("heart"))
    empty = np.zeros((8, 9, 10), np.uint8)
    item = Segmented(Ranked("a", None), np.zeros(empty.shape), empty, empty, (1.0, 1.0, 1.0))
    assert pixels(draw_case(run, item)).shape[1] > 500


def test_slices_of_a_stack_of_thick_ones_have_one_scale(finished):
    """ACDC's: ten slices of 10 mm. Made equally tall, the axial picture was a tenth of the width."""
    truth = np.zeros((100, 80, 10), np.uint8)
    truth[20:80, 20:60, 2:8] = 1  # 90 x 60 x 60 mm
    image = np.random.default_rng(0).random(truth.shape, np.float32)
    item = Segmented(Ranked("a", 0.5), image, truth, truth, (1.5, 1.5, 10.0))
    extents = {name: part.extent for name, part in slices(item).items()}
    # Around the structures MARGIN of their extent, here 18, 12 and at least 8 voxels, as far as there is an image.
    assert extents == {"axial": (144, 96), "coronal": (144, 100), "sagittal": (96, 100)}
    picture = pixels(draw_case(Run(finished("heart")), item))
    assert 0.4 < picture.shape[0] / picture.shape[1] < 0.8  # two rows of 100 mm below 384 mm in all, and the legend


def test_contours_have_the_colours_of_truth_and_class(finished):
    run = Run(finished("skin"))
    rows, columns = np.mgrid[:60, :60]
    disc = ((rows - 30) ** 2 + (columns - 30) ** 2 < 200).astype(np.uint8)
    image = np.full((60, 60, 3), 90, np.uint8)
    nothing = np.zeros_like(disc)

    def drawn(truth, prediction):
        # Without the legend below: the right half of the upper nine tenths.
        picture = pixels(draw_case(run, Segmented(Ranked("a", 0.5), image, truth, prediction, (1.0, 1.0))))
        part = picture[30 : int(0.85 * len(picture)), picture.shape[1] // 2 + 30 : -30]
        return near(part, "#ffffff"), near(part, PREDICTED[0])

    none, truth, prediction = drawn(nothing, nothing), drawn(disc, nothing), drawn(nothing, disc)
    assert none[1] == truth[1] == 0
    assert prediction[0] == none[0]
    assert truth[0] > none[0] + 300  # a circle of 180 pixels across, about 2 wide
    assert prediction[1] > 300


def test_best_median_and_worst_are_chosen():
    ranking = [Ranked(str(number), 1 - number / 10) for number in range(7)] + [Ranked("none", None)]
    assert [case.id for case in choose(ranking, 3)] == ["0", "3", "6"]
    assert [case.id for case in choose(ranking[:2], 3)] == ["0", "1"]
    assert choose(ranking[-1:], 3) == []


def test_ranking_is_the_mean_over_classes_that_occur(tmp_path, finished):
    run = finished("skin", tmp_path)
    rows = [("a", "x", 0.5), ("a", "y", ""), ("b", "x", 0.9), ("b", "y", 0.3), ("c", "x", ""), ("d", "x", "nan")]
    write_csv(run / "evaluation/per_case.csv", ("case", "class", "dice"), rows)
    ranking = Run(run).ranking
    assert [(case.id, case.dice) for case in ranking[:2]] == [("b", pytest.approx(0.6)), ("a", 0.5)]
    assert {case.id: case.dice for case in ranking[2:]} == {"c": None, "d": None}


@pytest.mark.parametrize("task", ["skin", "heart"])
def test_segmentation_comes_back_on_the_images_grid(finished, task):
    run = Run(finished(task))
    (item,) = segment(run, run.ranking[:1], lambda item: item)
    shape = (40, 60) if task == "skin" else (26, 22, 14)
    assert item.truth.shape == item.prediction.shape == item.image.shape[: len(shape)] == shape
    found, truth = item.prediction > 0, item.truth > 0
    dice = {
        index: 2 * ((item.prediction == index) & (item.truth == index)).sum()
        / ((item.prediction == index).sum() + (item.truth == index).sum())
        for index in np.union1d(np.unique(item.prediction[found]), np.unique(item.truth[truth]))
    }  # fmt: skip
    # The evaluation came to the same masks, so to the same number, up to MONAI's float32.
    assert item.case.dice == pytest.approx(np.mean(list(dice.values())), abs=1e-5)


def test_volumes_of_several_cases_do_not_lie_beside_one_another(finished):
    """A CT of 512 x 512 x 360 takes some 0.5 GB as it is drawn."""
    run, before = Run(finished("heart")), []

    def work(item):
        assert all(image() is None for image in before)
        before.append(weakref.ref(item.image))

    assert segment(run, run.ranking[:1] * 3, work) == [None] * 3
    assert len(before) == 3


def tree_run(finished, folder, labels, z) -> Run:
    run = finished("skin", folder)
    save_npy(run / "clusters/linkage.npy", z)
    rows = [(f"u{number}", "s", label) for number, label in enumerate(labels)]
    write_csv(run / "clusters/units.csv", ("unit", "source", "pseudo_class"), rows)
    return Run(run)


@pytest.mark.parametrize("method", ["ward", "single"])
@pytest.mark.parametrize("k", [1, 2, 13, 60])
def test_the_tree_is_cut_where_the_pseudo_classes_are(tmp_path, finished, method, k):
    z = linkage(np.random.default_rng(k).normal(size=(60, 3)), method=method)
    labels = cut_tree(z, n_clusters=k)
    tree = read_tree(tree_run(finished, tmp_path, labels, z))
    assert np.array_equal(cut_tree(z, height=tree.cut), labels)
    assert sorted(tree.order) == list(range(k))
    places = [place for found in tree.order.values() for place in found]
    assert places == sorted(places)  # each pseudo-class is one stretch of the axis
    assert pixels(draw_tree(tree)).std() > 10


def test_equal_features_have_a_tree_too(tmp_path, finished):
    z = linkage(np.zeros((5, 3)))
    assert draw_tree(read_tree(tree_run(finished, tmp_path, [0] * 5, z)))


def test_a_tree_of_other_units_is_refused(tmp_path, finished):
    run = tree_run(finished, tmp_path, [0, 0, 1], linkage(np.eye(5)))
    with pytest.raises(DataError, match="not of one run"):
        read_tree(run)


@pytest.mark.parametrize("task", ["skin", "heart"])
def test_examples_are_units_of_their_pseudo_class_the_typical_first(finished, task):
    run = Run(finished(task))
    tree = read_tree(run)
    features = run.array("features")
    names = {row["unit"]: number for number, row in enumerate(run.units)}
    drawn = draw_examples(run, tree)
    assert [group.pseudo_class for group in drawn] == list(tree.order)
    for group in drawn:
        members = tree.labels == group.pseudo_class
        rows = [names[name] for name, _ in group.pictures]
        assert group.size == members.sum()
        assert members[rows].all()
        assert len(set(rows)) == len(rows) == min(6, group.size)
        apart = np.linalg.norm(features[rows] - features[members].mean(axis=0), axis=1)
        assert (np.diff(apart) >= -1e-5).all()  # float32 means
        picture = pixels(group.pictures[0][1])
        assert picture.shape[:2] == ((80, 120) if task == "skin" else (120, 120))
        if task == "skin":  # JPEG and two resizings between
            assert np.abs(picture[2, 2].astype(float) - (220, 170, 150)).max() < 10
            assert np.abs(picture[40, 56].astype(float) - (90, 50, 40)).max() < 10


def test_few_volumes_are_read_for_examples_and_show_every_pseudo_class(tmp_path, finished):
    run = finished("heart", tmp_path)
    rows = [(f"c{number}@{window}", f"c{number}", number // 5) for number in range(40) for window in range(3)]
    write_csv(run / "clusters/units.csv", ("unit", "source", "pseudo_class"), rows)
    opened = Run(run)
    labels = np.array([row[2] for row in rows])
    chosen = _candidates(opened, labels, list(range(8)))
    assert len({opened.units[row]["source"] for row in chosen}) == VOLUMES_READ
    assert set(labels[chosen]) == set(range(8))


def test_curves_of_each_stage_and_none_of_one_that_did_not_run(tmp_path, finished):
    run = finished("skin", tmp_path)
    (run / "pretrain/metrics.jsonl").unlink()
    drawn = draw_curves(Run(run))
    assert [(stage, png is not None) for stage, png in drawn] == [
        ("autoencoder", True), ("pretrain", False), ("finetune", True), ("finetune", True)
    ]  # fmt: skip


@pytest.mark.parametrize("task", ["skin", "heart"])
def test_a_strip_of_cases(tmp_path, finished, task):
    out = tmp_path / "docs" / "strip.png"
    assert overlay_strip(finished(task), out, cases=3) == out
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1.2 * picture.height


def test_a_strip_needs_metrics(tmp_path, finished):
    run = finished("skin", tmp_path)
    (run / "evaluation/per_case.csv").unlink()
    with pytest.raises(RunError, match=r"per_case\.csv is not there"):
        overlay_strip(run, tmp_path / "strip.png")
    assert not (tmp_path / "strip.png").exists()
