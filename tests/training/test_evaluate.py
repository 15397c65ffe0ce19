"""`evaluate_run`: what it measures on, what it says of images that the run learnt from, and what it leaves behind."""

import errno
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from clustercl import files, owner
from clustercl.errors import DataError, RunError, UsageError
from clustercl.evaluation import evaluate
from clustercl.files import read_json, write_json
from clustercl.training.devices import DeviceRequest
from clustercl.training.evaluate import evaluate_run
from clustercl.training.pipeline import train
from clustercl.training.run import RunFolder

CPU = DeviceRequest("cpu")


@pytest.fixture(scope="module")
def trained(skin, tiny, tmp_path_factory):
    """A run from scratch that uses half of its training labels."""
    out = tmp_path_factory.mktemp("runs") / "scratch"
    train(tiny(method="scratch", label_fraction=0.5), out, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_images_that_were_learnt_from_are_told(run, skin, make_skin, tmp_path, capsys):
    split = read_json(run / "split.json")
    validated = len(split["validation"])
    for folder in (skin, make_skin(tmp_path / "copies")):  # the same files, and other files of the same photographs
        got = evaluate_run(run, data=folder, result=tmp_path / folder.name, devices=CPU)
        used = len(split["labelled"])
        words = f"{used + validated} of 8 cases were learnt from ({used} trained on, {validated} validated on): "
        assert got["note"].startswith(words)
        assert f"warning: {words}" in capsys.readouterr().err
        assert read_json(tmp_path / folder.name / "metrics.json")["note"] == got["note"]
    # Without pre-training nothing was learnt from images whose labels were not used; with it from all.
    write_json(run / "config.json", read_json(run / "config.json") | {"method": "simclr"})
    note = evaluate_run(run, data=skin, devices=CPU, quiet=True)["note"]
    assert f"{len(split['train']) + validated} of 8 cases were learnt from ({len(split['train'])} trained on" in note


def test_other_images_and_the_test_split_need_no_warning(run, make_skin, tmp_path):
    other = make_skin(tmp_path / "other", first=50)
    assert evaluate_run(run, data=other, devices=CPU, quiet=True)["note"] is None
    assert evaluate_run(run, devices=CPU, quiet=True)["note"] is None


def test_whether_they_were_learnt_from_may_be_unknown(tiny, make_skin, tmp_path):
    data, other = make_skin(tmp_path / "data"), make_skin(tmp_path / "other", labelled=2, first=50)
    train(tiny(method="scratch"), tmp_path / "run", data, devices=CPU, quiet=True)
    gone = read_json(tmp_path / "run/split.json")["train"][0]
    for path in data.rglob(f"{gone}*"):
        path.unlink()
    note = evaluate_run(tmp_path / "run", data=other, devices=CPU, quiet=True)["note"]
    assert note.startswith("1 of the ") and "images that were learnt from are gone, so whether they are" in note
    shutil.rmtree(data)
    note = evaluate_run(tmp_path / "run", data=other, devices=CPU, quiet=True)["note"]
    assert note.startswith("whether the network learnt from some of these cases is unknown")
    assert "no such folder" in note


def test_every_case_is_read_before_the_first_is_segmented(run, make_skin, tmp_path, monkeypatch):
    other = make_skin(tmp_path / "other", labelled=3, first=50)
    broken = sorted(other.rglob("*.jpg"))[2]
    broken.write_bytes(broken.read_bytes()[:300])
    monkeypatch.setattr(evaluate, "predict_probabilities", lambda *ignored: pytest.fail("segmented"))
    with pytest.raises(DataError, match=rf"{broken.name}: the image is broken"):
        evaluate_run(run, data=other, result=tmp_path / "out", devices=CPU, quiet=True, save_masks=True)
    assert not (tmp_path / "out").exists()


def test_advice_is_what_works_here(run, make_skin, tmp_path):
    """There is no evaluate --labels."""
    other = make_skin(tmp_path / "other", labelled=3, first=50)
    mask = sorted(other.rglob("*_segmentation.png"))[1]
    Image.fromarray((np.asarray(Image.open(mask)) > 0).astype(np.uint8)).save(mask)
    wanted = rf"{mask.name}: the largest value .* store it as 0 and 255, as the labels"
    with pytest.raises(DataError, match=wanted) as told:
        evaluate_run(run, data=other, devices=CPU, quiet=True)
    assert "--labels" not in str(told.value)


def test_sigterm_leaves_nothing(run, make_skin, tmp_path, monkeypatch):
    other, real = make_skin(tmp_path / "other", labelled=3, first=50), evaluate.case_metrics
    seen = []

    def case_metrics(*words):
        seen.append(listing(tmp_path / "out"))
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*words)

    monkeypatch.setattr(evaluate, "case_metrics", case_metrics)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RunError, match=rf"by SIGTERM: nothing was written to {tmp_path / 'out'}") as told:
        evaluate_run(run, data=other, result=tmp_path / "out", devices=CPU, quiet=True, save_masks=True)
    assert told.value.exit_code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert sum(name.endswith(".png") for name in seen[2]) == 2 and not (tmp_path / "out").exists()


def test_sigterm_among_complete_files_says_that_they_are(run, make_skin, tmp_path, monkeypatch):
    other, out, real = make_skin(tmp_path / "other", labelled=2, first=50), tmp_path / "out", os.replace

    def replace(source, target):
        real(source, target)
        if target == out / "per_case.csv":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(files.os, "replace", replace)
    words = rf"stopped by SIGTERM: all was written, and what is not in its place in {out} yet is put there by the next"
    with pytest.raises(RunError, match=words) as told:
        evaluate_run(run, data=other, result=out, devices=CPU, quiet=True)
    assert told.value.exit_code == 143 and not (out / "metrics.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(owner, "is_alive", lambda process: False)
    files.finish_folder(out)
    assert listing(out) == ["metrics.json", "per_case.csv"]


def test_results_that_are_there_are_not_lost(run, make_skin, tmp_path):
    other, out = make_skin(tmp_path / "other", labelled=2, first=50), tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    expert = out / "masks/ISIC_0000001_segmentation.png"
    expert.write_bytes(b"by an expert")
    options = {"result": out, "devices": CPU, "quiet": True, "save_masks": True}
    with pytest.raises(DataError, match=r"ISIC_0000001_segmentation.png: exists already: .*--out, .*--overwrite"):
        evaluate_run(run, data=other, **options)
    assert listing(out) == ["masks", "masks/ISIC_0000001_segmentation.png"] and expert.read_bytes() == b"by an expert"
    evaluate_run(run, data=other, overwrite=True, **options)
    with Image.open(expert) as mask:
        assert mask.size == (48, 40)


def test_overwrite_leaves_no_mask_of_an_earlier_case(run, make_skin, tmp_path):
    first, second = (make_skin(tmp_path / name, labelled=2, first=at) for name, at in (("first", 50), ("second", 70)))
    options = {"result": tmp_path / "out", "devices": CPU, "quiet": True, "save_masks": True}
    evaluate_run(run, data=first, **options)
    (tmp_path / "out/masks/notes.txt").write_text("of the reader")
    evaluate_run(run, data=second, overwrite=True, **options)
    evaluate_run(run, data=second, **options | {"result": tmp_path / "fresh"})
    assert listing(tmp_path / "out") == sorted([*listing(tmp_path / "fresh"), "masks/notes.txt"])


def test_what_a_kill_kept_from_its_place_is_put_there_by_the_next_command(
    run, make_skin, tmp_path, monkeypatch, capsys
):
    other, out = make_skin(tmp_path / "other", labelled=2, first=50), tmp_path / "out"
    options = {"data": other, "result": out, "devices": CPU, "quiet": True, "save_masks": True}

    def killed(whole):
        raise KeyboardInterrupt

    for result in (out, run / "evaluation"):  # the run's own go where training looks for them
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(files, "_put_in_place", killed)
            evaluate_run(run, devices=CPU, quiet=True) if result != out else evaluate_run(run, **options)
    with pytest.raises(DataError, match="exists already"):
        evaluate_run(run, **options)
    assert f"{out}: what was complete when it was stopped is in its place now" in capsys.readouterr().err
    assert len(listing(out)) == 1 + 2 + 2
    RunFolder(run).sweep()
    assert listing(run / "evaluation") == ["metrics.json", "per_case.csv"]


def test_what_is_in_the_way_is_told_before_anything_is_segmented(run, make_skin, tmp_path, monkeypatch):
    other, out = make_skin(tmp_path / "other", first=50), tmp_path / "out"
    options = {"data": other, "result": out, "devices": CPU, "quiet": True, "save_masks": True}
    evaluate_run(run, **options)
    before = listing(out)
    monkeypatch.setattr(evaluate, "predict_probabilities", lambda *_: pytest.fail("segmented"))
    os.rename(out / "masks", tmp_path / "kept")
    (out / "masks").write_text("notes")
    with pytest.raises(RunError, match=r"out/masks: is a file, wanted a folder to write into$"):
        evaluate_run(run, **options, overwrite=True)
    (out / "masks").unlink()
    os.rename(tmp_path / "kept", out / "masks")
    assert listing(out) == before
    (out / "per_case.csv").unlink()
    (out / "per_case.csv").mkdir()
    with pytest.raises(DataError, match=r"out/per_case.csv: is a folder, wanted a place for a file: choose another"):
        evaluate_run(run, **options, overwrite=True)
    assert listing(out) == before


def test_other_data_never_stand_for_the_runs_own(run, make_skin, tmp_path):
    """Of a run whose evaluation is gone too: train would take it for finished."""
    other, own = make_skin(tmp_path / "other", first=50), read_json(run / "evaluation/metrics.json")
    elsewhere = shutil.copytree(run, tmp_path / "elsewhere")
    shutil.rmtree(elsewhere / "evaluation")
    for place in (run, elsewhere):
        with pytest.raises(UsageError, match=r"--out: .*/evaluation is for the run's own test cases"):
            evaluate_run(run, data=other, result=place / "evaluation", devices=CPU, quiet=True, overwrite=True)
    with pytest.raises(UsageError, match=r"elsewhere/evaluation is for the run's own test cases"):
        evaluate_run(run, result=elsewhere / "evaluation", devices=CPU, quiet=True)
    assert not (elsewhere / "evaluation").exists()
    assert evaluate_run(run, result=run / "evaluation", devices=CPU, quiet=True) == own


def test_the_runs_own_results_are_made_anew(run):
    for save_masks in (False, True, True):
        evaluate_run(run, devices=CPU, quiet=True)
        evaluate_run(run, result=run / "evaluation", devices=CPU, quiet=True, save_masks=save_masks)
    assert {path.name for path in (run / "evaluation").iterdir()} == {"masks", "metrics.json", "per_case.csv"}


def test_a_run_on_a_disk_that_is_only_read_is_refused_at_once(run, tmp_path, monkeypatch):
    real = files.tempfile.TemporaryDirectory

    def read_only(*words, dir, **options):
        if dir == run / "evaluation":
            raise OSError(errno.EROFS, "Read-only file system")
        return real(*words, dir=dir, **options)

    monkeypatch.setattr(files.tempfile, "TemporaryDirectory", read_only)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "predict_probabilities", lambda *ignored: pytest.fail("segmented"))
        with pytest.raises(RunError, match=r"evaluation: cannot be written to \(Read-only .*name a folder .* --out"):
            evaluate_run(run, devices=CPU, quiet=True)
    assert evaluate_run(run, result=tmp_path / "out", devices=CPU, quiet=True)["cases"] >= 1


def test_several_processes_are_refused(run, monkeypatch):
    """Each would measure all, and write the same files."""
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="evaluate: one process measures, got 2 by torchrun: start it without") as told:
        evaluate_run(run, devices=CPU)
    assert told.value.joint


def test_a_split_that_is_gone_is_not_drawn_anew(run):
    """Others may have trained, or been validated on."""
    (run / "split.json").unlink()
    before = listing(run)
    with pytest.raises(RunError, match=r"split.json: is gone, so which cases are its test cases is unknown: put it"):
        evaluate_run(run, devices=CPU)
    assert listing(run) == before
