"""Finished runs made without training: a network with random weights, everything else as the stages write it."""

from pathlib import Path

import numpy as np
import pytest

SMALL = ["model.features=[4,8,8]", "model.code_dim=4", "cluster.n_clusters=3"]
SETS = {
    "skin": [*SMALL, "data.size=32"],
    "heart": [*SMALL, "data.spacing=[2,2,2]", "data.patch=[16,16,16]"],
}
NOTE = "a note that <must> be shown"


def write_skin(folder: Path, count: int) -> None:
    from PIL import Image

    rows, columns = np.mgrid[:40, :60]
    for number in range(count):
        disc = (rows - 20) ** 2 + (columns - 24 - number) ** 2 < (8 + number) ** 2
        image = np.where(disc[..., None], (90, 50, 40), (220, 170, 150)).astype(np.uint8)
        name = f"ISIC_{number:07d}"
        for place, array in (
            (f"ISIC-2017_Training_Data/{name}.jpg", image),
            (f"ISIC-2017_Training_Part1_GroundTruth/{name}_segmentation.png", disc * np.uint8(255)),
        ):
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


def write_heart(folder: Path, count: int) -> None:
    """Balls in LPS order with voxels of 2 x 2 x 3 mm."""
    import nibabel

    folder.mkdir(parents=True)
    x, y, z = np.mgrid[:26, :22, :14]
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    for number in range(count):
        distance = (x - 12) ** 2 + (y - 11) ** 2 + (1.5 * (z - 7)) ** 2
        label = np.where(distance < 20, 500, np.where(distance < 50 + 5 * number, 205, 0)).astype(np.int16)
        image = np.where(label > 0, 300, -100 + 10 * number).astype(np.int16)
        for array, what in ((image, "image"), (label, "label")):
            nibabel.save(nibabel.Nifti1Image(array, affine), folder / f"ct_train_{1001 + number}_{what}.nii.gz")


def build_run(folder: Path, task_name: str, count: int = 6) -> Path:
    """folder/data and folder/run: `count` cases, half of which test."""
    import json

    import torch

    from clustercl import cut_tree, linkage
    from clustercl.data.cache import prepare_cached
    from clustercl.data.cases import find_cases
    from clustercl.data.source import Source
    from clustercl.data.split import Split
    from clustercl.data.task import get_task
    from clustercl.data.units import make_units
    from clustercl.evaluation.evaluate import evaluate_cases
    from clustercl.files import save_npy, save_torch, write_csv, write_text
    from clustercl.models.checkpoint import FORMAT
    from clustercl.models.encoder import Encoder
    from clustercl.models.unet import UNet
    from clustercl.training.config import resolve
    from clustercl.training.run import RunFolder

    {"skin": write_skin, "heart": write_heart}[task_name](folder / "data", count)
    config, task = resolve(task_name, "tiny", sets=SETS[task_name]), get_task(task_name)
    run = RunFolder(folder / "run")
    run.write_config(config, Source.of(folder / "data", (), None, None))
    cases = find_cases(task, folder / "data")
    train, test = cases[: count // 2], cases[count // 2 :]
    ids = [case.id for case in train]
    run.write_split(Split(ids, ids[:1], ids[:1], [case.id for case in test], note=NOTE))

    prepared = prepare_cached(train, task, config.data, with_label=False, quiet=True)
    units = make_units(prepared, task, config.data)
    features = np.random.default_rng(0).normal(size=(len(units), 4)).astype(np.float32)
    tree = linkage(features)
    labels = cut_tree(tree, n_clusters=3)
    save_npy(run.clusters / "features.npy", features)
    save_npy(run.clusters / "linkage.npy", tree)
    rows = [(unit.id, unit.source, int(label)) for unit, label in zip(units, labels)]
    write_csv(run.clusters / "units.csv", ("unit", "source", "pseudo_class"), rows)

    torch.manual_seed(0)
    network = UNet(Encoder(task.spatial_dims, task.in_channels, (4, 8, 8), 0.0), task.num_classes).eval()
    header = {"format": FORMAT, "stage": "finetune", "step": 4, "best": 0.5, "config": config.to_dict()}
    save_torch(run.best("finetune"), header | {"task": task.to_dict(), "model": network.state_dict()})
    for stage in ("autoencoder", "pretrain", "finetune"):
        last = {"validation_dice" if stage == "finetune" else "validation_loss": 0.5}
        lines = [{"step": step, "loss": 1 / step, "lr": 1e-3} | (last if step == 4 else {}) for step in (2, 4)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_text(run.metrics(stage), text + '{"step": 6, "lo')  # as a kill leaves it
    evaluate_cases(network, test, task, config.data, "cpu", config.evaluation, run.evaluation, NOTE, quiet=True)
    return run.path


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """finished("skin"): a run to read; finished("skin", folder): one of its own, to break."""
    made: dict[str, Path] = {}

    def build(task: str, folder: Path | None = None) -> Path:
        if folder is not None:
            return build_run(folder, task)
        if task not in made:
            made[task] = build_run(tmp_path_factory.mktemp(task), task)
        return made[task]

    return build
