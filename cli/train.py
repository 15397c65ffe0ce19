"""`clustercl train`: all stages of the method, one after another."""

from pathlib import Path

import click

from clustercl.cli import options


@click.command()
@options.task
@options.source
@options.groups
@click.option("--out", type=options.PATH, required=True, help="Folder of the run; an unfinished one goes on.")
@options.preset
@options.method
@options.label_fraction
@options.fold
@click.option(
    "--encoder", type=options.PATH, help="Weights that the encoder begins with, a state dict; random without."
)
@click.option("--seed", type=int, help="Fixes split, weights, order and augmentation.")
@click.option("--deterministic", is_flag=True, default=None, help="Only deterministic algorithms, slower on GPUs.")
@click.option("--config", "toml_path", type=options.PATH, help="TOML file of settings.")
@options.sets
@options.training
@options.devices
@options.time_limit
def command(
    task: str,
    data: Path | None,
    unlabelled: tuple[Path, ...],
    list_csv: Path | None,
    labels: str | None,
    groups: Path | None,
    out: Path,
    preset: str | None,
    method: str | None,
    label_fraction: float | None,
    fold: str | None,
    encoder: Path | None,
    seed: int | None,
    deterministic: bool | None,
    toml_path: Path | None,
    sets: tuple[str, ...],
    own_sets: list[str],
    devices,
    time_limit: str | None,
):
    """Train all stages: auto-encoder, clustering, contrastive pre-training, segmentation, evaluation.

    Started again with the same --out, it goes on where it stopped. Without --data it uses demo data of the task.

    \b
    Examples:
      clustercl train --task skin --preset tiny --out runs/first
      clustercl train --task skin --data ISIC2018 --unlabelled more_photographs --out runs/skin
      clustercl train --task heart --data MMWHS --gpus 4 --out runs/heart
      torchrun --nproc-per-node 4 -m clustercl train --task heart --data MMWHS --out runs/heart
      clustercl train --task heart --list cases.csv --labels RV=1,MYO=2,LV=3 --set data.intensity=zscore --out runs/mr
    """
    from clustercl.training.config import resolve
    from clustercl.training.pipeline import train

    config = resolve(
        task,
        preset,
        toml_path,
        [*own_sets, *sets],
        method=method,
        label_fraction=label_fraction,
        fold=fold,
        seed=seed,
        deterministic=deterministic,
    )
    train(
        config,
        out,
        data,
        unlabelled,
        list_csv,
        labels,
        devices,
        time_limit=options.seconds(time_limit),
        encoder=encoder,
        groups=groups,
    )
