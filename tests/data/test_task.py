import json

import numpy as np
import pytest

from clustercl.data.task import Task, get_task
from clustercl.errors import DataError, UsageError


def test_heart_values_and_the_alias():
    task = get_task("heart")
    stored = np.array([0, 500, 600, 420, 550, 205, 820, 850, 421], np.int16)
    assert task.to_index(stored, "f").tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 3]
    assert task.to_index(stored.astype(np.float32), "f").tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 3]
    assert task.num_classes == 8
    back = task.to_values(np.arange(8, dtype=np.uint8))
    assert back.dtype == np.int16 and back.tolist() == [0, 500, 600, 420, 550, 205, 820, 850]


def test_skin_threshold():
    task = get_task("skin")
    assert task.to_index(np.array([[0, 127, 128, 255]], np.uint8), "f").tolist() == [[0, 0, 1, 1]]
    assert task.to_values(np.array([0, 1])).tolist() == [0, 255]
    assert task.to_values(np.array([0, 1])).dtype == np.uint8
    # A mask of 0 and 1 would otherwise be read as empty, silently.
    for top in (1, 38, 127):
        wanted = rf"m.png: the largest value of the mask is {top}, .*--labels lesion={top}$"
        with pytest.raises(DataError, match=wanted):
            task.to_index(np.array([[0, top]], np.uint8), "m.png")
    assert task.to_index(np.array([[0, 20000, 65535]], np.int64), "f").tolist() == [[0, 0, 1]]  # 16 bits


@pytest.mark.parametrize(
    "stored", [np.array([0, 999]), np.array([0, -3]), np.array([0, 7], np.uint8), np.array([True, False])]
)
def test_values_outside_are_named(stored):
    bad = next(int(value) for value in stored if value)
    with pytest.raises(DataError, match=rf"x_label.nii.gz: label value {bad} outside task heart .*205 MYO.*--labels"):
        get_task("heart").to_index(stored, "x_label.nii.gz")


def test_fractions_are_no_labels():
    with pytest.raises(DataError, match=r"whole numbers"):
        get_task("heart").to_index(np.array([0.0, 0.5]), "f")


def test_own_labels():
    task = get_task("heart", "RV=1, MYO=2,LV=3")
    assert task.classes == ("RV", "MYO", "LV") and task.num_classes == 4
    assert task.to_index(np.array([3, 1, 0, 2], np.uint8), "f").tolist() == [3, 1, 0, 2]
    skin = get_task("skin", "lesion=1")
    assert skin.to_index(np.array([0, 1], np.uint8), "f").tolist() == [0, 1]


@pytest.mark.parametrize("labels", ["RV", "RV=", "=1", "RV=0", "RV=x", "RV=1,RV=2", "RV=1,LV=1", "", "RV=-1"])
def test_malformed_labels(labels):
    with pytest.raises(UsageError, match=r"--labels"):
        get_task("heart", labels)


def test_unknown_task():
    with pytest.raises(UsageError, match=r"unknown task 'liver'.*skin, heart"):
        get_task("liver")


@pytest.mark.parametrize("task", [get_task("skin"), get_task("heart"), get_task("heart", "A=40000")])
def test_round_trip_through_json(task):
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task
    assert task.to_values(np.array([1]))[0] == task.values[0]
