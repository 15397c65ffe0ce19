"""`clustercl autoencode|cluster|pretrain|finetune RUN`: one stage of a run that train or another stage began."""

from pathlib import Path

import click

from clustercl.cli import options


def stage_command(name: str, stage: str, does: str) -> click.Command:
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

    text = (
        f"{does}\n\nOne that was interrupted goes on. One that is finished, or gets another setting, is done anew from "
        "its start, and the later stages, which rest on it, are discarded."
        f"\n\n\b\nExample:\n  clustercl {name} runs/skin"
    )
    callback = options.sets(options.devices(options.time_limit(callback)))
    if stage == "pretrain":
        callback = options.method(callback)
    if stage == "finetune":
        callback = options.label_fraction(callback)
    command = click.command(name, help=text)(callback)
    command.params.insert(0, click.Argument(["run"], type=options.PATH))
    return command


autoencode = stage_command("autoencode", "autoencoder", "Stage 1 of RUN: train the auto-encoder on unlabelled images.")
cluster = stage_command("cluster", "clusters", "Stage 2 of RUN: cluster the features into pseudo-classes.")
pretrain = stage_command("pretrain", "pretrain", "Stage 3 of RUN: contrastive pre-training of the encoder.")
finetune = stage_command("finetune", "finetune", "Stage 4 of RUN: fine-tune the U-Net on the labelled images.")
