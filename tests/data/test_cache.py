"""The cache of prepared images: the same arrays, made once, safe against kills, other processes and changed files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clustercl.data import cache as module
from clustercl.data.cache import Cache, prepare_cached
from clustercl.data.cases import Case, find_cases
from clustercl.data.prepare import prepare_case
from clustercl.data.settings import DataSettings
from clustercl.data.task import get_task
from clustercl.errors import DataError, RunError

SKIN, HEART = get_task("skin"), get_task("heart")
SETTINGS = {"skin": DataSettings(size=32), "heart": DataSettings(spacing=(2, 2, 2))}


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def no_reading(monkeypatch):
    """Calling it makes every further preparation fail."""

    def refuse(*given):
        raise AssertionError("prepared again")

    def forbid():
        monkeypatch.setattr(module, "prepare_image", refuse)
        monkeypatch.setattr(module, "prepare_label", refuse)

    return forbid


def entries(cache: Cache, kind: str) -> list[Path]:
    return sorted(path for path in (cache.folder / kind).rglob("*") if path.is_file())


@pytest.mark.parametrize("task", [SKIN, HEART], ids=["skin", "heart"])
def test_it_holds_what_prepare_makes_and_makes_it_once(task, cache, skin_folder, heart_folder, no_reading):
    folder = skin_folder if task is SKIN else heart_folder
    cases, settings = find_cases(task, folder), SETTINGS[task.name]
    for case in cases:
        cache.prepare(case, task, settings)
    made = {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*")}
    wanted = [prepare_case(case, task, settings) for case in cases]
    no_reading()
    for case, right in zip(cases, wanted, strict=True):
        found = Cache(cache.folder).prepare(case, task, settings)
        assert found.case == case and torch.equal(found.image, right.image) and found.image.dtype == right.image.dtype
        assert (found.label is None) == (right.label is None)
        assert found.label is None or torch.equal(found.label, right.label)
        assert found.geometry.shape == right.geometry.shape and found.geometry.spacing == right.geometry.spacing
        assert (found.geometry.affine is None) == (task is SKIN)
        assert task is SKIN or np.array_equal(found.geometry.affine, right.geometry.affine)
        assert cache.prepare(case, task, settings, with_label=False).label is None
    assert {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*")} == made


def test_entries_follow_content_and_settings(cache, heart_folder, tmp_path, no_reading):
    case = find_cases(HEART, heart_folder)[1]
    assert case.label is not None
    settings = SETTINGS["heart"]
    cache.prepare(case, HEART, settings)
    for other in (DataSettings(spacing=(3, 3, 3)), DataSettings(spacing=(2, 2, 2), intensity="zscore")):
        cache.prepare(case, HEART, other)
    named = get_task("heart", "A=500,B=600,C=420,D=550,E=205,F=820,G=850,H=421")
    cache.prepare(case, named, settings)
    # Three kinds of image, each with its label map, and one of them with classes of other names.
    assert (len(entries(cache, "image")), len(entries(cache, "label"))) == (3, 4)
    before = cache.prepare(case, HEART, settings)
    no_reading()
    files = shutil.copy(case.image, tmp_path / "m.nii.gz"), shutil.copy(case.label, tmp_path / "l.nii.gz")
    found = cache.prepare(Case("m", *files), HEART, settings)
    assert found.image_entry == before.image_entry and found.label_entry == before.label_entry
    cache.prepare(case, HEART, DataSettings(spacing=(2, 2, 2), patch=(8, 8, 8)))  # no part of what is stored


def test_a_changed_file_is_prepared_again(cache, skin_folder):
    first, second = find_cases(SKIN, skin_folder)[:2]
    before = cache.prepare(first, SKIN, SETTINGS["skin"], with_label=False).image.clone()
    shutil.copy(second.image, first.image)
    after = cache.prepare(first, SKIN, SETTINGS["skin"], with_label=False).image
    assert not torch.equal(before, after)


def test_what_a_kill_or_a_full_disk_left_is_made_again(cache, skin_folder):
    case = find_cases(SKIN, skin_folder)[0]
    right = cache.prepare(case, SKIN, SETTINGS["skin"], with_label=False).image.clone()
    (path,), (digest,) = entries(cache, "image"), entries(cache, "digest")
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[:-1], b"x" * len(whole)):
        path.write_bytes(broken)
        digest.write_bytes(broken[:7])
        assert torch.equal(cache.prepare(case, SKIN, SETTINGS["skin"], with_label=False).image, right)
        assert path.read_bytes() == whole


def test_nothing_is_written_where_a_case_is_wrong(cache, skin_folder):
    case = find_cases(SKIN, skin_folder)[0]
    case.label.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"_segmentation.png: this is no image"):
        cache.prepare(case, SKIN, SETTINGS["skin"])
    case.image.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"ISIC_.*jpg: this is no image"):
        cache.prepare(case, SKIN, SETTINGS["skin"])
    assert len(entries(cache, "image")) == 1 and not entries(cache, "label")
    assert not list(cache.folder.rglob(".*"))


def test_looking_never_changes_an_entry(cache, skin_folder):
    found = cache.prepare(find_cases(SKIN, skin_folder)[0], SKIN, SETTINGS["skin"])
    right = found.image.clone()
    found.image.zero_()
    assert torch.equal(found.image, right)


def test_an_entry_that_is_gone_says_what_to_do(cache, skin_folder):
    found = cache.prepare(find_cases(SKIN, skin_folder)[0], SKIN, SETTINGS["skin"])
    count, size = cache.clean()
    assert count == 2 and size > 2 * module.HEADER
    assert not cache.folder.exists() and cache.clean() == (0, 0)
    with pytest.raises(RunError, match=r"this part of the cache is gone or broken .*: start the command again"):
        _ = found.image


def test_cleaning_leaves_what_is_not_the_caches(cache, skin_folder):
    cache.prepare(find_cases(SKIN, skin_folder)[0], SKIN, SETTINGS["skin"])
    (cache.folder / "thesis.tex").write_text("mine")
    cache.clean()
    assert [path.name for path in cache.folder.iterdir()] == ["thesis.tex"]


def test_what_cannot_be_removed_is_told(cache, skin_folder):
    """Not counted as removed, as it was before."""
    cache.prepare(find_cases(SKIN, skin_folder)[0], SKIN, SETTINGS["skin"])
    entry = entries(cache, "image")[0]
    (entry.parent / "a folder").mkdir()
    with pytest.raises(RunError, match=r"image/.*/a folder: cannot be removed from the cache \(Is a directory\)"):
        cache.clean()


def test_two_may_clean_at_once(cache, skin_folder, monkeypatch):
    cache.prepare(find_cases(SKIN, skin_folder)[0], SKIN, SETTINGS["skin"])

    def after_the_other(parts, *words, **options):
        assert Cache(cache.folder).clean()[0] == 2
        return parts

    real = module.track
    monkeypatch.setattr(module, "track", lambda *words, **options: monkeypatch.undo() or after_the_other(*words))
    assert cache.clean() == (0, 0) and module.track is real


def test_cleaning_shows_its_progress(cache, skin_folder, monkeypatch, capsys):
    cache.prepare(find_cases(SKIN, skin_folder)[0], SKIN, SETTINGS["skin"])
    monkeypatch.setattr("clustercl.progress.SECONDS_TO_FIRST_LINE", 0.0)
    cache.clean()
    assert "removing: 1/" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(skin_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/cache: the cache .* cannot be written .* variable CLUSTERCL_CACHE"):
        Cache(tmp_path / "file/cache").prepare(find_cases(SKIN, skin_folder)[0], SKIN, SETTINGS["skin"])


def test_two_processes_that_start_at_once_make_the_same(tmp_path, skin_folder):
    program = (
        "import sys; from pathlib import Path; from clustercl.data.cache import prepare_cached;"
        "from clustercl.data.cases import find_cases; from clustercl.data.settings import DataSettings;"
        "from clustercl.data.task import get_task; task = get_task('skin');"
        "cases = find_cases(task, Path(sys.argv[1]));"
        "print(sum(int(one.image.sum()) for one in prepare_cached(cases, task, DataSettings(size=64), quiet=True)))"
    )
    environment = os.environ | {"CLUSTERCL_CACHE": str(tmp_path / "shared")}
    both = [subprocess.Popen([sys.executable, "-c", program, skin_folder], stdout=subprocess.PIPE, env=environment)
            for _ in range(2)]  # fmt: skip
    sums = {process.communicate(timeout=120)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0] and len(sums) == 1
    assert not list((tmp_path / "shared").rglob(".*"))


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("CLUSTERCL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.cache_folder() == tmp_path / "clustercl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module.cache_folder() == tmp_path / ".cache/clustercl"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(module.Path, "home", homeless)
    with pytest.raises(RunError, match=r"no home folder for the cache .* variable CLUSTERCL_CACHE"):
        module.cache_folder()


def test_many_cases_keep_their_order_and_the_first_error_wins(heart_folder):
    cases = find_cases(HEART, heart_folder)
    settings = DataSettings(spacing=(2, 2, 2))
    assert [item.case for item in prepare_cached(cases, HEART, settings)] == cases
    for name in ("1002", "1003"):
        (heart_folder / "ct_train" / f"ct_train_{name}_image.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"ct_train_1002_image.nii.gz"):
        prepare_cached(cases, HEART, settings)
    with pytest.raises(DataError, match=r"none.nii.gz: no such file"):
        prepare_cached([Case("n", Path("none.nii.gz"))], HEART, settings)
