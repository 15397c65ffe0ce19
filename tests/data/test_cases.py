"""Layouts, folders without labels, and lists."""

import json
import os
import shutil

import pytest

from clustercl.data.cases import discover, find_cases
from clustercl.data.read import read_image
from clustercl.data.split import make_split
from clustercl.data.task import get_task
from clustercl.errors import DataError, UsageError

SKIN, HEART = get_task("skin"), get_task("heart")

LAYOUTS = {
    "2016": (
        "ISBI2016_ISIC_Part1_Training_Data/ISIC_0000001.jpg",
        "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000001_Segmentation.png",
    ),
    "2017": (
        "ISIC-2017_Test_v2_Data/ISIC_0000001.jpg",
        "ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_0000001_segmentation.png",
    ),
    "2018 nested twice": (
        "a/ISIC2018_Task1-2_Training_Input/ISIC2018_Task1-2_Training_Input/ISIC_0000001.jpg",
        "b/ISIC2018_Task1_Training_GroundTruth/x/ISIC_0000001_segmentation.png",
    ),
    "upper case": ("X/isic_0000001.JPG", "Y/ISIC_0000001_SEGMENTATION.PNG"),
    "PH2": (
        "PH2 Dataset images/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp",
        "PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_skin_layouts(name, tmp_path, files):
    image, label = (tmp_path / part for part in LAYOUTS[name])
    files.save_picture(image, files.photograph())
    files.save_picture(label, files.mask())
    for other in ("IMD002_R1_Label4.bmp", "ISIC_0000001_superpixels.png", "ISIC_0000001_attribute_globules.png"):
        files.save_picture(tmp_path / "more" / other, files.mask())
    (tmp_path / "more" / "ISIC_0000001_features.json").write_text("{}")
    files.save_picture(tmp_path / "__MACOSX" / "ISIC_0000001.jpg", files.photograph())
    (case,) = find_cases(SKIN, tmp_path)
    assert (case.image, case.label, case.group) == (image, label, case.id)


def test_skin_folder(skin_folder):
    cases = find_cases(SKIN, skin_folder)
    assert [case.id[-1] for case in cases] == list("01239")
    assert [case.label is not None for case in cases] == [True] * 4 + [False]


@pytest.mark.parametrize("truth", ["ISIC-2017_Training_Part1_GroundTruth", "my groundtruth"])
def test_a_missing_mask_is_named(truth, skin_folder):
    folder = skin_folder / "ISIC-2017_Training_Part1_GroundTruth"
    folder = folder.rename(skin_folder / truth)
    (folder / "ISIC_0000002_segmentation.png").unlink()
    with pytest.raises(DataError, match=r"ISIC_0000002.jpg: the mask ISIC_0000002_segmentation.png is missing"):
        find_cases(SKIN, skin_folder)


def test_an_empty_ground_truth_folder_means_all_masks_are_missing(skin_folder):
    for path in (skin_folder / "ISIC-2017_Training_Part1_GroundTruth").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"is missing.*\(and 3 more"):
        find_cases(SKIN, skin_folder)


def test_masks_without_images_are_left_out_and_said(skin_folder, capsys):
    (skin_folder / "ISIC-2017_Training_Data" / "ISIC_0000001.jpg").unlink()
    assert len(find_cases(SKIN, skin_folder)) == 4
    said = capsys.readouterr().err
    assert "warning: " in said and "ISIC_0000001_segmentation.png: has no image and is left out" in said
    cases, (fault,) = discover(SKIN, skin_folder)
    assert len(cases) == 4 and fault.severity == "warning" and fault.file.name == "ISIC_0000001_segmentation.png"


def test_heart_layout(heart_folder):
    cases = find_cases(HEART, heart_folder)
    assert [case.id for case in cases] == ["ct_test_2001", "ct_train_1001", "ct_train_1002", "ct_train_1003"]
    assert [case.label is None for case in cases] == [True, False, False, False]


def test_heart_label_may_be_missing(heart_folder):
    (heart_folder / "ct_train" / "ct_train_1002_label.nii.gz").unlink()
    assert [case.id for case in find_cases(HEART, heart_folder) if case.label is None] == [
        "ct_test_2001", "ct_train_1002"]  # fmt: skip


def test_a_training_volume_without_its_label_is_told(heart_folder):
    assert discover(HEART, heart_folder)[1] == []
    (heart_folder / "ct_train" / "ct_train_1002_label.nii.gz").unlink()
    _, (fault,) = discover(HEART, heart_folder)
    assert fault.severity == "warning" and fault.file.name == "ct_train_1002_image.nii.gz"
    assert fault.sentence.endswith(
        "ct_train_1002_image.nii.gz: its label ct_train_1002_label.nii.gz is missing, while others have theirs: it is "
        "used as unlabelled"
    )
    for label in heart_folder.rglob("*_label.nii.gz"):  # a folder of images alone is as meant
        label.unlink()
    assert discover(HEART, heart_folder)[1] == []


def test_missing_empty_and_foreign_folders(tmp_path, files):
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        find_cases(SKIN, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: the folder is empty"):
        find_cases(SKIN, tmp_path / "empty")
    files.save_picture(tmp_path / "foreign" / "holiday.jpg", files.photograph())
    with pytest.raises(DataError, match=r"foreign: no file is named as.*--list"):
        find_cases(SKIN, tmp_path / "foreign")
    with pytest.raises(DataError, match=r"this is a file"):
        find_cases(SKIN, tmp_path / "foreign" / "holiday.jpg")
    with pytest.raises(DataError, match=r"foreign: no images"):
        find_cases(HEART, None, [tmp_path / "foreign"])


@pytest.mark.parametrize("ending", [".webp", ".jfif", ".JPE"])
def test_photographs_of_other_endings(ending, tmp_path, files):
    picture = files.save_picture(tmp_path / "ISIC_0000001.jpg", files.photograph())
    if ending == ".webp":
        picture.unlink()
        picture = files.save_picture(tmp_path / "ISIC_0000001.webp", files.photograph())
    picture = picture.rename(tmp_path / f"ISIC_0000001{ending}")
    files.save_picture(tmp_path / "ISIC_0000001_segmentation.png", files.mask())
    (case,) = find_cases(SKIN, tmp_path)
    assert case.image == picture and case.label is not None
    (case,) = find_cases(SKIN, None, [tmp_path])
    assert case.image == picture and read_image(case.image).shape == (20, 30, 3)


def test_what_may_be_meant_as_an_image_is_not_left_out_in_silence(tmp_path, files):
    for name in ("a.gif", "in/b.GIF", "c.png", "a_mask.gif"):
        files.save_picture(tmp_path / name, files.photograph())
    (tmp_path / "d.heic").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    cases, (fault,) = discover(SKIN, None, [tmp_path])
    assert [case.id for case in cases] == ["c"] and (fault.severity, fault.file) == ("warning", tmp_path)
    assert fault.sentence.startswith(f"{tmp_path}: left out: 3 files that are no image by the ending (.gif .heic)")
    (tmp_path / "c.png").unlink()
    with pytest.raises(DataError, match=r"no images \(.*; left out: 3 files that are no image"):
        discover(SKIN, None, [tmp_path])


def test_volumes_left_out_for_their_name_are_told(tmp_path, files):
    for name in ("a.nii.gz", "in/b.nii", "a_label.nii.gz"):
        files.save_volume(tmp_path / name, files.hearts()[0])
    assert discover(HEART, None, [tmp_path])[1] == []
    files.save_volume(tmp_path / "c_image.nii.gz", files.hearts()[0])
    (tmp_path / "d.nrrd").write_bytes(b"")
    cases, (ending, name) = discover(HEART, None, [tmp_path])
    assert [case.id for case in cases] == ["c"] and {ending.severity, name.severity} == {"warning"}
    assert "left out: 1 file that is no volume by the ending (.nrrd)" in ending.sentence
    assert "left out: 2 volumes such as a.nii.gz, as others there are named *_image.nii.gz" in name.sentence


def test_archives_unpacked_twice_count_once(skin_folder, tmp_path, capsys):
    before = find_cases(SKIN, skin_folder)
    shutil.copytree(skin_folder, tmp_path / "again")
    shutil.move(tmp_path / "again", skin_folder / "zz")
    shutil.copytree(skin_folder / "ISIC-2017_Test_v2_Data", tmp_path / "more")
    assert find_cases(SKIN, skin_folder, [tmp_path / "more"]) == before
    said = capsys.readouterr().err
    # Five images, four masks and the test image of "more": the first is named.
    assert "is a copy of" in said and "and is left out (and 9 more such files" in said
    assert {fault.severity for fault in discover(SKIN, skin_folder, [tmp_path / "more"])[1]} == {"warning"}


def test_two_files_with_one_id(skin_folder, files):
    copy = files.save_picture(skin_folder / "copy" / "ISIC_0000003.png", files.photograph())
    with pytest.raises(DataError, match=r"ISIC_0000003.jpg and .*copy/ISIC_0000003.png have one id"):
        find_cases(SKIN, skin_folder)
    copy.unlink()
    files.save_picture(skin_folder.parent / "more" / "ISIC_0000003.jpg", files.photograph(seed=5))
    with pytest.raises(DataError, match=r"ISIC_0000003.jpg and .*more/ISIC_0000003.jpg have one id"):
        find_cases(SKIN, skin_folder, [skin_folder.parent / "more"])


def test_unlabelled_folders_hold_any_image_but_no_mask(skin_folder, heart_folder, tmp_path, files):
    folder = tmp_path / "more"
    for name in ("deep/er/a.JPEG", "b.tif", "a_mask.png", "b_segmentation.png"):
        files.save_picture(folder / name.lower(), files.photograph())
    cases = find_cases(SKIN, skin_folder, [folder, skin_folder / "ISIC-2017_Test_v2_Data"])  # the second is no news
    assert [case.id for case in cases if case.label is None] == ["ISIC_0000009", "a", "b"]
    cases = find_cases(HEART, None, [heart_folder])
    assert len(cases) == 4 and all(case.label is None for case in cases)


def test_a_link_to_an_image_of_another_folder_is_that_image(skin_folder, tmp_path):
    image = find_cases(SKIN, skin_folder)[0].image
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "another_name.jpg").symlink_to(image)
    (tmp_path / "linked").symlink_to(image.parent)
    cases = find_cases(SKIN, skin_folder, [tmp_path / "more", tmp_path / "linked"])
    assert cases == find_cases(SKIN, skin_folder)


def test_real_paths_are_looked_up_by_folder_not_by_file(tmp_path, files, monkeypatch):
    for number in range(40):
        files.save_picture(tmp_path / "more" / f"{number}.png", files.photograph(4, 4))
    asked, look_up = [], os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda *given, **how: asked.append(given) or look_up(*given, **how))
    assert len(find_cases(SKIN, None, [tmp_path / "more"])) == 40
    assert len(asked) < 40


def test_folders_that_link_in_a_circle(skin_folder):
    (skin_folder / "loop").symlink_to(skin_folder)
    assert len(find_cases(SKIN, skin_folder)) == 5


def test_data_and_list_exclude_each_other(tmp_path):
    with pytest.raises(UsageError, match=r"--data and --list"):
        find_cases(SKIN, tmp_path, list_csv=tmp_path / "l.csv")
    with pytest.raises(UsageError, match=r"no data"):
        find_cases(SKIN, None)


def write_list(folder, text, encoding="utf-8"):
    path = folder / "list.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_list(skin_folder):
    data, truth = "ISIC-2017_Training_Data/ISIC_000000", "ISIC-2017_Training_Part1_GroundTruth/ISIC_000000"
    path = write_list(
        skin_folder,
        "Image;mask;group;split;age\n"
        f"{data}0.jpg;{truth}0_segmentation.png;p1;val;50\n"
        f"{data}1.jpg;{truth}1_segmentation.png;;;\n\n"
        f"{data}2.jpg;;p2;train;\n",
        "utf-8-sig",  # as Excel writes it
    )
    first, second, third = find_cases(SKIN, None, list_csv=path)
    assert (first.group, first.split, first.label.name) == ("p1", "validation", "ISIC_0000000_segmentation.png")
    assert (second.group, second.split) == ("ISIC_0000001", None)
    assert (third.label, third.group, third.split) == (None, "p2", "train")


def test_list_with_ids(tmp_path, files):
    for patient in "ab":
        files.save_picture(tmp_path / patient / "image.png", files.photograph())
    clash = write_list(tmp_path, "image,label\na/image.png,\nb/image.png,\n")
    with pytest.raises(DataError, match=r"a/image.png and .*b/image.png have one id, image.*column `id`"):
        find_cases(SKIN, None, list_csv=clash)
    path = write_list(tmp_path, "image,label,id\na/image.png,,a\nb/image.png,,b\n")
    assert [case.id for case in find_cases(SKIN, None, list_csv=path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must name the columns"),
        ('image,label\n"a.png,\n' + "b.png,b_mask.png\n" * 9000, r"is no line of a CSV file \(field larger .* a quote"),
        ("picture,label\nx,y\n", "line 1 must name the columns image and label"),
        ("image,label,mask\n", "line 1 must name"),
        ("image,label\n", "names no image"),
        ("image,label,id\nreal.png,,../a\n", r"list.csv, line 2: id .* must be a plain name"),
        ("image,label\nnone.png,\n", r"none.png: the image named in .*list.csv, line 2 does not exist"),
        ("image,label\nreal.png,none.png\n", r"none.png: the label named in .*list.csv, line 2 does not exist"),
        ("image,label,split\nreal.png,,maybe\n", "line 2: split 'maybe' is none of"),
        ("image,label\n,real.png\n", "line 2: no image named"),
    ],
)
def test_bad_lists(text, message, tmp_path, files):
    files.save_picture(tmp_path / "real.png", files.photograph())
    with pytest.raises(DataError, match=message):
        find_cases(SKIN, None, list_csv=write_list(tmp_path, text))


def test_list_that_is_no_text(tmp_path, files):
    with pytest.raises(DataError, match=r"no such list"):
        find_cases(SKIN, None, list_csv=tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"not UTF-8"):
        find_cases(SKIN, None, list_csv=files.save_picture(tmp_path / "p.png", files.photograph()))


def test_discover_lists_every_fault(skin_folder):
    for path in list((skin_folder / "ISIC-2017_Training_Part1_GroundTruth").iterdir())[:2]:
        path.unlink()
    cases, faults = discover(SKIN, skin_folder)
    assert len(cases) == 5 and len(faults) == 2


def challenge(root, files, year="ISIC2018_Task1-2", truth="ISIC2018_Task1", parts=("Training", "Validation", "Test")):
    for part, numbers in zip(parts, ((1, 2, 3), (4,), (5, 6))):
        for number in numbers:
            name = f"ISIC_000000{number}"
            files.save_picture(root / f"{year}_{part}_Input" / f"{name}.jpg", files.photograph(seed=number))
            files.save_picture(root / f"{truth}_{part}_GroundTruth" / f"{name}_segmentation.png", files.mask())
    return root


def test_the_challenges_own_folders_are_its_splits(tmp_path, files):
    cases = find_cases(SKIN, challenge(tmp_path / "all", files))
    assert [case.split for case in cases] == ["train"] * 3 + ["validation"] + ["test"] * 2
    split = make_split(cases, SKIN)
    assert (len(split.train), len(split.validation), len(split.test)) == (3, 1, 2) and split.note is None
    alone = find_cases(SKIN, challenge(tmp_path / "training", files, parts=("Training",)))
    assert {case.split for case in alone} == {None}


@pytest.mark.parametrize("added", [" (1)", "(2)", "-copy", " - Copy (2)", "_1", " 2", "-20240131T101500Z-001"])
def test_what_unzip_tools_make_of_the_challenges_folders(added, tmp_path, files):
    root = challenge(tmp_path / "all", files)
    wanted = {case.id: case.split for case in find_cases(SKIN, root)}
    for folder in list(root.iterdir()):
        inner = folder.rename(root / "images")
        (root / f"{folder.name}{added}").mkdir()
        inner.rename(root / f"{folder.name}{added}" / "images")
    assert {case.id: case.split for case in find_cases(SKIN, root)} == wanted
    for mask in (root / f"ISIC2018_Task1_Test_GroundTruth{added}/images").iterdir():
        cases, faults = discover(SKIN, root)
        mask.unlink()
        assert len(discover(SKIN, root)[1]) == len(faults) + 1 and len(cases) == 6
    with pytest.raises(DataError, match=r"ISIC_0000005.jpg: the mask ISIC_0000005_segmentation.png is missing"):
        find_cases(SKIN, root)


def test_folders_that_are_no_challenges_keep_their_names(tmp_path, files):
    """data_2 is not the data_1 that groundtruth_1 is for."""
    for number in (1, 2):
        files.save_picture(tmp_path / f"data_{number}/ISIC_000000{number}.jpg", files.photograph(seed=number))
    files.save_picture(tmp_path / "groundtruth_1/ISIC_0000001_segmentation.png", files.mask())
    assert [case.label is None for case in find_cases(SKIN, tmp_path)] == [False, True]


def test_photographs_beside_the_challenges_folders_train_and_it_is_told(tmp_path, files):
    root = challenge(tmp_path, files)
    wanted = {case.id: case.split for case in find_cases(SKIN, root)}
    for number in (7, 8):
        files.save_picture(root / f"mine/ISIC_000000{number}.jpg", files.photograph(seed=number))
        files.save_picture(root / f"mine/ISIC_000000{number}_segmentation.png", files.mask())
    cases, (fault,) = discover(SKIN, root)
    assert {case.id: case.split for case in cases} == wanted | {"ISIC_0000007": "train", "ISIC_0000008": "train"}
    assert fault.severity == "warning" and fault.file.name == "ISIC_0000007.jpg"
    assert "splits are kept, so it trains (and 1 more): " in fault.sentence
    (root / "mine/ISIC_0000008_segmentation.png").unlink()
    assert "splits are kept, so it trains: " in discover(SKIN, root)[1][0].sentence
    split = make_split(cases, SKIN)
    assert (len(split.train), len(split.validation), len(split.test)) == (5, 1, 2)


def test_photographs_beside_training_folders_alone_leave_the_split_to_the_seed(tmp_path, files):
    root = challenge(tmp_path, files, parts=("Training",))
    files.save_picture(root / "mine/ISIC_0000008.jpg", files.photograph(seed=8))
    files.save_picture(root / "mine/ISIC_0000008_segmentation.png", files.mask())
    cases, faults = discover(SKIN, root)
    assert {case.split for case in cases} == {None} and faults == []


def test_json_lists(skin_folder, tmp_path):
    image, mask = (
        "ISIC-2017_Training_Data/ISIC_0000001.jpg",
        "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000001_segmentation.png",
    )
    other = image.replace("0001.", "0002.")
    path = skin_folder / "list.json"

    def listed(content):
        path.write_text(json.dumps(content))
        return [(case.id, case.label is not None, case.group, case.split) for case in find_cases(SKIN, None, (), path)]

    assert listed([{"image": image, "mask": mask, "group": "p", "split": "train", "age": 3}, {"image": other}]) == [
        ("ISIC_0000001", True, "p", "train"), ("ISIC_0000002", False, "ISIC_0000002", None),
    ]  # fmt: skip
    decathlon = {"name": "Skin", "training": [{"image": image, "label": mask}], "test": [other]}
    assert listed(decathlon) == [
        ("ISIC_0000001", True, "ISIC_0000001", "train"), ("ISIC_0000002", False, "ISIC_0000002", None),
    ]  # fmt: skip
    for content, message in (
        ({"images": []}, "wanted a JSON list"),
        ([{"image": 3}], r"list.json, entry 1: wanted an object"),
        ([], "names no image"),
    ):
        with pytest.raises(DataError, match=message):
            listed(content)
    path.write_text("[{")
    with pytest.raises(DataError, match=r"list.json: the list is no JSON"):
        find_cases(SKIN, None, (), path)
