"""The report on a data set."""

import json
import shutil
import tracemalloc
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from clustercl.data import findings
from clustercl.data.cases import Case, discover
from clustercl.data.check import check_data
from clustercl.data.check_case import check_case
from clustercl.data.copies import with_copies_together
from clustercl.data.findings import Problem, Report, Row, summarise
from clustercl.data.task import get_task

SKIN, HEART = get_task("skin"), get_task("heart")


def test_a_clean_folder(heart_folder):
    report = check_data(HEART, *discover(HEART, heart_folder), quiet=True)
    assert report.problems == [] and report.errors == []
    assert report.summary["cases"] == 4 and report.summary["unlabelled"] == 1
    row = report.rows[1]
    assert (row.case, row.size, row.spacing, row.orientation) == ("ct_train_1001", (12, 14, 10), (1, 1, 1), "RAS")
    assert row.counts["LV"] == 12 and row.counts["LA"] == 24 and sum(row.counts.values()) == 12 * 14 * 10
    assert report.rows[0].counts is None
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["summary"]["cases with"]["PA"] == 3 and plain["rows"][1]["size"] == [12, 14, 10]
    text = report.to_text()
    assert "12 x 14 x 10" in text and "no problems" in text and "unlabelled: 1" in text


def test_shares_and_values_are_read_as_numbers():
    rows = [
        Row(f"case{share}", "f", "g", None, (100, 100), low=-1024.0, high=3071.0,
            counts={"background": 10_000 - share, "lesion": share})
        for share in (10_000, 9_960, 9_940, 1_234, 1)
    ]  # fmt: skip
    text = Report("skin", rows, [], summarise(SKIN, [], rows)).to_text()
    assert [line.rsplit("  ", 1)[-1] for line in text.splitlines()[1:6]] == [
        "lesion 100%", "lesion 100%", "lesion 99%", "lesion 12%", "lesion 0.01%"
    ]  # fmt: skip
    assert "\nvalues: smallest -1024, largest 3071\n" in text and "e+0" not in text


def test_of_many_cases_the_summary_alone_is_shown(monkeypatch):
    """A row for each of 100,000 photographs buried what was wrong with some."""
    count = findings.TABLE_MOST
    names = [f"photograph{number}" for number in range(count + 1)]
    cases = [
        Case(
            name, Path(f"{name}.jpg"), Path("m.png") if number < 60 else None, split="train" if number < 70 else "test"
        )
        for number, name in enumerate(names)
    ]
    rows = [
        Row(name, f"{name}.jpg", "g", None, (600, 400) if number % 3 else (300, 500), low=0, high=255)
        for number, name in enumerate(names)
    ]
    problem = Problem("photograph7.jpg", "warning", "photograph7.jpg: its mask is empty")
    report = Report("skin", rows, [problem], summarise(SKIN, cases, rows))
    text = report.to_text()
    assert text.count("photograph") == 1, "a row of the table, or no problem"
    assert text.startswith("cases: 101\nlabelled: 60\nunlabelled: 41\n")
    assert "\ngiven splits: train (cases 70, labelled 60), test (cases 31, labelled 0)\n" in text
    assert "\nsize: smallest 300 x 400, largest 600 x 500, most often 600 x 400, different 2\n" in text
    assert "\na row for each of the 101 cases: with --table, and in --json\n" in text
    assert text.endswith("\n\nwarning: photograph7.jpg: its mask is empty\n1 warning")
    assert report.to_text(table=True).count("\nphotograph") == 101
    assert len(report.to_dict()["rows"]) == 101
    few = Report("skin", rows[:count], [], summarise(SKIN, cases[:count], rows[:count])).to_text()
    assert few.count("\nphotograph") == count and "--table" not in few


def test_every_problem_is_listed_with_its_file(skin_folder, files):
    images = skin_folder / "ISIC-2017_Training_Data"
    truth = skin_folder / "ISIC-2017_Training_Part1_GroundTruth"
    broken = images / "ISIC_0000000.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    files.save_picture(truth / "ISIC_0000001_segmentation.png", files.mask(9, 9))
    files.save_picture(truth / "ISIC_0000002_segmentation.png", np.zeros((20, 30), np.uint8))
    (truth / "ISIC_0000003_segmentation.png").unlink()
    files.save_picture(skin_folder / "ISIC-2017_Test_v2_Data" / "ISIC_0000009.jpg", np.full((20, 30, 3), 7, np.uint8))
    report = check_data(SKIN, *discover(SKIN, skin_folder), quiet=True)
    found = {(problem.file.rsplit("/", 1)[-1], problem.severity) for problem in report.problems}
    assert found == {
        ("ISIC_0000000.jpg", "error"),
        ("ISIC_0000001_segmentation.png", "error"),
        ("ISIC_0000002_segmentation.png", "warning"),
        ("ISIC_0000003.jpg", "error"),
        ("ISIC_0000009.jpg", "warning"),
    }
    assert len(report.errors) == 3 and report.summary["unreadable"] == 1
    assert all(problem.sentence.startswith(problem.file) for problem in report.problems)
    # A mask tells what it holds whatever is wrong with its image, and an image whatever is wrong with its mask.
    assert report.rows[0].size is None and report.rows[0].counts["lesion"] == 7 * 12
    assert report.rows[1].size == (30, 20) and report.rows[1].content
    text = report.to_text()
    assert text.count("error: ") == 3 and text.endswith("\n3 errors and 2 warnings")


def test_a_label_may_have_several_faults(heart_folder, files):
    label = files.hearts()[1][..., 1:]
    label[0, 0, 0] = 7
    path = files.save_volume(heart_folder / "ct_train/ct_train_1002_label.nii.gz", label, np.diag([1.0, 1, 1.5, 1]))
    report = check_data(HEART, *discover(HEART, heart_folder), quiet=True)
    assert {problem.file for problem in report.errors} == {str(path)}
    size, affine, value = (problem.sentence for problem in report.errors)
    assert "the mask has 12x14x9 voxels" in size and "by 0.5 mm" in affine and "label value 7 outside" in value
    row = report.rows[2]
    assert (row.size, row.orientation, row.counts) == ((12, 14, 10), "RAS", None) and row.low < row.high
    assert report.summary["unreadable"] == 0
    (heart_folder / "ct_train/ct_train_1002_image.nii.gz").write_bytes(b"")
    report = check_data(HEART, *discover(HEART, heart_folder), quiet=True)
    assert [problem.file[-12:] for problem in report.errors] == ["image.nii.gz", "label.nii.gz"]


def test_an_image_that_is_its_own_label_is_an_error(tmp_path, files):
    """With a label map for an image training would find the perfect network."""
    path = files.save_volume(tmp_path / "label.nii.gz", files.hearts()[1])
    row, problems = check_case(Case("a", path, tmp_path / "." / "label.nii.gz"), HEART)
    assert [problem.severity for problem in problems] == ["error"] and row.counts is None
    assert (
        problems[0].sentence == f"{path}: is named as an image and as its own label: name the file that holds its label"
    )


def test_a_volume_whose_header_places_it_twice_is_told(tmp_path, files):
    path = files.save_volume(tmp_path / "a.nii.gz", files.hearts()[0])
    shifted, mirrored, nearly, sheared = (np.eye(4) for _ in range(4))
    shifted[:3, 3], mirrored[0, 0], nearly[:3, 3], sheared[0, 1] = 5, -1, 0.5, 0.01
    for qform, apart in ((shifted, "8.66 mm"), (mirrored, "22 mm"), (nearly, None), (sheared, None)):
        image = nibabel.load(path)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
        image.set_sform(np.eye(4), 1)
        image.set_qform(qform, 1, strip_shears=True)
        nibabel.save(image, tmp_path / "b.nii.gz")
        _, problems = check_case(Case("b", tmp_path / "b.nii.gz"), HEART)
        told = [(problem.severity, problem.sentence) for problem in problems]
        if apart is None:
            assert told == []
        else:
            assert told[0][0] == "warning" and f"its sform and its qform place it up to {apart} apart" in told[0][1]
    for sform, qform in ((1, 0), (0, 1)):
        image.set_sform(np.eye(4), sform)
        image.set_qform(shifted, qform)
        nibabel.save(image, tmp_path / "c.nii.gz")
        assert check_case(Case("c", tmp_path / "c.nii.gz"), HEART)[1] == []


def test_stored_values_of_a_class_are_told(heart_folder, files):
    report = check_data(HEART, *discover(HEART, heart_folder), quiet=True)
    assert report.rows[0].values is None
    values = report.rows[1].values
    assert (values["500"], values["420"], values["421"]) == (12, 12, 12) and sum(values.values()) == 12 * 14 * 10
    assert report.summary["stored values"] == {"LA": {"420": 36, "421": 36}}
    assert "stored values: LA (420 36, 421 36)" in report.to_text()
    for path in heart_folder.rglob("*_label.nii.gz"):
        label = files.hearts()[1]
        label[label == 421] = 0
        files.save_volume(path, label)
    assert "stored values" not in check_data(HEART, *discover(HEART, heart_folder), quiet=True).summary


def test_a_class_that_never_occurs_is_a_warning(heart_folder, files):
    for path in heart_folder.rglob("*_label.nii.gz"):
        label = files.hearts()[1]
        label[label == 600] = 0
        files.save_volume(path, label)
    report = check_data(HEART, *discover(HEART, heart_folder), quiet=True)
    (problem,) = report.problems
    assert problem.severity == "warning" and problem.sentence.startswith("RV: nowhere in the 3 readable label maps")


def test_no_labels_at_all(heart_folder):
    report = check_data(HEART, *discover(HEART, None, [heart_folder]), quiet=True)
    assert [problem.severity for problem in report.problems] == ["warning", "warning"]
    assert "left out: 1 volume such as heart_region_1001.nii.gz" in report.problems[0].sentence
    assert "none of the 4 cases has a label" in report.problems[1].sentence


@pytest.mark.parametrize(("spacing", "wanted"), [(0.5, True), (99, True), (1e-8, False), (0.009, False), (300, False)])
def test_spacing_that_no_scanner_has_is_questioned(spacing, wanted, tmp_path, files):
    path = files.save_volume(tmp_path / "a_image.nii.gz", files.hearts()[0], np.diag([1, spacing, 1, 1]))
    _, problems = check_case(Case("a", path), HEART)
    if wanted:
        assert problems == []
        return
    (problem,) = problems
    assert problem.severity == "warning" and problem.file == str(path)
    assert f"a_image.nii.gz: its voxels are {spacing:g} mm along axis y, wanted 0.01 to 100" in problem.sentence


def test_a_list_that_training_would_refuse_is_an_error(heart_folder, tmp_path):
    images = sorted(heart_folder.rglob("*_image.nii.gz"))[1:]
    rows = [
        f"{path},{str(path).replace('_image', '_label')},p1,{split}" for path, split in zip(images, ("train", "test"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,group,split", *rows]))
    report = check_data(HEART, *discover(HEART, None, (), tmp_path / "list.csv"), quiet=True)
    (problem,) = report.errors
    assert "group p1 is in split" in problem.sentence and problem.file.endswith("_image.nii.gz")


def test_every_fault_of_a_list_is_told(skin_folder):
    image, mask = "ISIC-2017_Training_Data/ISIC_000000", "ISIC-2017_Training_Part1_GroundTruth/ISIC_000000"
    parts = ("train", "test", "validation")
    lines = [f"{image}{number}.jpg,{mask}{number}_segmentation.png,p,{part}" for number, part in enumerate(parts)]
    lines.append("ISIC-2017_Test_v2_Data/ISIC_0000009.jpg,,q,test")
    (skin_folder / "list.csv").write_text("\n".join(["image,mask,group,split", *lines]))
    report = check_data(SKIN, *discover(SKIN, None, (), skin_folder / "list.csv"), quiet=True)
    assert [problem.file[-16:-4] for problem in report.errors] == [f"ISIC_000000{number}" for number in (1, 2, 9)]
    for problem, wanted in zip(report.errors, ("in split test here", "in split validation here", "names no label")):
        assert problem.sentence.startswith(problem.file) and wanted in problem.sentence


def test_odd_masks_are_told(skin_folder, files):
    truth = skin_folder / "ISIC-2017_Training_Part1_GroundTruth"
    grey = files.mask()
    grey[4] = 100
    grey[12, :10] = 200
    files.save_picture(truth / "ISIC_0000000_segmentation.png", grey)
    files.save_picture(truth / "ISIC_0000001_segmentation.png", np.full((20, 30), 255, np.uint8))
    report = check_data(SKIN, *discover(SKIN, skin_folder), quiet=True)
    first, second = report.problems
    assert (first.severity, second.severity) == ("warning", "warning")
    assert "40 pixels (6.7%) are neither 0 nor 255: those above 127 count as lesion" in first.sentence
    assert "the label map has no background" in second.sentence
    assert report.rows[0].foreground == report.rows[0].counts["lesion"] == 7 * 12 + 10


def test_files_that_hold_several_pictures_are_told(tmp_path, files):
    """Of an animation or of a TIFF with pages the first alone is read, of images and masks alike."""
    image, label = tmp_path / "a.tif", tmp_path / "a.png"
    pages = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (90, 120, 150)]
    pages[0].putpixel((3, 4), (9, 9, 9))
    pages[0].save(image, save_all=True, append_images=pages[1:])
    mask = Image.fromarray(files.mask())
    mask.save(label, save_all=True, append_images=[mask.rotate(90)])
    _, problems = check_case(Case("a", image, label, "a"), SKIN)
    assert [problem.severity for problem in problems] == ["warning", "warning"]
    assert [problem.sentence for problem in problems] == [
        f"{file}: holds {count} pictures, pages or frames, of which the first is read: store each in its own file"
        for file, count in ((image, 3), (label, 2))
    ]


def test_a_photograph_is_read_whatever_follows_it_in_the_file(tmp_path):
    """The place of a next page lies beyond the end of this TIFF."""
    image = tmp_path / "a.tif"
    Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)).save(image)
    content = bytearray(image.read_bytes())
    at = int.from_bytes(content[4:8], "little")
    at += 2 + 12 * int.from_bytes(content[at : at + 2], "little")
    assert content[at : at + 4] == bytes(4)  # none follows
    content[at : at + 4] = (10**6).to_bytes(4, "little")
    image.write_bytes(content)
    with warnings.catch_warnings(action="ignore"):  # Pillow's
        row, problems = check_case(Case("a", image, None, "a"), SKIN)
    assert row.content is not None and not problems


def test_copies_are_told_and_never_separated(heart_folder, tmp_path, files):
    images = sorted(heart_folder.rglob("ct_train*_image.nii.gz"))
    shutil.copy(images[0], images[1])
    lines = [f"{path},{str(path).replace('_image', '_label')}" for path in images]

    def checked(*ends):
        rows = [line + end for line, end in zip(lines, ends)]
        (tmp_path / "list.csv").write_text("\n".join(["image,label,group,split", *rows]))
        cases, faults = discover(HEART, None, (), tmp_path / "list.csv")
        return cases, check_data(HEART, cases, faults, quiet=True)

    cases, report = checked(",p,", ",p,", ",q,")
    assert report.problems == [] and with_copies_together(cases, report.rows) == cases
    cases, report = checked(",p,", ",q,", ",r,")
    (problem,) = report.problems
    assert problem.severity == "warning" and problem.sentence.endswith(
        "hold the same image: no split will separate them"
    )
    assert [case.group for case in with_copies_together(cases, report.rows)] == ["p", "p", "r"]
    _, report = checked(",p,train", ",q,test", ",r,train")
    (problem,) = report.errors
    assert problem.sentence.endswith("the given splits put copies into test and train: remove some")


def test_copies_join_the_groups_of_their_patients(skin_folder, tmp_path):
    names = [f"ISIC-2017_Training_Data/ISIC_000000{number}.jpg" for number in range(4)]
    shutil.copy(skin_folder / names[1], skin_folder / names[2])
    groups = ("a", "a", "b", "b")
    (skin_folder / "list.csv").write_text(
        "\n".join(["image,label,group", *(f"{n},,{g}" for n, g in zip(names, groups))])
    )
    cases, faults = discover(SKIN, None, (), skin_folder / "list.csv")
    together = with_copies_together(cases, check_data(SKIN, cases, faults, quiet=True).rows)
    assert {case.group for case in together} == {"a"}


def test_counting_makes_no_large_copies(tmp_path, files):
    """Of 4 million pixels: the mask, its indices and a comparison or two, not eight bytes of each."""
    mask = np.zeros((2000, 2000), np.uint8)
    mask[500:900, 300:1500] = 255
    image = files.save_picture(tmp_path / "i.png", np.zeros((2000, 2000, 3), np.uint8))
    case = Case("i", image, files.save_picture(tmp_path / "m.png", mask))
    check_case(case, SKIN)  # imports are no part of it
    tracemalloc.start()
    row, _ = check_case(case, SKIN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert row.counts == {"background": 2000**2 - 400 * 1200, "lesion": 400 * 1200}
    assert peak < 5 * mask.size


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_tells_the_same(workers, skin_folder):
    found = discover(SKIN, skin_folder)
    assert check_data(SKIN, *found, quiet=True, workers=workers) == check_data(SKIN, *found, quiet=True)
