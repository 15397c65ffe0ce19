"""Cutting a linkage matrix, the automatic choice, assigning new rows, and the estimator against scikit-learn."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy
import sklearn.cluster
import torch
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from clustercl import AgglomerativeClustering, assign_to_clusters, choose_cut, cut, cut_tree, linkage


def blobs(k, n=200, d=6, seed=0, spread=0.05):
    rng = np.random.default_rng(seed)
    kind = rng.integers(k, size=n)
    return rng.normal(size=(k, d))[kind] + spread * rng.normal(size=(n, d)), kind


# Rows 0, 1 and 2, 3 and 4 by hand: pairs at 1 and 2, then 5, then 9.
Z = np.array([[0, 1, 1, 2], [2, 3, 2, 2], [4, 6, 5, 3], [5, 7, 9, 5]], dtype=float)


def test_cut_tree_by_hand():
    assert cut_tree(Z, n_clusters=1).tolist() == [0, 0, 0, 0, 0]
    assert cut_tree(Z, n_clusters=2).tolist() == [0, 0, 1, 1, 1]
    assert cut_tree(Z, n_clusters=3).tolist() == [0, 0, 1, 1, 2]
    assert cut_tree(Z, n_clusters=5).tolist() == [0, 1, 2, 3, 4]
    assert cut_tree(Z, height=0).tolist() == [0, 1, 2, 3, 4]
    assert cut_tree(Z, height=2).tolist() == [0, 0, 1, 1, 2]  # a merge at the height itself is kept
    assert cut_tree(Z, height=4.99).tolist() == [0, 0, 1, 1, 2]
    assert cut_tree(Z, height=np.inf).tolist() == [0, 0, 0, 0, 0]
    labels = cut_tree(torch.from_numpy(Z), n_clusters=np.int64(2))
    assert labels.dtype == np.int64 and labels.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("method", ["ward", "average", "complete", "single"])
def test_cut_tree_equals_fcluster(method):
    x, _ = blobs(7)
    z = linkage(x, method)
    for k in (1, 2, 9, 50, 200):
        labels = cut_tree(z, n_clusters=k)
        if k < 200 or not scipy.__version__.startswith("1.11."):  # which makes two clusters fewer than rows there
            assert adjusted_rand_score(labels, hierarchy.fcluster(z, k, "maxclust")) == 1
        _, first = np.unique(labels, return_index=True)
        assert len(first) == k and (np.diff(first) > 0).all()  # numbered by first appearance
    for height in np.quantile(z[:, 2], [0, 0.3, 0.9, 1]):
        assert adjusted_rand_score(cut_tree(z, height=height), hierarchy.fcluster(z, height, "distance")) == 1


def test_cut_tree_of_duplicates_and_of_inversions():
    z = linkage(np.repeat([[0.0], [1.0], [5.0]], 4, axis=0))
    assert cut_tree(z, height=0).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert cut_tree(z, n_clusters="auto").tolist() in ([0] * 8 + [1] * 4, [0] * 4 + [1] * 4 + [2] * 4)
    inverted = hierarchy.linkage([[0, 0], [1, 0], [0.5, 0.9]], "centroid")
    assert inverted[1, 2] < inverted[0, 2]
    assert cut_tree(inverted, height=0.95).tolist() == [0, 1, 2]
    assert cut_tree(inverted, height=1).tolist() == [0, 0, 0]
    assert cut_tree(inverted, n_clusters=2).tolist() == [0, 0, 1]


def test_choose_cut_by_hand():
    cut = choose_cut(Z)  # n = 5: k = 2 alone, between 5 and 9
    assert (cut.n_clusters, cut.height, cut.runner_up) == (2, 7.0, None)
    assert cut.gap == pytest.approx(4 / 9)
    assert choose_cut([[0, 1, 3, 2]]).n_clusters == 2


@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_choose_cut_finds_the_blobs(k):
    x, kind = blobs(k, seed=k)
    z = linkage(x)
    cut = choose_cut(z)
    assert cut.n_clusters == k and cut.runner_up != k and 0 < cut.runner_up_gap <= cut.gap <= 1
    for labels in (cut_tree(z, n_clusters="auto"), cut_tree(z, height=cut.height)):
        assert adjusted_rand_score(labels, kind) == 1
    assert str(k) in str(cut) and str(cut.runner_up) in str(cut)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "precomputed"])
def test_choose_cut_tells_the_silhouette(metric):
    x, _ = blobs(4, spread=0.4)
    given = squareform(pdist(x)) if metric == "precomputed" else x
    z = linkage(given, "average", metric)
    plain, cut = choose_cut(z), choose_cut(z, given, metric)
    assert plain.silhouette is None and replace(cut, silhouette=None, runner_up_silhouette=None) == plain
    for k, found in ((cut.n_clusters, cut.silhouette), (cut.runner_up, cut.runner_up_silhouette)):
        assert found == pytest.approx(silhouette_score(given, cut_tree(z, k), metric=metric), rel=1e-9)
        assert f"(silhouette {found:.2f})" in str(cut)


def test_the_silhouette_is_one_of_a_sample(monkeypatch):
    x, _ = blobs(3, n=400, spread=0.5)
    monkeypatch.setattr(cut, "SILHOUETTE_ROWS", 150)
    z = linkage(x)
    found = choose_cut(z, x)
    distances = squareform(pdist(x))
    assert choose_cut(z, distances, "precomputed").silhouette == pytest.approx(found.silhouette, rel=1e-9)
    whole = silhouette_score(x, cut_tree(z, found.n_clusters))
    assert found.silhouette != whole and found.silhouette == pytest.approx(whole, abs=0.05)  # 150 rows: sd of 0.2 / 12
    huge = linkage(x * 1e200)
    assert choose_cut(huge, x * 1e200).silhouette == pytest.approx(found.silhouette, rel=1e-9)
    for wrong, text in (
        ((x[:-1],), "X must have the 400 rows of Z, got 399"),
        ((x, "manhattan"), "metric must be one of"),
    ):
        with pytest.raises(ValueError, match=f"choose_cut: {text}"):
            choose_cut(z, *wrong)


def test_a_silhouette_needs_two_clusters():
    assert choose_cut(linkage([[0.0], [1.0]]), [[0.0], [1.0]]).silhouette is None  # two rows, each on its own
    x = [[0.0], [0.0], [3.0]]
    assert choose_cut(linkage(x), x).silhouette == pytest.approx(2 / 3)  # 1, 1 and 0 for the one that is alone


def test_nothing_to_separate_is_one_cluster():
    z = linkage(np.ones((30, 2)))
    assert choose_cut(z).n_clusters == 1 and str(choose_cut(z, np.ones((30, 2)))) == "1 cluster: all heights are equal"
    assert cut_tree(z, n_clusters="auto").tolist() == [0] * 30


@pytest.mark.parametrize(
    "z, arguments, text",
    [
        (Z, {}, "give n_clusters or height, got n_clusters=None, height=None"),
        (Z, {"n_clusters": 2, "height": 1.0}, "give n_clusters or height"),
        (Z, {"n_clusters": 0}, "n_clusters must be in 1 .. n = 5, got 0"),
        (Z, {"n_clusters": 6}, "n_clusters must be in 1 .. n = 5, got 6"),
        (Z, {"n_clusters": 2.0}, "n_clusters must be an integer or 'auto', got 2.0"),
        (Z, {"n_clusters": True}, "n_clusters must be an integer or 'auto', got True"),
        (Z, {"n_clusters": "many"}, "n_clusters must be an integer or 'auto', got 'many'"),
        (Z, {"height": -0.5}, "height must be a number of at least 0, got -0.5"),
        (Z, {"height": np.nan}, "height must be a number of at least 0, got nan"),
        (Z, {"height": "high"}, "height must be a number of at least 0, got 'high'"),
        (Z[:, :3], {"n_clusters": 2}, r"Z must be a linkage matrix \(n - 1, 4\), got shape \(4, 3\)"),
        (Z[:0], {"n_clusters": 1}, "Z must have at least 1 rows"),
        (Z[::-1], {"n_clusters": 2}, "Z must name every cluster once"),
        (Z * [1, 1, -1, 1], {"n_clusters": 2}, "Z must have heights of at least 0, got -9"),
        (Z * [1, 1, np.nan, 1], {"n_clusters": 2}, r"Z must be finite, got nan at \(0, 2\)"),
    ],
)
def test_bad_cuts_are_named(z, arguments, text):
    with pytest.raises(ValueError, match=f"cut_tree: {text}"):
        cut_tree(z, **arguments)


def test_new_rows_go_where_ward_would_merge_them():
    x, _ = blobs(4, n=120, spread=0.4)
    labels = cut_tree(linkage(x), n_clusters=4) * 10
    new = blobs(4, n=50, spread=0.4)[0]
    assigned = assign_to_clusters(torch.from_numpy(new), x, labels)
    for row, label in zip(new, assigned):
        cost = {}
        for name in np.unique(labels):  # the rise of the sum of squares, by definition
            one, both = x[labels == name], np.vstack([x[labels == name], row])
            cost[name] = ((both - both.mean(0)) ** 2).sum() - ((one - one.mean(0)) ** 2).sum()
        assert label == min(cost, key=cost.get)
    assert assigned.dtype == np.int64
    for factor in (1e200, 1e-200):  # squares leave float64's range
        assert np.array_equal(assign_to_clusters(new * factor, x * factor, labels), assigned)
    with pytest.raises(ValueError, match="X_new must have the 6 features of X"):
        assign_to_clusters(new[:, :3], x, labels)
    with pytest.raises(ValueError, match="labels must be 120 integers, got shape"):
        assign_to_clusters(new, x, labels[:3])
    with pytest.raises(ValueError, match="labels must be below 2\\*\\*63, got 18446744073709551615"):
        assign_to_clusters(new, x, np.full(120, 2**64 - 1, np.uint64))


@pytest.mark.parametrize("method", ["ward", "average", "complete", "single"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_estimator_equals_scikit_learn(method, metric):
    if method == "ward" and metric == "cosine":
        return
    x = blobs(6, n=300, spread=0.6, seed=3)[0]
    for settings in ({"n_clusters": 5}, {"n_clusters": None, "distance_threshold": 0.7}):
        settings = dict(settings, linkage=method, metric=metric, compute_full_tree=True, compute_distances=True)
        ours, theirs = AgglomerativeClustering(**settings), sklearn.cluster.AgglomerativeClustering(**settings)
        assert adjusted_rand_score(ours.fit_predict(x), theirs.fit_predict(x)) == 1
        for name in ("n_clusters_", "n_leaves_", "n_connected_components_", "n_features_in_"):
            assert getattr(ours, name) == getattr(theirs, name), name
        np.testing.assert_allclose(ours.distances_, np.sort(theirs.distances_), rtol=1e-6)
        assert ours.children_.shape == theirs.children_.shape and ours.labels_.dtype == np.int64
        assert np.array_equal(ours.linkage_matrix_[:, :2], ours.children_)


@parametrize_with_checks([AgglomerativeClustering(), AgglomerativeClustering(linkage="single", n_clusters=3)])
def test_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_estimator_takes_tensors_and_chooses():
    x, kind = blobs(5)
    model = AgglomerativeClustering(n_clusters="auto").fit(torch.from_numpy(x))
    assert model.n_clusters_ == 5 and adjusted_rand_score(model.labels_, kind) == 1
    assert not hasattr(model, "distances_")


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"n_clusters": 0}, "n_clusters must be in 1 .. n = 200, got 0"),
        ({"n_clusters": 201}, "n_clusters must be in 1 .. n = 200, got 201"),
        ({"n_clusters": 2.5}, "n_clusters must be an integer"),
        ({"n_clusters": None}, "exactly one of n_clusters and distance_threshold"),
        ({"distance_threshold": 1.0}, "exactly one of n_clusters and distance_threshold"),
        ({"n_clusters": None, "distance_threshold": -1.0}, "distance_threshold must be at least 0, got -1.0"),
        ({"linkage": "average", "metric": "l1"}, "metric must be one of euclidean, l2, cosine, precomputed, got 'l1'"),
        ({"metric": "cosine"}, "cosine was provided as metric. Ward can only work with euclidean distances"),
        ({"linkage": "centroid"}, "linkage must be one of ward, average, complete, single, got 'centroid'"),
        ({"connectivity": np.eye(200)}, "connectivity must be None"),
        ({"memory": "cache"}, "memory must be None, got 'cache'"),
    ],
)
def test_bad_settings_are_named(settings, text):
    with pytest.raises(ValueError, match=text):
        AgglomerativeClustering(**settings).fit(blobs(3)[0])


def test_everything_runs_without_scikit_learn_and_scipy():
    code = (
        "import sys\n"
        "for name in ('sklearn', 'scipy', 'tqdm'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from clustercl import AgglomerativeClustering, choose_cut, cut_tree, linkage, pairwise_distances\n"
        "x = np.array([[0.0], [0.1], [5.0], [5.1], [5.2]])\n"
        "assert AgglomerativeClustering(n_clusters=2).fit_predict(x).tolist() == [0, 0, 1, 1, 1]\n"
        "assert cut_tree(linkage(x), n_clusters='auto').max() == 1 and pairwise_distances(x).shape == (5, 5)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_missing_extension_is_an_error_not_a_slow_path(monkeypatch):
    from clustercl.ops import _extension

    monkeypatch.setattr(_extension, "_C", None)
    monkeypatch.setattr(_extension, "MISSING", "the compiled extension clustercl._C could not be loaded (gone)")
    with pytest.raises(RuntimeError, match=r"could not be loaded.*make build"):
        linkage(np.eye(3))


@pytest.mark.parametrize("linkage", ["average", "complete", "single"])
def test_estimator_takes_distances(linkage):
    sklearn_cluster = pytest.importorskip("sklearn.cluster")
    x, _ = blobs(4, n=80, spread=0.4)
    distances = np.linalg.norm(x[:, None] - x[None], axis=2)
    arguments = {"n_clusters": 5, "metric": "precomputed", "linkage": linkage}
    ours = AgglomerativeClustering(**arguments).fit_predict(distances)
    theirs = sklearn_cluster.AgglomerativeClustering(**arguments).fit_predict(distances)
    assert len(set(zip(ours, theirs))) == 5


def test_distances_come_in_what_rows_come_in():
    x, _ = blobs(4, n=40, spread=0.4)
    distances = torch.from_numpy(pdist(x))
    for dtype in (torch.bfloat16, torch.float16):
        wanted = linkage(distances.to(dtype).double(), "average", "precomputed")
        assert np.array_equal(linkage(distances.to(dtype), "average", "precomputed"), wanted)
        assert choose_cut(wanted, distances.to(dtype), "precomputed") == choose_cut(
            wanted, distances.to(dtype).double(), "precomputed"
        )
    with pytest.raises(ValueError, match=r"linkage: X must be distances, \(n, n\) or "):
        linkage([[0.0, 1.0], [1.0]], "average", "precomputed")


@pytest.mark.parametrize("threshold", ["a", -1.0, float("nan")])
def test_estimator_refuses_a_threshold_that_is_none(threshold):
    with pytest.raises(ValueError, match="distance_threshold must be at least 0, got"):
        AgglomerativeClustering(n_clusters=None, distance_threshold=threshold).fit(np.eye(4))
