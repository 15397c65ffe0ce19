"""A wheel built from the sources runs where there is torch and numpy and nothing else of ours."""

import importlib.metadata as metadata
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LEFT_BEHIND = shutil.ignore_patterns(".venv", "build", "dist", "runs", ".git", "__pycache__", "*.egg-info", "*.so")
RUN_THE_LOSS = """
import importlib.util, sys, torch
for name in ("scipy", "sklearn", "monai", "click", "nibabel"):
    assert importlib.util.find_spec(name) is None, name
from clustercl import pseudo_class_nt_xent, linkage
import clustercl
from clustercl.ops._extension import available, MISSING
assert "site-packages" in clustercl.__file__ and available(), (clustercl.__file__, MISSING)
z = torch.randn(64, 16, requires_grad=True)
loss = pseudo_class_nt_xent(z, torch.arange(32) % 4)
loss.backward()
assert loss.isfinite() and z.grad.abs().sum() > 0
assert linkage(z.detach()).shape == (63, 4)
print("loss", float(loss))
"""


def needed(name: str, found: set[str]) -> set[str]:
    """The installed distributions that `name` needs, itself included."""
    if name in found:
        return found
    found.add(name)
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed(requirement.name, found)
    return found


@pytest.fixture(scope="module")
def source_copy(tmp_path_factory, root) -> Path:
    """The sources alone: no build folder, no compiled extension, no version control."""
    copy = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(root, copy, ignore=LEFT_BEHIND)
    return copy


def pip(*arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, **options)


@pytest.mark.slow
def test_wheel_runs_with_torch_and_numpy_alone(source_copy):
    dist = source_copy.parent / "dist"
    built = pip("wheel", "--no-build-isolation", "--no-deps", "-w", dist, source_copy)
    assert built.returncode == 0, built.stderr[-3000:]
    (wheel,) = dist.glob("clustercl-*.whl")

    # A fresh environment; torch and numpy (and what they need) are linked in rather than downloaded again.
    home = source_copy.parent / "env"
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    for name in needed("torch", set()) | needed("numpy", set()):
        roots = {file.parts[0] for file in metadata.files(name) if file.parts[0] not in ("..", "__pycache__")}
        for entry in roots:
            source = Path(metadata.distribution(name).locate_file(entry))
            if source.exists() and not (site / entry).exists():
                (site / entry).symlink_to(source)
    installed = pip("install", "--no-deps", "--no-compile", "--target", site, wheel)
    assert installed.returncode == 0, installed.stderr[-3000:]

    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    for forced in ({}, {"CLUSTERCL_CPU": "portable"}):
        ran = subprocess.run(
            [home / "bin/python", "-c", RUN_THE_LOSS],
            capture_output=True,
            text=True,
            cwd=home,
            env=environment | forced,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("loss ")
    assert (site / "clustercl/py.typed").exists(), "type checkers ignore annotations without it"
    (extension,) = site.glob("clustercl/_C*.so")
    header = subprocess.run(["readelf", "-d", extension], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in header and "PATH)" not in header, "a RUNPATH names a folder of the machine that built the wheel"


def test_build_without_torch_says_what_to_do(source_copy, tmp_path):
    shutil.rmtree(source_copy / "build", ignore_errors=True)
    # An isolated build environment has no torch; here one that cannot be imported stands before the real one. The
    # index is closed: a build that does not stop at once asks it for the dependencies, torch with CUDA among them.
    (tmp_path / "torch.py").write_text("raise ImportError('isolated')")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-build-isolation",
            "--no-index",
            "--target",
            tmp_path / "to",
            ".",
        ],
        capture_output=True,
        text=True,
        cwd=source_copy,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=120,
    )
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    requires = tomllib.loads((source_copy / "pyproject.toml").read_text())["build-system"]["requires"]
    assert [f"'{wanted}'" in printed for wanted in requires if wanted.startswith("setuptools")] == [True]
    assert "pip install --no-build-isolation ." in printed and "Could not find a version" not in printed
    assert not (source_copy / "build").exists(), "it must stop before it compiles anything"
