"""Fixtures that every part of the suite shares."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Prepared images of the tests stay among their temporary files, for commands that they start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUSTERCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def clustercl(tmp_path):
    """Run the `clustercl` command in a process of its own: clustercl("info", "--json") -> CompletedProcess."""

    def call(*arguments, timeout: float = 600, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "clustercl", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=options.pop("cwd", tmp_path),
            **options,
        )

    return call
