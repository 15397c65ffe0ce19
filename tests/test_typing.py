"""What a type checker, and so an editor, sees of `clustercl` in a program that imports it."""

import os
import re
import subprocess
import sys

import pytest

import clustercl

PROGRAM = """
import numpy as np
import torch
from clustercl import (
    AgglomerativeClustering, PseudoClassNTXentLoss, __version__, assign_to_clusters, choose_cut, cut_tree, linkage,
    pairwise_distances, pseudo_class_nt_xent,
)

x, t = np.zeros((10, 3)), torch.zeros(10, 3)
tree = linkage(t, method="ward", progress=lambda merges, rounds, distances: None)
labels = cut_tree(tree, n_clusters="auto")
model = AgglomerativeClustering("auto", linkage="average")
loss = PseudoClassNTXentLoss(temperature=0.1)
reveal_type(__version__)  # str
reveal_type(pairwise_distances(x, t))  # numpy.ndarray
reveal_type(pairwise_distances([[0.0, 1.0], [2.0, 3.0]]))  # numpy.ndarray
reveal_type(pairwise_distances(t, x, metric="cosine"))  # torch._tensor.Tensor
reveal_type(tree)  # numpy.ndarray
reveal_type(labels)  # numpy.ndarray
reveal_type(choose_cut(tree, x))  # clustercl.cut.Cut
reveal_type(assign_to_clusters(x, t, labels))  # numpy.ndarray
reveal_type(model.fit(x))  # clustercl.estimator.AgglomerativeClustering
reveal_type(model.fit_predict(t))  # numpy.ndarray
reveal_type(model.n_clusters_)  # int
reveal_type(loss(t, t, torch.as_tensor(labels)))  # torch._tensor.Tensor
reveal_type(pseudo_class_nt_xent(t, views=2))  # torch._tensor.Tensor

from clustercl import misspelt  # error: attr-defined
linkage(t, metod="ward")  # error: call-arg
linkage(t, method=3)  # error: arg-type
cut_tree(tree, n_clusters=1.5)  # error: arg-type
PseudoClassNTXentLoss(temprature=1.0)  # error: call-arg
loss(t, t, t, t)  # error: call-arg
AgglomerativeClustering(linkage=3)  # error: arg-type
"""


def test_the_names_told_to_type_checkers_are_those_that_load():
    assert clustercl.__all__ == sorted([*clustercl._HOME, "__version__"])
    for name in clustercl.__all__:
        assert getattr(clustercl, name) is not None


@pytest.mark.slow
def test_an_importer_sees_types_and_is_told_mistakes(root, tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache", "program.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(root)},
        timeout=600,
    )
    told = re.findall(
        r'program\.py:(\d+): (?:note: Revealed type is "([\w.]+)|error: .*\[([\w-]+)\]$)', done.stdout, re.M
    )
    told = [(int(line), revealed or f"error: {error}") for line, revealed, error in told]
    wanted = [(number, line.split("  # ")[1]) for number, line in enumerate(PROGRAM.splitlines(), 1) if "  # " in line]
    assert sorted(told) == wanted, done.stdout + done.stderr
