"""Linkage: the tree of SciPy, the definition where distances tie, invariances, long runs, errors."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

from clustercl import AgglomerativeClustering, assign_to_clusters, linkage, pairwise_distances, pseudo_class_nt_xent
from clustercl.ops.arrays import gpu_matrix
from clustercl.ops.linkage import METHODS
from clustercl.ops.memory import available_bytes


def random(n, d, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def assert_same_tree(z, wanted):
    assert np.array_equal(z[:, [0, 1, 3]], wanted[:, [0, 1, 3]])
    np.testing.assert_allclose(z[:, 2], wanted[:, 2], rtol=1e-6)  # what DESIGN promises; random data gives 1e-14


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n, d", [(2, 1), (3, 2), (50, 1), (200, 512), (700, 128), (1500, 7)])
def test_equals_scipy(method, n, d):
    for dtype in (np.float32, np.float64):
        x = random(n, d, n + d, dtype)
        before = x.copy()
        assert_same_tree(linkage(x, method), hierarchy.linkage(x.astype(np.float64), method))
        assert np.array_equal(x, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offset, scale", [(1e4, 1.0), (-1e4, 1.0), (0.0, 1e-6), (0.0, 1e6), (1e4, 1e-3)])
def test_equals_scipy_far_from_the_origin_and_at_any_scale(method, offset, scale):
    x = random(300, 20, 3) * scale + offset
    assert_same_tree(linkage(x, method), hierarchy.linkage(x, method))


@pytest.mark.parametrize("method", ["average", "complete", "single"])
def test_cosine_equals_scipy(method):
    x = random(400, 12, 4)
    assert_same_tree(linkage(x, method, metric="cosine"), hierarchy.linkage(x, method, metric="cosine"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_equals_scipy_at_five_thousand(method):
    rng = np.random.default_rng(8)
    x = rng.normal(size=(30, 32))[rng.integers(30, size=5000)] + 0.5 * rng.normal(size=(5000, 32))
    assert_same_tree(linkage(x, method), hierarchy.linkage(x, method))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("method", ["average", "complete"])
def test_half_the_memory_keeps_heights_to_a_millionth(method, metric):
    rng = np.random.default_rng(1)
    blobs = rng.normal(size=(6, 5))[rng.integers(6, size=900)] + 1e-3 * rng.normal(size=(900, 5))
    x = np.concatenate([blobs, hub(600)])
    distances = squareform(pdist(x, metric))
    for z in (
        linkage(x, method, metric, dtype="float32"),
        linkage(distances, method, "precomputed", dtype="float32"),
    ):
        assert z.dtype == np.float64
        rows = [[i] for i in range(len(x))]
        for a, b, height, size in z:
            between = distances[np.ix_(rows[int(a)], rows[int(b)])]
            wanted = between.mean() if method == "average" else between.max()
            assert height == pytest.approx(wanted, rel=1e-6)
            rows.append(rows[int(a)] + rows[int(b)])
            assert len(rows[-1]) == size
        np.testing.assert_allclose(z[:, 2], linkage(x, method, metric)[:, 2], rtol=1e-6)


def hub(n):
    """A hub that takes in the rest row by row: the deepest tree, which rounds most often."""
    return np.random.default_rng(2).normal(size=(n, 5)) * np.linspace(1, 30, n)[:, None]


def check_by_definition(x, z, method, exact):
    """Each merge is at the smallest Lance-Williams distance left, and sizes and ids are SciPy's.

    exact: no distance rounds, so that the order among equal ones must be (smaller id, larger id) too, a cluster's id
    being its smallest row. Otherwise 1e-9 relative to the largest distance covers the rounding of both sides.
    """
    n = len(x)
    distances = squareform(pdist(x))
    np.fill_diagonal(distances, np.inf)
    slack = 0.0 if exact else 1e-9 * max(1.0, distances[np.isfinite(distances)].max())
    row_of = {i: i for i in range(n)}  # cluster -> its smallest row, where its distances stand
    sizes = np.ones(n)
    assert z.shape == (n - 1, 4) and hierarchy.is_valid_linkage(z) and (np.diff(z[:, 2]) >= 0).all()
    for i, (left, right, height, size) in enumerate(z):
        assert left < right
        a, b = sorted((row_of.pop(int(left)), row_of.pop(int(right))))
        smallest = distances.min()
        assert abs(distances[a, b] - smallest) <= slack and abs(height - smallest) <= max(slack, 1e-12 * smallest)
        if exact:
            first = np.argwhere(distances == smallest)[0]
            assert (a, b) == tuple(first), f"merge {i}: {(a, b)} before {tuple(first)}"
        others = np.array([row for row in row_of.values()], dtype=int)
        da, db, na, nb, no = distances[a, others], distances[b, others], sizes[a], sizes[b], sizes[others]
        merged = {
            "single": np.minimum(da, db),
            "complete": np.maximum(da, db),
            "average": (na * da + nb * db) / (na + nb),
            "ward": np.sqrt(
                np.maximum(0, (na + no) * da**2 + (nb + no) * db**2 - no * distances[a, b] ** 2) / (na + nb + no)
            ),
        }[method]
        distances[b], distances[:, b] = np.inf, np.inf
        distances[a, others] = distances[others, a] = merged
        sizes[a] += sizes[b]
        assert sizes[a] == size
        row_of[n + i] = a


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values, d", [(2, 1), (3, 2), (4, 5), (10, 1), (1, 3)])
def test_by_definition_on_ties(method, values, d):
    rng = np.random.default_rng(values + d)
    for n in (2, 3, 17, 120):
        x = rng.integers(values, size=(n, d)).astype(float)
        # The largest and the smallest of exact distances are exact; means and centroids round.
        check_by_definition(x, linkage(x, method), method, exact=method in ("single", "complete"))


def equally_far(kind):
    rng = np.random.default_rng(0)
    if kind == "corners":
        return np.eye(300)
    if kind == "turned corners":  # equal but for the rounding of each distance
        return np.linalg.qr(rng.normal(size=(300, 300)))[0]
    return np.eye(100)[rng.integers(100, size=300)]


@pytest.mark.parametrize("kind", ["corners", "turned corners", "copies of corners"])
def test_equal_distances_take_few_scans(kind):
    """Where all have the same nearest and lose it in every round, a scan of all each time would be n^2 / 2 of them."""
    x, told = equally_far(kind), []
    z = linkage(x, progress=lambda merges, rounds, distances: told.append(distances))
    check_by_definition(x, z, "ward", exact=False)
    assert told[-1] <= 5 * len(x) ** 2  # 2 for each merge, and some where rounding decides


def test_ward_by_definition_where_float32_cannot_tell():
    """Enough clusters for the float32 screen, and distances that are equal, or differ where float32 sees nothing."""
    integers = np.random.default_rng(0).integers(3, size=(500, 4)).astype(float)
    check_by_definition(integers, linkage(integers), "ward", exact=False)
    close = random(5, 20)[np.arange(400) % 5] + 1e-9 * random(400, 20, seed=1)
    check_by_definition(close, linkage(close), "ward", exact=False)


@pytest.mark.parametrize("method", METHODS)
def test_by_definition_on_duplicates_and_rounded_data(method):
    x = np.round(np.repeat(random(60, 3, 2), 2, axis=0), 1)
    z = linkage(x, method)
    check_by_definition(x, z, method, exact=False)
    assert (z[:60, 2] == 0).all()


def grid(side):
    rows = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2).astype(float)
    return np.random.default_rng(0).permutation(rows)


def test_single_by_definition_on_a_grid():
    """Enough rows for the rounds of the spanning tree, all of whose edges are of one length."""
    x = grid(30)
    check_by_definition(x, linkage(x, "single"), "single", exact=True)


@pytest.mark.slow
def test_single_on_a_grid_takes_little_longer_than_on_points():
    """Each row that joins meets all that are left: in a line in memory, where a set of them took 46 times as long."""
    x, times = grid(170), []
    for rows in (random(len(x), 2), x):
        began = time.monotonic()
        linkage(rows, "single")
        times.append(time.monotonic() - began)
    assert times[1] < 20 * times[0]  # 5 to 6 without other programs


@pytest.mark.parametrize("copies", [3, 5, 7, 37])
@pytest.mark.parametrize("method", METHODS)
def test_copies_merge_at_height_zero_however_many(method, copies):
    """Also where the mean of equal numbers would not be that number, as (4 * x + x) / 5."""
    x = np.repeat(random(30, 16), copies, axis=0)
    z, scipys = linkage(x, method), hierarchy.linkage(x, method)
    assert (z[: 30 * (copies - 1), 2] == 0).all() and z[30 * (copies - 1), 2] > 1
    np.testing.assert_allclose(z[:, 2], scipys[:, 2], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_copies_cost_what_single_rows_do(method):
    """Blank parts of images have one feature vector, however many they are: in rounds they would take one a merge."""
    x = random(40, 16)
    x[0, 3], x[1] = 0.0, x[0]
    x[2:9, 5] = 1e-200  # its square underflows, as those of small probabilities do, but no two rows are that near
    x = np.repeat(x, 30, axis=0)
    x[1:60:2, 3] *= -1.0  # -0 and 0 are one value
    x, told = x[np.random.default_rng(3).permutation(1200)], []
    z = linkage(x, method, progress=lambda merges, rounds, distances: told.append((rounds, distances)))
    check_by_definition(x, z, method, exact=False)
    rounds, distances = told[-1]
    assert rounds < 39 and distances < 16 * 39**2  # as some scans of 39 rows for each merge of theirs, at most


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("apart", [2.0**-480, 2.0**-480 + 2.0**-532])
def test_rows_are_unlike_by_the_smallest_numbers_whose_squares_hold(method, apart):
    """Their distance is not 0, though all smaller numbers are taken for 0 where equal rows are looked for."""
    x = np.array([[np.nextafter(2.0**-480, 0)], [apart], [np.nextafter(2.0**-480, 0)], [apart], [1.0]])
    z = linkage(x, method)
    assert z[:2, :2].tolist() == [[0, 2], [1, 3]] and (z[:2, 2] == 0).all() and z[2, 2] > 0


@pytest.mark.parametrize("method", METHODS)
def test_unlike_rows_whose_distance_underflows_merge_in_order(method):
    """At distance 0 as computed, as equal rows are: the smaller row comes first, not the equal one."""
    x = np.array([[0.0], [1e-200], [0.0], [1e-200], [1.0], [1.0]])
    check_by_definition(x, linkage(x, method), method, exact=True)
    assert linkage(x, method)[:4, :2].tolist() == [[0, 1], [2, 6], [3, 7], [4, 5]]


def test_centring_loses_no_digit():
    """Values of very different sizes in a feature: SciPy's first height is 1e-17 as well."""
    x = np.array([[1.0], [0.9999], [1e-9], [1e-9 + 1e-17]])
    np.testing.assert_allclose(linkage(x)[:, 2], hierarchy.linkage(x, "ward")[:, 2], rtol=1e-6)


def test_a_field_of_packed_records():
    records = np.zeros(50, dtype=[("flag", "u1"), ("x", "f8", 3)])
    records["x"] = random(50, 3)
    assert records["x"].strides[0] == 25
    assert np.array_equal(linkage(records["x"]), linkage(random(50, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_all_points_equal_merge_in_order(method):
    z = linkage(np.full((40, 3), 0.1), method)
    assert (z[:, 2] == 0).all()
    assert z[:, :2].tolist() == [[0, 1]] + [[i + 1, 39 + i] for i in range(1, 39)]


@pytest.mark.parametrize("method", METHODS)
def test_one_merge_per_round_ends_soon(method):
    x = np.cumsum(np.arange(1.0, 3001.0) ** 1.37)[:, None]  # every gap is wider than the one before
    began = time.monotonic()
    z = linkage(x, method)
    assert time.monotonic() - began < 20  # rounds without a fallback would take minutes
    assert_same_tree(z, hierarchy.linkage(x, method))


@pytest.mark.parametrize("method", METHODS)
def test_a_permutation_changes_nothing_but_ids(method):
    x = random(400, 9, 6)
    order = np.random.default_rng(1).permutation(400)
    z, shuffled = linkage(x, method), linkage(x[order], method)
    np.testing.assert_allclose(z[:, 2], shuffled[:, 2], rtol=1e-12)  # centroids are summed in another order
    assert np.array_equal(z[:, 3], shuffled[:, 3])
    for k in (2, 7, 60):
        one = hierarchy.fcluster(z, k, "maxclust")[order]
        other = hierarchy.fcluster(shuffled, k, "maxclust")
        assert len(set(zip(one, other))) == len(set(one)) == len(set(other)) == k


def test_same_bits_on_every_instruction_set_and_thread_count():
    code = (
        "import hashlib, numpy as np\n"
        "from clustercl import linkage\n"
        "x = np.random.default_rng(5).normal(size=(900, 37))\n"
        "out = [linkage(x, m).tobytes() for m in ('ward', 'average', 'complete', 'single')]\n"
        "out += [linkage(x, m, dtype='float32').tobytes() for m in ('average', 'complete')]\n"
        "print(hashlib.sha256(b''.join(out)).hexdigest())\n"
    )
    digests = set()
    for settings in (
        {"CLUSTERCL_CPU": "portable", "OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2"},
    ):  # ctest tries all
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1


def test_any_kind_of_matrix():
    x = random(30, 4)
    z = linkage(x)
    assert np.array_equal(z, linkage(torch.from_numpy(x).requires_grad_()))
    assert np.array_equal(z, linkage(x.tolist()))
    assert np.array_equal(z, linkage(np.asfortranarray(x)))
    wide = np.repeat(x, 2, axis=1)
    assert np.array_equal(z, linkage(wide[:, ::2]))
    half = torch.from_numpy(x).bfloat16()
    assert np.array_equal(linkage(half), linkage(half.double().numpy()))
    negative = torch.complex(half.double(), half.double()).conj().imag  # a view with torch's negative bit
    assert np.array_equal(linkage(negative), linkage(-half.double().numpy()))
    integers = (x * 5).astype(np.int16)
    assert np.array_equal(linkage(integers), linkage(integers.astype(float)))


@pytest.mark.parametrize("method", METHODS)
def test_progress_tells_the_merges_and_its_errors_stop(method):
    seen = []
    linkage(random(2500, 64), method, progress=lambda *done: seen.append(done))
    assert seen[-1][0] == 2499 and seen == sorted(seen)
    assert seen[-1][1] == 0 if method == "single" else 10 < seen[-1][1] < 250  # a tenth of the clusters at least each

    n, least = 2500, 0.4 if method == "ward" else 0.49  # the first pass, less its diagonal blocks
    assert least * n * n < seen[-1][2] < 4 * n * n

    def stop(merges, rounds, distances):
        raise RuntimeError(f"enough after {merges}")

    with pytest.raises(RuntimeError, match="enough after"):
        linkage(random(2500, 64), method, progress=stop)
    with pytest.raises(TypeError, match="linkage: progress must be None or called with three numbers, got True"):
        linkage(random(2500, 64), method, progress=True)  # also where SciPy has optimal_ordering


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "complete"])
def test_progress_never_pauses_for_a_second(method):
    """Ctrl-C is heard when progress is told; thousands of merges of a round walk over 1.6 GB here."""
    told = [time.monotonic()]
    linkage(random(20_000, 8), method, progress=lambda *done: told.append(time.monotonic()))
    assert np.diff(told).max() < 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "complete"])
def test_progress_never_pauses_in_the_first_scan_of_rows_in_order(method):
    """Each row is nearer to all later ones than the rows before it: every distance enters a list."""
    told = [time.monotonic()]

    def until_the_first_round(merges, rounds, distances):
        told.append(time.monotonic())
        if rounds > 0:
            raise StopIteration

    with pytest.raises(StopIteration):
        linkage(np.arange(16_000.0)[:, None], method, progress=until_the_first_round)
    assert np.diff(told).max() < 1


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_stops_within_a_second(method):
    code = (
        "import signal, numpy as np\n"
        "from clustercl import linkage\n"
        # A shell starts background jobs with SIGINT ignored, and so would this be under `make test &`.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "x = np.random.default_rng(0).normal(size=(20000, 256)).astype(np.float32)\n"
        "def told(*done): print('running', flush=True)\n"
        "try:\n"
        f"    linkage(x, {method!r}, progress=told)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        rest = process.stdout.read()
        assert "stopped" in rest
        assert time.monotonic() - sent < 3  # one second to stop, the rest for the interpreter to end on a busy machine
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("threads, progress", [("1", "None"), ("2", "lambda *done: time.sleep(0.05)")])
def test_a_program_ends_while_a_daemon_thread_clusters(threads, progress):
    code = (
        "import threading, time, numpy as np\n"
        "from clustercl import linkage\n"
        "x = np.random.default_rng(0).normal(size=(20000, 256)).astype(np.float32)\n"
        f"threading.Thread(target=linkage, args=(x, 'ward', 'euclidean', {progress}), daemon=True).start()\n"
        "time.sleep(0.3)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and run.stderr == ""


@pytest.mark.slow
def test_a_program_ends_while_daemon_threads_take_their_trees():
    """They want the GIL back when they are done, as the program ends."""
    code = """
import threading, time, numpy as np
from clustercl import linkage

def work():
    while True:
        linkage(np.eye(50), "ward")
        linkage(np.arange(28.0), "average", "precomputed")

for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0 and run.stderr == ""


@pytest.mark.parametrize(
    "x, arguments, text",
    [
        (np.zeros((0, 3)), {}, r"X must have at least 2 rows, got shape \(0, 3\)"),
        (np.zeros((1, 3)), {}, r"X must have at least 2 rows, got shape \(1, 3\)"),
        (np.zeros(5), {}, r"X must be \(n, d\), got shape \(5,\); distances, .* go with metric='precomputed'"),
        ([0.0, 1.0], {}, r"X must be \(n, d\), got shape \(2,\)"),
        (np.zeros((5, 0)), {}, r"X must have at least one feature, got shape \(5, 0\)"),
        ([["a"], ["b"]], {}, "X must hold real numbers, got dtype <U1"),
        (None, {}, r"X must be a matrix \(n, d\), got NoneType"),
        (sparse.csr_array(np.eye(3)), {}, r"X must be a matrix \(n, d\), got csr_array"),
        (np.eye(3).astype(object), {}, "X must hold real numbers, got dtype object"),
        ([[0.0, 1.0], [np.nan, 0.0]], {}, r"X must be finite, got nan at \(1, 0\)"),
        (torch.tensor([[0.0], [torch.inf]]), {}, r"X must be finite, got inf at \(1, 0\)"),
        (np.eye(3), {"method": "centroid"}, "method must be one of ward, average, complete, single, got 'centroid'"),
        (np.eye(3), {"method": None}, "method must be one of .* got None"),
        (np.eye(3), {"method": "average", "dtype": "float16"}, "dtype must be one of float64, float32, got 'float16'"),
        (np.eye(3), {"metric": "manhattan", "method": "single"}, "metric must be one of .* got 'manhattan'"),
        (np.eye(3), {"metric": "cosine"}, "method 'ward' works on euclidean distances alone, got metric 'cosine'"),
        ([[1.0], [0.0]], {"metric": "cosine", "method": "single"}, "X row 1 is all zeros"),
    ],
)
def test_bad_input_is_named(x, arguments, text):
    with pytest.raises(ValueError, match=f"linkage: {text}"):
        linkage(x, **arguments)


EYE = torch.eye(4)


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (EYE.to_sparse(), "torch.sparse_coo"),
        (EYE.to_sparse_csr(), "torch.sparse_csr"),
        (torch.nested.nested_tensor([EYE]), "nested"),
        (torch.nested.nested_tensor([EYE], layout=torch.jagged), "nested"),
    ],
)
@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (linkage, "linkage: X"),
        (lambda x: linkage(x, "single", "precomputed"), "linkage: X"),
        (lambda x: gpu_matrix(x, "X", "linkage"), "linkage: X"),  # of rows that stay on their GPU
        (lambda x: pairwise_distances(EYE, x), "pairwise_distances: Y"),
        (lambda x: assign_to_clusters(EYE, x, range(4)), "assign_to_clusters: X"),
        (lambda x: AgglomerativeClustering(2).fit(x), "AgglomerativeClustering: X"),
        (pseudo_class_nt_xent, "pseudo_class_nt_xent: embeddings"),
    ],
)
def test_a_tensor_that_is_not_dense_is_a_type_error_everywhere(call, argument, x, kind):
    with pytest.raises(TypeError, match=f"^{argument} must be dense, got a {kind} tensor$"):
        call(x)


@pytest.mark.parametrize("method", ["average", "complete", "single"])
def test_given_distances(method):
    x = random(300, 5)
    condensed = pdist(x)
    wanted = hierarchy.linkage(condensed, method)
    for given in (condensed, squareform(condensed), torch.from_numpy(squareform(condensed)), squareform(condensed).T):
        before = np.asarray(given).copy()
        assert_same_tree(linkage(given, method, metric="precomputed"), wanted)
        assert np.array_equal(np.asarray(given), before)
    ties = pdist(np.random.default_rng(0).integers(4, size=(60, 2)).astype(float))
    z = linkage(ties, method, metric="precomputed")
    assert np.array_equal(z, linkage(squareform(ties), method, metric="precomputed"))
    assert linkage([7.0], method, metric="precomputed").tolist() == [[0, 1, 7, 2]]
    huge = linkage(condensed * 1e300, method, metric="precomputed")
    np.testing.assert_allclose(huge[:, 2] / 1e300, wanted[:, 2], rtol=1e-12)


SQUARE = squareform(pdist(np.arange(8.0).reshape(4, 2)))


@pytest.mark.parametrize(
    "given, text",
    [
        (np.ones(4), r"X must hold distances, \(n, n\) or .* got shape \(4,\)"),
        (np.ones((3, 2)), r"X must hold distances, .* got shape \(3, 2\)"),
        (np.ones((1, 1)), r"X must hold distances, .* got shape \(1, 1\)"),
        (np.zeros((2, 2, 2)), r"X must hold distances, .* got shape \(2, 2, 2\)"),
        (np.zeros(0), r"X must hold distances, .* got shape \(0,\)"),
        (np.array(["a"]), "X must hold real numbers, got dtype <U1"),
        (-SQUARE, r"X must hold distances of at least 0, got -2.8.* at \(0, 1\)"),
        (SQUARE * np.nan, "X must be finite, got nan"),
        (SQUARE + np.eye(4), r"X must have zeros on its diagonal, got 1.0 at \(0, 0\)"),
        (SQUARE + np.triu(np.ones((4, 4)), 1), r"X must be symmetric, got 3.8.* at \(0, 1\) and 2.8.* at \(1, 0\)"),
    ],
)
def test_distances_that_are_none_are_named(given, text):
    with pytest.raises(ValueError, match=f"linkage: {text}"):
        linkage(given, "average", metric="precomputed")


def test_ward_refuses_distances():
    with pytest.raises(ValueError, match="'ward' needs the rows, not their distances"):
        linkage(SQUARE, metric="precomputed")


def test_a_matrix_that_cannot_fit_is_refused_before_it_is_begun(monkeypatch):
    monkeypatch.setattr("clustercl.ops.linkage.available_bytes", lambda: 1_000_000)
    x = np.zeros((600, 2), np.float32)
    with pytest.raises(MemoryError, match=r"average of n = 600 wants 1466400 bytes .* 1000000 are available: .*'ward'"):
        linkage(x, "average")
    assert linkage(x[:400], "average").shape == (399, 4)
    assert linkage(x, "average", dtype="float32").shape == (599, 4)
    assert linkage(x, "ward").shape == linkage(x, "single").shape == (599, 4)


def test_available_memory_is_the_smallest_of_machine_and_container(tmp_path):
    assert available_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert available_bytes(tmp_path) == 4000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.stat").write_text("file 7777\nanon 1000\n")
    (group / "memory.max").write_text("max")
    assert available_bytes(tmp_path) == 4000 * 1024
    (group / "memory.max").write_text("3000")
    assert available_bytes(tmp_path) == 2000
    (group / "memory.max").write_text("500")
    assert available_bytes(tmp_path) == 0


def test_out_of_memory_is_said_in_bytes():
    code = (
        "import resource, numpy as np\n"
        "from clustercl import linkage\n"
        "linkage(np.eye(3))\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))\n"
        "try:\n"
        "    linkage(np.arange(100000.0).reshape(50000, 2), 'average')\n"
        "except MemoryError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "average of n = 50000 wants 10009400000 bytes; ward and single need no matrix" in run.stdout


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n, d", [(2, 1), (50, 1), (700, 128), (5000, 33)])
def test_cuda_grows_the_tree_of_the_cpu(method, n, d):
    x = torch.from_numpy(random(n, d, n, np.float32))
    wanted = linkage(x, method)
    for index in range(torch.cuda.device_count()):
        assert_same_tree(linkage(x.to(f"cuda:{index}"), method), wanted)
        assert_same_tree(linkage(x.to(f"cuda:{index}", torch.float64).T.contiguous().T, method), wanted)


@pytest.mark.cuda
@needs_cuda
def test_cuda_takes_the_metrics_and_dtypes_and_refuses_what_the_cpu_refuses():
    x = torch.from_numpy(random(600, 9)).cuda()
    for method in ("average", "complete"):
        z = linkage(x, method, dtype="float32")
        np.testing.assert_allclose(z[:, 2], linkage(x.cpu(), method, dtype="float32")[:, 2], rtol=1e-6)
    for method in ("average", "complete", "single"):
        assert_same_tree(linkage(x, method, "cosine"), linkage(x.cpu(), method, "cosine"))
    for bad in (x[:1], x[0], x[:, :0], x * float("nan"), x + 1j):
        with pytest.raises(ValueError) as of_gpu:
            linkage(bad)
        with pytest.raises(ValueError) as of_cpu:
            linkage(bad.cpu())
        assert str(of_gpu.value) == str(of_cpu.value)
    x[3] = 0
    with pytest.raises(ValueError, match="row 3 is all zeros"):
        linkage(x, "average", "cosine")
    with pytest.raises(MemoryError, match=r"average of n = 2000000 wants \d+ bytes on cuda"):
        linkage(x[:1].expand(2_000_000, 9), "average")


@pytest.mark.cuda
@needs_cuda
def test_cuda_tells_its_progress_and_stops():
    x = torch.from_numpy(random(3000, 16)).cuda()
    told = []
    linkage(x, progress=lambda *done: told.append(done))
    assert told[-1][0] == 2999 and told[-1][1] > 0

    def stop(*done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        linkage(x, progress=stop)
