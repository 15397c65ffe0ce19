"""To the prepared grid and back: orientation exact, centres aligned, values where they belong."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import torch

from clustercl.data import prepare
from clustercl.data.cases import Case
from clustercl.data.prepare import (
    Geometry,
    grid_affine,
    grid_shape,
    prepare_case,
    prepare_image_array,
    prepare_label_array,
    resample,
    restore,
    to_float,
)
from clustercl.data.read import Volume
from clustercl.data.settings import DataSettings
from clustercl.data.task import get_task
from clustercl.errors import UsageError

SKIN, HEART = get_task("skin"), get_task("heart")
AXES = ["".join(codes) for order in permutations(("RL", "AP", "SI")) for codes in product(*order)]


def affine_of(codes: str, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    """An affine whose array axes point to these directions, with a translation."""
    affine = np.zeros((4, 4))
    for column, (code, size) in enumerate(zip(codes, spacing)):
        row = next(index for index, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[row, column] = size if code in "RAS" else -size
    affine[:, 3] = [-7, 5, 3, 1]
    return affine


def one_hot(index: torch.Tensor, count: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(index.long(), count).movedim(-1, 0).float()


def dice(a, b) -> float:
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


def test_photographs_are_not_copied_beside_the_one_that_was_read(monkeypatch):
    seen = []
    monkeypatch.setattr(prepare, "resample", lambda picture, shape: seen.append(picture) or resample(picture, shape))
    source = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image, _ = prepare_image_array(source, SKIN, DataSettings(size=32))
    assert seen[0].data_ptr() == source.ctypes.data
    source.flags.writeable = False  # as Pillow gives them
    for same in (source, source[::-1, ::-1][::-1, ::-1]):
        assert torch.equal(prepare_image_array(same, SKIN, DataSettings(size=32))[0], image)
    turned, _ = prepare_image_array(source[::-1], SKIN, DataSettings(size=32))
    assert torch.equal(turned, prepare_image_array(source[::-1].copy(), SKIN, DataSettings(size=32))[0])


def test_there_are_48_orientations():
    assert len(set(AXES)) == 48


@pytest.mark.parametrize("codes", AXES)
def test_every_orientation_comes_back_exactly(codes):
    index = np.random.default_rng(0).integers(0, 8, (5, 6, 7)).astype(np.uint8)
    settings = DataSettings(spacing=(1, 1, 1))
    volume = Volume(index.astype(np.int16), affine_of(codes))
    image, geometry = prepare_image_array(volume, HEART, DataSettings(spacing=(1, 1, 1), intensity="minmax"))
    label = prepare_label_array(index, geometry, image.shape[1:])
    # Right, anterior, superior: a voxel with known place in mm is where RAS order puts it.
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(index, volume.affine))
    assert np.array_equal(label.numpy(), np.asarray(canonical.dataobj))
    assert torch.allclose(image[0] * 7, label.float(), atol=1e-5)
    assert np.allclose(grid_affine(geometry, image.shape[1:]), canonical.affine)
    restored = restore(one_hot(label, 8), geometry, settings)
    assert restored.dtype == np.uint8 and np.array_equal(restored, index)


@pytest.mark.parametrize(
    ("codes", "spacing"), [("RAS", (1.5, 1.5, 10)), ("PIR", (0.4, 0.9, 0.6)), ("LPS", (3, 2, 1.25))]
)
def test_smooth_shapes_survive_the_round_trip(codes, spacing):
    shape = tuple(int(90 / size) for size in spacing)
    affine = affine_of(codes, spacing)
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * spacing
    index = np.zeros(shape, np.uint8)
    index[((place - 45) ** 2).sum(-1) < 34**2] = 1
    index[((place - [45, 30, 50]) ** 2).sum(-1) < 18**2] = 2
    settings = DataSettings(spacing=(3, 3, 3))
    geometry = Geometry(shape, affine, spacing)
    label = prepare_label_array(index, geometry, grid_shape(geometry, settings))
    restored = restore(one_hot(label, 3), geometry, settings)
    assert restored.shape == shape
    for value in (1, 2):
        assert dice(restored == value, index == value) > 0.9


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA"])
def test_centres_lie_where_the_affine_says(codes):
    """A ramp in mm keeps its value at each centre; linear interpolation is exact on it away from the rim."""
    spacing, shape = (1.0, 2.0, 0.8), (30, 18, 40)
    affine = affine_of(codes, spacing)
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    slope = np.array([0.3, -0.2, 0.5])
    ramp = ((indices @ affine[:3, :3].T + affine[:3, 3]) @ slope).astype(np.float32)
    settings = DataSettings(spacing=(1.5, 1.5, 1.5), intensity="hu", hu_window=(-100, 100))
    image, geometry = prepare_image_array(Volume(ramp, affine), HEART, settings)
    grid = grid_affine(geometry, image.shape[1:])
    new = np.stack(np.meshgrid(*map(np.arange, image.shape[1:]), indexing="ij"), -1)
    expected = (new @ grid[:3, :3].T + grid[:3, 3]) @ slope
    inner = (slice(2, -2),) * 3
    # Anti-aliasing weights are sampled, so a ramp is kept to a few hundredths of a voxel; half a voxel would be 0.15.
    assert np.abs(image[0].numpy()[inner] * 200 - 100 - expected[inner]).max() < 0.04
    assert np.allclose(np.abs(grid[:3, :3]) @ image.shape[1:], np.abs(affine[:3, :3]) @ shape)  # the field of view


def test_nearest_labels_agree_with_torch():
    label = np.random.default_rng(1).integers(0, 4, (9, 13, 6)).astype(np.uint8)
    geometry = Geometry(label.shape, np.eye(4), (1.0, 1.0, 1.0))
    ours = prepare_label_array(label, geometry, (5, 20, 6))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(label)[None, None].float(), (5, 20, 6), mode="nearest-exact"
    )
    assert torch.equal(ours.float(), theirs[0, 0])


def test_growing_is_trilinear():
    image = torch.rand(2, 5, 6, 7)
    theirs = torch.nn.functional.interpolate(image[None], (9, 6, 15), mode="trilinear", align_corners=False)[0]
    assert torch.allclose(resample(image, (9, 6, 15)), theirs, atol=1e-6)  # order of float32 sums


def by_definition(image, shape):
    """Triangles around the new centres, as wide as the coarser of the two grids, along one axis after another."""
    for axis, new in enumerate(shape, start=1):
        scale = image.shape[axis] / new
        apart = (torch.arange(image.shape[axis]) + 0.5) - ((torch.arange(new) + 0.5) * scale)[:, None]
        weights = (1 - apart.abs() / max(1, scale)).clamp_min(0).double()
        weights /= weights.sum(1, keepdim=True)
        image = torch.tensordot(image.double(), weights, ([axis], [1])).movedim(-1, axis)
    return image.float()


@pytest.mark.parametrize(
    ("old", "new"),
    [((5, 7, 1), (9, 13, 1)), ((5, 7, 1), (4, 3, 1)), ((5, 7, 3), (9, 13, 1)), ((5, 7, 3), (9, 1, 1)),
     ((5, 1, 1), (9, 1, 1)), ((5, 7, 1), (5, 13, 2)), ((5, 7, 3), (9, 13, 5)), ((6, 1), (12, 1)), ((6, 1), (3, 1)),
     ((6, 4), (3, 1)), ((6, 4), (6, 1)), ((1, 1), (8, 8)), ((6, 4), (1, 1))],
)  # fmt: skip
def test_one_slice_and_one_column_are_resampled_as_any_other(old, new):
    """Torch 2.13 gives all rows of one column its first: of a volume of one slice every row was the first one."""
    image = torch.rand(2, *old)
    assert torch.allclose(resample(image, new), by_definition(image, new), atol=1e-6)  # float32 sums


def test_shrinking_averages_noise_away():
    noise = torch.randn(1, 64, 64, 64)
    assert resample(noise, (16, 16, 16)).std() < 0.15  # a quarter of the size: about 4**-1.5


def test_intensities():
    array = np.array([-2000, -200, 200, 600, 3000, 0], np.int16).reshape(1, 2, 3)
    volume = Volume(array, np.eye(4))

    def values(intensity):
        return prepare_image_array(volume, HEART, DataSettings(spacing=(1, 1, 1), intensity=intensity))[0].ravel()

    assert values("auto").tolist() == values("hu").tolist() == [0, 0, 0.5, 1, 1, 0.25]
    assert values("minmax").tolist() == pytest.approx([0, 0.36, 0.44, 0.52, 1, 0.4])
    assert float(values("zscore").mean()) == pytest.approx(0, abs=1e-6)
    assert float(values("zscore").std(correction=0)) == pytest.approx(1, abs=1e-5)
    flat = Volume(np.full((2, 2, 2), 5, np.int16), np.eye(4))
    for intensity in ("zscore", "minmax", "hu"):
        assert prepare_image_array(flat, HEART, DataSettings(intensity=intensity))[0].isfinite().all()


@pytest.mark.parametrize(("codes", "spacing"), [("PIR", (0.5, 0.7, 1.3)), ("LPS", (1, 1, 1)), ("SRA", (2.5, 0.4, 1))])
def test_slabs_of_any_size_give_the_bits_of_the_whole_in_their_memory(codes, spacing, monkeypatch):
    array = np.random.default_rng(0).integers(-900, 900, (31, 24, 17), dtype=np.int16)
    volume = Volume(array, affine_of(codes, spacing))
    settings = DataSettings(spacing=(1, 1, 1), intensity="minmax")
    image, geometry = prepare_image_array(volume, HEART, settings)
    probabilities = torch.rand(8, *image.shape[1:])
    index = restore(probabilities, geometry, settings)
    assert index.shape == array.shape and index.dtype == np.uint8 and index.flags.c_contiguous
    made = []
    for slab in (1, 2000, 5000):  # a slice each, some slices and a last slab of fewer
        monkeypatch.setattr(prepare, "SLAB", slab)
        assert torch.equal(prepare_image_array(volume, HEART, settings)[0], image)
        with monkeypatch.context() as patch:
            patch.setattr(prepare, "resample", lambda *args: made.append(resample(*args)) or made[-1])
            told = []
            assert np.array_equal(restore(probabilities, geometry, settings, told.append), index)
        assert told[0] == "back to its own grid, 0%" and len(told) == len({*told}) >= 3
        own = [values for values in made if len(values) == 1]  # but the first, along the last axis, of all classes
        assert max(values.numel() for values in own) <= max(slab, 31 * 24)
        made.clear()


def test_photographs(tmp_path, files):
    case = Case("x", files.save_picture(tmp_path / "x.png", files.photograph(60, 90)), tmp_path / "m.png")
    label = np.zeros((60, 90), np.uint8)
    label[20:45, 30:70] = 255
    files.save_picture(case.label, label)
    settings = DataSettings(size=48)
    item = prepare_case(case, SKIN, settings)
    assert item.image.shape == (3, 48, 48) and item.image.dtype == torch.uint8
    assert item.label.shape == (48, 48) and item.label.unique().tolist() == [0, 1]
    assert item.geometry == Geometry((60, 90), None, (1.0, 1.0))
    restored = restore(one_hot(item.label, 2), item.geometry, settings)
    assert restored.shape == (60, 90) and dice(restored, label > 0) > 0.95
    assert to_float(item.image).max() <= 1 and to_float(item.image).dtype == torch.float32
    assert prepare_case(case, SKIN, settings, with_label=False).label is None
    with pytest.raises(UsageError, match=r"data.intensity=hu applies to volumes"):
        prepare_case(case, SKIN, DataSettings(intensity="hu"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 4},
        {"spacing": (1, 1)},
        {"spacing": (1, 0, 1)},
        {"patch": (96, 96, 2)},
        {"intensity": "ct"},
        {"hu_window": (5, 5)},
    ],
)
def test_wrong_settings(wrong):
    with pytest.raises(UsageError, match=rf"data\.{next(iter(wrong))}: wanted"):
        DataSettings(**wrong)


def test_settings_from_lists():
    settings = DataSettings(patch=[32, 32, 16])
    assert settings.patch == (32, 32, 16) == settings.spatial_shape(HEART) and hash(settings)
    assert settings.spatial_shape(SKIN) == (256, 256)
