"""Metrics against numbers worked out by hand and by brute force over all pairs of surface elements."""

import json
import math

import numpy as np
import pytest

from clustercl.evaluation import surfaces
from clustercl.evaluation.metrics import METRICS, absent_note, case_metrics, summarise, table, thresholded_jaccard

CLOSE = 1e-5  # MONAI computes in float32


def brute_force(prediction, truth, spacing, tolerance):
    """Dice, Jaccard, HD95, surface Dice of two masks, from their definitions alone."""

    def surface(mask):
        padded = np.pad(mask, 1)
        inner = padded.copy()
        for axis in range(mask.ndim):
            inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        return (np.argwhere(padded & ~inner) - 1) * np.array(spacing)

    a, b = surface(prediction), surface(truth)
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    there, back = apart.min(1), apart.min(0)
    both = (prediction & truth).sum()
    return {
        "dice": 2 * both / (prediction.sum() + truth.sum()),
        "jaccard": both / (prediction | truth).sum(),
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "surface_dice": ((there <= tolerance).sum() + (back <= tolerance).sum()) / (len(there) + len(back)),
    }


def blob(shape, seed):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0) > 0.05


@pytest.mark.parametrize(
    ("shape", "spacing"), [((40, 30), (1.0, 1.0)), ((16, 20, 12), (0.5, 1.0, 3.0)), ((14, 12, 10), (2, 2.0, 1))]
)
def test_agrees_with_the_definition(shape, spacing):
    prediction, truth = blob(shape, 0), blob(shape, 1)  # they touch the border: a surface is there too
    got = case_metrics(prediction.astype(np.uint8), truth.astype(np.uint8), ("a",), spacing, 1.5)["a"]
    assert got == pytest.approx(brute_force(prediction, truth, spacing, 1.5), rel=CLOSE)


@pytest.fixture(params=["tree", "planes"])
def way(request, monkeypatch):
    """Whichever of its two ways the clock would have chosen."""
    monkeypatch.setattr(surfaces, "SECONDS_A_PIXEL", {"tree": math.inf, "planes": 0.0}[request.param])
    monkeypatch.setattr(surfaces, "SECONDS_A_POINT", 0.0)
    return request.param


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_distances_are_monais_to_the_last_bit(way):
    """Whose functions were called before they were searched for here, so that results of both can be compared."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    for seed in range(6):
        masks = blob((18, 20, 16), seed), blob((18, 20, 16), seed + 6)
        pair = [torch.from_numpy(mask)[None, None] for mask in masks]
        common = {"include_background": True, "spacing": [0.7, 1.0, 2.5]}
        got = case_metrics(*(mask.astype(np.uint8) for mask in masks), ("a",), common["spacing"], 1.5)["a"]
        assert got["hd95"] == compute_hausdorff_distance(*pair, percentile=95, **common).item()
        assert got["surface_dice"] == compute_surface_dice(*pair, class_thresholds=[1.5], **common).item()


def test_by_hand():
    """A bar of four pixels, and the same bar one row further down."""
    truth, prediction = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    truth[2:4, 1:5] = 1
    prediction[3:5, 1:5] = 1
    got = case_metrics(prediction, truth, ("bar",), (3.0, 1.0), 2.0)["bar"]
    # 4 of 8 + 8 pixels shared; all 16 are surface, half of them lie on the other, half one row of 3 mm away.
    assert got == pytest.approx({"dice": 0.5, "jaccard": 1 / 3, "hd95": 3.0, "surface_dice": 0.5}, rel=CLOSE)
    at_three = case_metrics(prediction, truth, ("bar",), (3.0, 1.0), 3.0)["bar"]
    assert at_three["surface_dice"] == 1.0, "a distance of exactly the tolerance is within it"


def test_each_surface_is_searched_once_and_in_parts_between_which_ctrl_c_is_heard(monkeypatch):
    import scipy.spatial

    prediction, truth = blob((16, 20, 12), 0), blob((16, 20, 12), 1)
    whole = case_metrics(prediction.astype(np.uint8), truth.astype(np.uint8), ("a",), (0.5, 1.0, 3.0), 1.5)
    trees, asked = [], []
    monkeypatch.setattr(surfaces, "SECONDS_A_PIXEL", math.inf)  # by the tree
    monkeypatch.setattr(surfaces, "SAMPLE", 1)

    class Counted(scipy.spatial.KDTree):
        def __init__(self, points, **options):
            trees.append(len(points))
            super().__init__(points, **options)

        def query(self, points, **options):
            assert options.get("workers", 1) == 1, "Ctrl-C would free what the tree's own threads write to"
            asked.append(len(points))
            return super().query(points, **options)

    monkeypatch.setattr(scipy.spatial, "KDTree", Counted)
    monkeypatch.setattr(surfaces, "AT_ONCE", 50)
    parts = case_metrics(prediction.astype(np.uint8), truth.astype(np.uint8), ("a",), (0.5, 1.0, 3.0), 1.5)
    assert parts == whole
    assert len(trees) == 2 and sum(asked) == sum(trees) + 2, "a surface was searched for each metric"
    assert max(asked) == 50


@pytest.mark.parametrize(
    ("shape", "spacing"), [((90, 70), (1.0, 1.0)), ((30, 26, 41), (0.3671875, 0.7, 0.9)), ((30, 41, 3), (0.3, 0.3, 5))]
)
def test_both_ways_give_the_same_bits(shape, spacing, monkeypatch):
    """Far apart, scattered, and touching; which way is taken is left to the clock, so no number may tell."""
    scattered = np.random.default_rng(2).random(shape) < 0.01
    corner, other = (np.zeros(shape, bool) for _ in range(2))
    corner[:5, 3:8], other[-4:, -9:-2] = True, True
    for pair in ((corner, other), (scattered, corner), (blob(shape, 0), blob(shape, 1))):
        found = []
        for seconds in (0.0, math.inf):
            monkeypatch.setattr(surfaces, "SECONDS_A_PIXEL", seconds)
            monkeypatch.setattr(surfaces, "SECONDS_A_POINT", 0.0)
            found.append(surfaces.surface_distances(*pair, spacing))
        for planes, tree in zip(*found, strict=True):
            np.testing.assert_array_equal(planes, tree)


def test_a_tree_that_would_take_long_is_left_after_a_sample(monkeypatch):
    """As with the surface of a ball in a tube around it: each point of the tube is about as near as the next."""
    import time

    import scipy.spatial

    prediction, truth = blob((60, 50, 20), 0), blob((60, 50, 20), 1)
    asked = []

    class Slow(scipy.spatial.KDTree):
        def query(self, points, **options):
            asked.append(len(points))
            time.sleep(0.001 * len(points))
            return super().query(points, **options)

    monkeypatch.setattr(scipy.spatial, "KDTree", Slow)
    surfaces.surface_distances(prediction, truth, (1.0, 1.0, 1.0))
    assert len(asked) == 2 and max(asked) <= surfaces.SAMPLE


def test_how_far_one_class_is_is_told(way, monkeypatch):
    """One of a whole CT may take many seconds."""
    monkeypatch.setattr(surfaces, "AT_ONCE", 50)
    monkeypatch.setattr(surfaces, "SECONDS_UNTOLD", 0)
    told = []
    masks = [blob((16, 20, 12), seed).astype(np.uint8) for seed in (0, 1)]
    case_metrics(*masks, ("a",), (1.0, 1.0, 1.0), 1.0, told.append)
    assert told[0] == "measuring a"
    shares = [int(text.removeprefix("measuring a, ").removesuffix("%")) for text in told[1:]]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 100 and len(set(shares)) > 10


def test_more_distances_than_torch_takes_have_the_same_percentile(monkeypatch):
    distances = np.random.default_rng(0).gamma(2, 3, 1001).astype(np.float32)
    few = surfaces.percentile_95(distances)
    monkeypatch.setattr(surfaces, "QUANTILE_MOST", 1000)
    assert surfaces.percentile_95(distances) == pytest.approx(few, rel=1e-6)  # both interpolate in float32
    monkeypatch.undo()
    assert surfaces.percentile_95(np.ones(surfaces.QUANTILE_MOST + 1, np.float32)) == 1


def test_each_class_is_told_before_it_is_measured():
    told = []
    case_metrics(np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8), ("a", "b"), (1.0, 1.0), 1.0, told.append)
    assert told == ["measuring a", "measuring b"]


def test_where_it_lies_and_how_large_the_image_is_do_not_matter():
    small_p, small_t = blob((9, 10, 8), 3).astype(np.uint8) * 2, blob((9, 10, 8), 4).astype(np.uint8) * 2
    near = case_metrics(np.pad(small_p, 3), np.pad(small_t, 3), ("a", "b"), (1.0, 2.0, 1.5), 1.0)
    widths = ((30, 7), (2, 41), (11, 25))
    far = case_metrics(np.pad(small_p, widths), np.pad(small_t, widths), ("a", "b"), (1.0, 2.0, 1.5), 1.0)
    assert near["b"] == far["b"]


def test_classes_are_kept_apart():
    truth = np.zeros((6, 6), np.uint8)
    truth[0:2], truth[3:5] = 1, 2
    prediction = truth.copy()
    prediction[prediction == 2] = 3
    got = case_metrics(prediction, truth, ("a", "b", "c"), (1.0, 1.0), 1.0)
    assert got["a"] == {"dice": 1.0, "jaccard": 1.0, "hd95": 0.0, "surface_dice": 1.0}
    assert got["b"]["dice"] == got["c"]["dice"] == 0.0


def test_missing_from_both_says_nothing():
    empty = np.zeros((4, 5, 6), np.uint8)
    assert all(math.isnan(value) for value in case_metrics(empty, empty, ("a",), (1.0, 1.0, 1.0), 1.0)["a"].values())


@pytest.mark.parametrize("missing", ["truth", "prediction"])
def test_missing_from_one_is_as_bad_as_can_be(missing):
    some = np.zeros((10, 10, 10), np.uint8)
    some[4:6, 4:6, 4:6] = 1
    pair = (some, np.zeros_like(some)) if missing == "truth" else (np.zeros_like(some), some)
    got = case_metrics(*pair, ("a",), (0.3, 0.4, 1.2), 1.0)["a"]
    # sqrt(3**2 + 4**2 + 12**2) = 13 mm
    assert got == pytest.approx({"dice": 0.0, "jaccard": 0.0, "hd95": 13.0, "surface_dice": 0.0})


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(5, 4\)"):
        case_metrics(np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8), ("a",), (1.0, 1.0), 1.0)


def one(**values):
    return {name: dict.fromkeys(METRICS, value) for name, value in values.items()}


def test_means_leave_out_what_does_not_occur():
    """Were absent classes counted as 1, as some programs do, the mean would be 0.8."""
    nan = math.nan
    got = summarise([one(a=0.4, b=0.8, c=nan), one(a=0.6, b=nan, c=nan)], ("a", "b", "c"))
    assert got["cases"] == 2
    for metric in METRICS:
        assert got[metric]["per_class"] == pytest.approx({"a": 0.5, "b": 0.8, "c": None})
        assert got[metric]["mean"] == pytest.approx(0.65)
    assert set(got) == {"cases", *METRICS}
    json.dumps(got, allow_nan=False)
    assert "holds c in any case" in absent_note(got)
    assert absent_note(summarise([one(a=0.5)], ("a",))) is None


def test_nothing_occurs_at_all():
    got = summarise([one(a=math.nan)], ("a",))
    assert got["dice"] == {"mean": None, "per_class": {"a": None}}
    shown = table(got | {"unit": "mm", "tolerance": 2.0, "note": absent_note(got)})
    assert "mean" in shown and "NOTE: Neither truth nor prediction holds a" in shown


def test_thresholded_jaccard_fails_cases_below_065():
    assert thresholded_jaccard([one(a=0.64), one(a=0.65), one(a=0.95), one(a=math.nan)], "a") == pytest.approx(1.6 / 3)
