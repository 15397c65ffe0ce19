"""The page holds everything, needs nothing from elsewhere, and says what it had to leave out."""

import errno
import re
import shutil

import pytest
import torch

from clustercl import files
from clustercl.cli import main
from clustercl.errors import DataError, RunError
from clustercl.files import read_json, write_json
from clustercl.report import html
from clustercl.report.html import write_report
from clustercl.training.run import RunFolder


def headings_left_out(text: str) -> list[str]:
    return re.findall(r"<h2>([^<]*)</h2>\s*<p class=\"missing\">Left out: ", text)


@pytest.mark.parametrize("task", ["skin", "heart"])
def test_a_finished_run_is_shown_whole_and_needs_nothing_from_elsewhere(finished, task):
    run = finished(task)
    assert write_report(run) == run / "report.html"
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "Left out" not in text
    sources = re.findall(r'src="([^"]{0,40})', text)
    assert len(sources) >= 3 + 1 + 3 + 4  # cases, tree, an example of each of three pseudo-classes, curves
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert "a note that &lt;must&gt; be shown" in text
    metrics = read_json(run / "evaluation/metrics.json")
    assert f"<td>{metrics['dice']['mean']:.3f}</td>" in text
    for words in (
        "Best: ",
        "Median: ",
        "Worst: ",
        "data.patch",
        "HD95",
        'name="viewport"',
        "missed, or found where there is none, counts with the diagonal",
    ):
        assert words in text


def test_values_that_do_not_exist_are_dashes(tmp_path, finished):
    run = finished("skin", tmp_path)
    metrics = read_json(run / "evaluation/metrics.json")
    metrics["hd95"] = {"mean": None, "per_class": {"lesion": None}}
    metrics["dice"]["per_class"]["lesion"] = 0.75
    write_json(run / "evaluation/metrics.json", metrics)
    text = write_report(run).read_text(encoding="utf-8")
    assert re.search(r"<tr><td>lesion</td><td>0\.750</td><td>[\d.]+</td><td>–</td>", text)
    assert "occurs in no test case" in text


def test_a_run_that_has_just_begun_is_a_page_of_sentences(tmp_path, finished):
    (tmp_path / "run").mkdir()
    shutil.copy(finished("skin") / "config.json", tmp_path / "run")
    text = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert headings_left_out(text) == [
        "Results on the test set", "Test cases", "Pseudo-classes", "Examples of each pseudo-class", "Training", "Data"
    ]  # fmt: skip
    assert "stage pretrain has no numbers" in text
    assert "data.size" in text


def test_data_that_moved_away_cost_only_their_pictures(tmp_path, finished):
    run = finished("skin", tmp_path)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    text = write_report(run).read_text(encoding="utf-8")
    assert headings_left_out(text) == ["Test cases", "Examples of each pseudo-class"]
    assert "Training curve of stage finetune" in text


def test_full_memory_costs_only_the_pictures_of_test_cases(tmp_path, finished, monkeypatch):
    def full(*words):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("clustercl.evaluation.inference.predict_probabilities", full)
    text = write_report(finished("skin", tmp_path)).read_text()
    assert "Left out: segmenting test cases: out of memory on the CPU" in text and "<table" in text


def test_files_that_are_damaged_cost_only_their_part(tmp_path, finished):
    run = finished("skin", tmp_path)
    (run / "evaluation/metrics.json").write_text("{")
    (run / "clusters/linkage.npy").write_bytes(b"no array")
    (run / "finetune/best.pt").write_bytes(b"no checkpoint")
    text = write_report(run).read_text(encoding="utf-8")
    for part in ("metrics.json", "linkage.npy", "best.pt"):
        assert re.search(rf"Left out: [^<]*{part}[^<]*(damaged|no checkpoint)", text), part
    assert "Training curve of stage finetune" in text


@pytest.mark.parametrize("lacking", ["labelled", "train", "test"])
def test_a_split_that_lacks_a_part_costs_only_its_section(tmp_path, finished, lacking):
    run = finished("skin", tmp_path)
    split = read_json(run / "split.json")
    for wrong in ({}, {lacking: 3}):
        write_json(run / "split.json", {key: value for key, value in split.items() if key != lacking} | wrong)
        text = write_report(run).read_text(encoding="utf-8")
        assert "Data" in headings_left_out(text) and "Results on the test set" not in headings_left_out(text)
        got = wrong.get(lacking)
        assert f"split.json: is damaged (wanted a list of cases as {lacking}, got {got}).</p>" in text


@pytest.mark.parametrize("metrics", [{"cases": 3}, {"dice": 0.5}, {"dice": {"mean": 0.5}}])
def test_metrics_that_lack_a_part_cost_only_theirs(tmp_path, finished, metrics):
    run = finished("skin", tmp_path)
    write_json(run / "evaluation/metrics.json", metrics)
    text = write_report(run).read_text(encoding="utf-8")
    assert headings_left_out(text) == ["Results on the test set"]
    assert "metrics.json: is damaged (wanted mean and per_class of dice, got " in text


def test_of_a_comparison_its_runs_are_named(tmp_path, finished):
    for name in ("simclr/labels1-seed0", "scratch/labels0.1-seed0"):
        shutil.copytree(finished("skin"), tmp_path / "runs" / name)
    first = tmp_path / "runs/scratch/labels0.1-seed0"
    with pytest.raises(RunError, match=rf"{tmp_path}: is a comparison, wanted one of its 2 runs, as {first}: name"):
        write_report(tmp_path)
    with pytest.raises(RunError, match=r"is a comparison, wanted one of its 2 runs"):
        RunFolder(tmp_path).read_config()


def test_what_is_no_run_is_an_error(tmp_path, finished):
    with pytest.raises(RunError, match="is no run of clustercl"):
        write_report(tmp_path)
    (tmp_path / "config.json").write_text('{"task": "skin"}')
    with pytest.raises(DataError, match=r"config\.json: is damaged"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_page_of_a_run_that_cannot_be_written_to_goes_elsewhere(tmp_path, finished, monkeypatch, capsys):
    run, real = finished("skin", tmp_path), files.tempfile.TemporaryDirectory

    def read_only(*words, dir, **options):
        if dir == run:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(*words, dir=dir, **options)

    monkeypatch.setattr(files.tempfile, "TemporaryDirectory", read_only)
    with monkeypatch.context() as patch:
        patch.setattr(html, "_summary", lambda run: pytest.fail("drawn before"))
        assert main.run(["report", str(run)]) == 1
        assert main.run(["report", str(run), "--out", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert "run: cannot be written to (Read-only file system" in told and "name another file with --out" in told
    assert "data: is a folder, wanted a file for the page" in told
    out = tmp_path / "new/page.html"
    assert main.run(["report", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n" and "Training curve" in out.read_text(encoding="utf-8")
    assert not (run / "report.html").exists()


def test_only_a_page_is_replaced(tmp_path, finished, capsys):
    run, notes = finished("skin", tmp_path), tmp_path / "notes.html"
    notes.write_text("<!DOCTYPE html>\n<title>My own</title>")
    for other in (run / "finetune/best.pt", run / "config.json", notes):
        before = other.read_bytes()
        assert main.run(["report", str(run), "--out", str(other)]) == 1
        assert f"{other}: exists and is no page of clustercl, so it is kept" in capsys.readouterr().err
        assert other.read_bytes() == before
    out = tmp_path / "page.html"
    out.touch()
    for _ in range(2):
        assert main.run(["report", str(run), "--out", str(out)]) == 0
    assert "<title>run – clustercl</title>" in out.read_text(encoding="utf-8")


def test_the_command_prints_the_path(clustercl, tmp_path, finished):
    run = finished("skin")
    done = clustercl("report", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "report.html")
    failed = clustercl("report", tmp_path)
    assert failed.returncode == 1
    assert "is no run of clustercl" in failed.stderr
    assert "Traceback" not in failed.stderr
