"""`clustercl autoencode|cluster|pretrain|finetune RUN`: one stage of a run that train or another stage began."""

from pathlib import Path

import click

from clustercl.cli import options


def stage_command(name: str, stage: str, example: str, does: str) -> click.Command:
    """`example`: a setting that it may change."""

    def callback(
        run: Path,
        sets: tuple[str, ...],
        devices,
        time_limit: str | None,
        **own,
    ):
        from clustercl.training.pipeline import run_stage

        sets += tuple(f"{key}={value}" for key, value in own.items() if value is not None)
        run_stage(
            stage,
            run,
            sets=sets,
            devices=devices,
            time_limit=options.seconds(time_limit),
        )

    goes_on = "" if stage == "clusters" else "One that was interrupted goes on. "
    text = (
        f"{does}\n\n{goes_on}One that is finished, or gets another setting, is done anew from its start, and the later "
        f"stages, which rest on it, are discarded.\n\n\b\nExample:\n  clustercl {name} runs/skin --set {example}"
    )
    callback = options.sets(options.devices(options.time_limit(callback)), example)
    if stage == "pretrain":
        callback = options.method(callback)
    if stage == "finetune":
        callback = options.label_fraction(callback)
    command = click.command(name, help=text)(callback)
    command.params.insert(0, click.Argument(["run"], type=options.PATH))
    return command


autoencode = stage_command(
    "autoencode",
    "autoencoder",
    "autoencoder.steps=5000",
    "Stage 1 of RUN: train the auto-encoder on all images that may be learnt from.",
)
cluster = stage_command(
    "cluster", "clusters", "cluster.n_clusters=8", "Stage 2 of RUN: cluster the features into pseudo-classes."
)
pretrain = stage_command(
    "pretrain", "pretrain", "pretrain.temperature=0.2", "Stage 3 of RUN: contrastive pre-training of the encoder."
)
finetune = stage_command(
    "finetune", "finetune", "finetune.steps=2000", "Stage 4 of RUN: fine-tune the U-Net on the labelled images."
)
