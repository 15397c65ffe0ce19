"""Evaluation happens on the grid of the files, and its files say what it found."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from clustercl.data.cases import Case
from clustercl.data.settings import DataSettings
from clustercl.data.task import get_task
from clustercl.errors import RunError
from clustercl.evaluation.evaluate import evaluate_cases
from clustercl.files import atomic_folder, finish_folder
from clustercl.owner import SILENT_SECONDS, owner

OPTIONS = SimpleNamespace(overlap=0.25, tolerance_mm=1.0)
LPS = np.array([[-2.0, 0, 0, 40], [0, 0, 2.0, -7], [0, -2.0, 0, 30], [0, 0, 0, 1]])  # and two axes swapped


@pytest.fixture
def hearts(made, tmp_path):
    """hearts(number, affine): cases whose files have one name in a folder each."""

    def make(count, affine=None, truth=None):
        task, cases = get_task("heart"), []
        for number in range(count):
            folder = tmp_path / f"patient{number}"
            image = made.save_heart(folder / "image.nii.gz", made.heart_index(), affine)
            stored = task.to_values(made.heart_index() if truth is None else truth)
            label = folder / "label.nii.gz"
            nibabel.save(nibabel.Nifti1Image(stored, nibabel.load(image).affine), label)
            cases.append(Case(f"p{number}", image, label))
        return cases

    return make


def test_right_in_every_voxel_of_a_turned_volume(made, hearts, tmp_path):
    cases = hearts(1, LPS)
    got = evaluate_cases(made.Hearts(), cases, get_task("heart"), made.HEART, "cpu", OPTIONS, tmp_path / "out",
                         save_masks=True, quiet=True)  # fmt: skip
    assert got["cases"] == 1 and got["unit"] == "mm" and got["tolerance"] == 1.0
    assert got["dice"]["per_class"]["RV"] == got["dice"]["per_class"]["AA"] == got["dice"]["mean"] == 1.0
    assert got["hd95"]["mean"] == 0.0
    assert got["dice"]["per_class"]["LV"] is None
    assert "LV, LA, RA, MYO, PA" in got["note"]
    assert "thresholded_jaccard" not in got
    mask, label = (nibabel.load(path) for path in (tmp_path / "out/masks/p0_segmentation.nii.gz", cases[0].label))
    np.testing.assert_array_equal(mask.get_fdata(), label.get_fdata())
    np.testing.assert_array_equal(mask.affine, label.affine)


def test_what_the_network_grid_cannot_hold_counts_as_error(made, hearts):
    """Its voxels are four times as large here: measured there, the boxes would be found without a fault."""
    coarse = DataSettings(spacing=(8.0, 8.0, 8.0), patch=(16, 16, 16), hu_window=(0.0, 700.0))
    got = evaluate_cases(made.Hearts(), hearts(1), get_task("heart"), coarse, "cpu", OPTIONS, quiet=True)
    assert got["dice"]["mean"] < 0.9


def test_files(made, hearts, tmp_path):
    """A false positive counts against a class; a class missing from both is an empty cell, null and said."""
    truth = made.heart_index()
    truth[truth == 6] = 0
    cases = hearts(2, truth=truth)
    got = evaluate_cases(made.Hearts(), cases, get_task("heart"), made.HEART, "cpu", OPTIONS, tmp_path / "out",
                         note="One case serves all", save_masks=True, quiet=True)  # fmt: skip
    assert got["dice"]["per_class"]["AA"] == 0.0 and got["dice"]["mean"] == 0.5
    # The diagonal of 20 x 24 x 18 voxels of 2 mm: distances are in mm.
    assert got["hd95"]["per_class"]["AA"] == pytest.approx(2 * (20**2 + 24**2 + 18**2) ** 0.5)
    stored = json.loads((tmp_path / "out/metrics.json").read_text(), parse_constant=pytest.fail)
    assert stored == got
    assert set(got) == {"cases", "dice", "jaccard", "hd95", "surface_dice", "unit", "tolerance", "note"}
    assert got["note"].startswith("One case serves all. Neither truth nor prediction holds LV")
    with open(tmp_path / "out/per_case.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["case", "class", "dice", "jaccard", "hd95", "surface_dice"]
    assert len(rows) == 2 * 7 and {row["case"] for row in rows} == {"p0", "p1"}
    by_class = {row["class"]: row for row in rows}
    assert by_class["LV"]["dice"] == by_class["LV"]["hd95"] == ""
    assert float(by_class["RV"]["dice"]) == 1.0 and float(by_class["AA"]["dice"]) == 0.0
    # Two files of one name, as in a list with a folder for each patient, do not overwrite each other's mask.
    masks = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert masks == ["p0_segmentation.nii.gz", "p1_segmentation.nii.gz"]


def test_a_full_disk_leaves_what_was_there(made, hearts, tmp_path, monkeypatch):
    cases, out = hearts(2), tmp_path / "out"
    words = (made.Hearts(), cases, get_task("heart"), made.HEART, "cpu", OPTIONS)
    real = nibabel.save

    def save(image, path):
        if "p1" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(image, path)

    monkeypatch.setattr(nibabel, "save", save)
    for _ in range(2):
        with pytest.raises(RunError, match=rf"^{out}/masks/p1_segmentation.nii.gz: .* the disk is full"):
            evaluate_cases(*words, out, save_masks=True, quiet=True)
        assert not out.exists()
    monkeypatch.setattr(nibabel, "save", real)
    evaluate_cases(*words, out, save_masks=True, quiet=True)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert len(before) == 4
    monkeypatch.setattr(nibabel, "save", save)
    with pytest.raises(RunError):
        evaluate_cases(*words, out, note="other", save_masks=True, quiet=True)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_what_a_kill_left_is_removed_by_the_next_evaluation(made, hearts, tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    here = owner().replace(str(os.getpid()), "{}")
    left, others = (tmp_path / f"out/.{here.format(number)}.clustercl" for number in (int(dead.stdout), os.getppid()))
    own = tmp_path / "out/.2019.notes"
    for folder in (left / "masks", others, own):
        folder.mkdir(parents=True)
    evaluate_cases(
        made.Hearts(), hearts(1), get_task("heart"), made.HEART, "cpu", OPTIONS, tmp_path / "out", quiet=True
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [others.name, own.name, "metrics.json", "per_case.csv"]
    )


@pytest.mark.parametrize("differing", ["socket.gethostname", "os.readlink"])
def test_two_machines_with_the_same_process_number_keep_their_files(differing, tmp_path, monkeypatch):
    """As in containers, where a program often is process 1, with one file system; with docker's --network host they
    have one host name, too, but not one set of process numbers."""
    with atomic_folder(tmp_path / "out", "last.txt") as here:
        (here / "last.txt").write_text("here")
        with monkeypatch.context() as patch:
            patch.setattr(f"clustercl.owner.{differing}", lambda *_: "another")
            with atomic_folder(tmp_path / "out", "last.txt") as there:
                (there / "last.txt").write_text("there")
        assert (tmp_path / "out/last.txt").read_text() == "there"
    assert listing(tmp_path / "out") == {"last.txt": b"here"}


@pytest.mark.parametrize("newer", [False, True])
def test_what_another_machine_left_complete_does_not_replace_what_is_newer(tmp_path, newer):
    whole = tmp_path / "out/.999999999-0123abcd.whole.clustercl"
    whole.mkdir(parents=True)
    (whole / "last.txt").write_text("left")
    (whole / ".plan.json").write_text(json.dumps({"last": "last.txt", "goes": []}))
    finish_folder(tmp_path / "out")
    assert whole.exists()  # it may be on its way there
    old = time.time() - SILENT_SECONDS - 1
    for path in (*whole.iterdir(), whole):
        os.utime(path, (old, old))
    (tmp_path / "out/last.txt").write_text("before")
    if not newer:
        os.utime(tmp_path / "out/last.txt", (old - 1, old - 1))
    finish_folder(tmp_path / "out")
    assert listing(tmp_path / "out") == {"last.txt": b"before" if newer else b"left"}


def listing(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_what_it_wrote_itself_goes_for_a_new_evaluation(made, hearts, tmp_path):
    """Masks of earlier cases would stand among the new ones; what somebody else put there is not ours to remove."""
    out, words = tmp_path / "out", (get_task("heart"), made.HEART, "cpu", OPTIONS, tmp_path / "out")
    cases = hearts(3)
    evaluate_cases(made.Hearts(), cases[:2], *words, save_masks=True, quiet=True)
    foreign = ["masks/expert_segmentation.nii.gz", "masks/p0.nii.gz", "masks/p0_segmentation.txt", "notes.txt",
               "p0_segmentation.nii.gz"]  # fmt: skip
    for name in foreign:
        (out / name).write_bytes(b"by somebody else")
    with open(out / "per_case.csv", "a") as table:
        table.write("../../patient0/image,LV,,,,\n")  # names no file of ours
    (tmp_path / "patient0/image_segmentation.nii.gz").write_bytes(b"by somebody else")
    got = evaluate_cases(made.Hearts(), cases[1:], *words, save_masks=True, quiet=True)
    new = ["masks/p1_segmentation.nii.gz", "masks/p2_segmentation.nii.gz", "metrics.json", "per_case.csv"]
    assert sorted(listing(out)) == sorted([*foreign, *new])
    assert (tmp_path / "patient0/image_segmentation.nii.gz").exists()
    assert json.loads((out / "metrics.json").read_text()) == got
    for name in foreign:
        (out / name).unlink()
    evaluate_cases(made.Hearts(), cases[:1], *words, quiet=True)
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "per_case.csv"]
    (out / "per_case.csv").write_text("case,finding\np0,benign\n")  # another program's
    (out / "masks").mkdir()
    (out / "masks/p0_segmentation.nii.gz").write_bytes(b"by somebody else")
    evaluate_cases(made.Hearts(), cases[1:], *words, quiet=True)
    assert sorted(listing(out)) == ["masks/p0_segmentation.nii.gz", "metrics.json", "per_case.csv"]


def test_a_kill_at_any_moment_leaves_the_old_or_what_the_next_command_completes(made, hearts, tmp_path, monkeypatch):
    cases, calls = hearts(3), []
    out = tmp_path / "out"
    words = (get_task("heart"), made.HEART, "cpu", OPTIONS)
    evaluate_cases(made.Hearts(), cases[:2], *words, out, save_masks=True, quiet=True)
    old = listing(out)
    evaluate_cases(made.Hearts(), cases[1:], *words, tmp_path / "new", save_masks=True, quiet=True)
    new = listing(tmp_path / "new")
    steps = {"replace": os.replace, "unlink": os.unlink, "rmtree": shutil.rmtree}

    def dies_at(number):
        def step(name):
            def call(*given, **options):
                calls.append(name)
                if len(calls) > number:  # and whatever the dying process would still do
                    raise KeyboardInterrupt
                return steps[name](*given, **options)

            return call

        calls.clear()
        for name in steps:
            monkeypatch.setattr(shutil if name == "rmtree" else os, name, step(name))
        try:
            evaluate_cases(made.Hearts(), cases[1:], *words, here, save_masks=True, quiet=True)
        except KeyboardInterrupt:
            return True
        finally:
            monkeypatch.undo()
        return False

    completed, number = [], 0
    while True:
        here = tmp_path / f"killed{number}"
        shutil.copytree(out, here)
        if not dies_at(number):
            break
        visible = {name: content for name, content in listing(here).items() if not name.startswith(".")}
        assert "metrics.json" not in visible or visible in (old, new), calls
        finish_folder(here)
        assert listing(here) in (old, new), calls
        completed.append(listing(here) == new)
        number += 1
    assert completed == sorted(completed) and 5 < sum(completed) < len(completed)
    assert listing(here) == new


def test_photographs_in_pixels_with_thresholded_jaccard(made, tmp_path):
    from PIL import Image

    cases = []
    for number, rows in enumerate((16, 64)):  # the second truth is four times the lesion that is seen
        index = made.skin_index()
        image = made.save_skin(tmp_path / f"ISIC_{number}.png", index)
        truth = np.zeros_like(index)
        truth[8 : 8 + rows, 16:64] = 255
        Image.fromarray(truth).save(tmp_path / f"ISIC_{number}_segmentation.png")
        cases.append(Case(f"ISIC_{number}", image, tmp_path / f"ISIC_{number}_segmentation.png"))
    got = evaluate_cases(made.Dark(), cases, get_task("skin"), made.SKIN, "cpu", OPTIONS, quiet=True)
    first, second = 1.0, 16 / 56
    # Width 96 goes through 64 columns and back: the two vertical edges may be off by a pixel, of 48.
    assert got["jaccard"]["mean"] == pytest.approx((first + second) / 2, abs=2 / 48)
    assert got["thresholded_jaccard"] == pytest.approx(first / 2, abs=1 / 48)
    assert got["unit"] == "pixels" and got["note"] is None
