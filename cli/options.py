"""Options that several commands share, each defined once."""

from pathlib import Path

import click

PATH = click.Path(path_type=Path)


def workers(function):
    """--workers."""
    text = "Threads that read images; by default one per core, up to 8 (3 for volumes). 0 reads without threads."
    return click.option("--workers", type=click.IntRange(min=0), help=text)(function)


def time_limit(function):
    """--time-limit."""
    text = "Save and stop before so long, as 3h30m or 03:30:00: a queue's limit."
    return click.option("--time-limit", metavar="TIME", help=text)(function)


def seconds(time_limit: str | None) -> float | None:
    """The option above in seconds."""
    from clustercl.training.interrupt import parse_limit

    return None if time_limit is None else parse_limit(time_limit)


def devices(function):
    """--gpus, --device, --processes, --workers."""
    for option in (
        workers,
        click.option("--processes", type=int, default=1, help="Processes on the CPU; only 1 so far."),
        click.option(
            "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Default: a GPU if any."
        ),
        click.option("--gpus", type=int, help="How many GPUs of this machine to use."),
    ):
        function = option(function)
    return function


def request(gpus: int | None, device: str, processes: int, workers: int | None = None):
    """The options above as a DeviceRequest."""
    from clustercl.training.devices import DeviceRequest

    return DeviceRequest(device=device, gpus=gpus, processes=processes, workers=workers)


def sets(function):
    """--set KEY=VALUE."""
    text = "Change one setting, as in --set pretrain.temperature=0.2; as often as needed."
    return click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=text)(function)


def source(function):
    """--data, --unlabelled, --list, --labels."""
    for option in (
        click.option("--labels", metavar="NAME=VALUE,...", help="Classes of your own, as RV=1,MYO=2,LV=3."),
        click.option("--list", "list_csv", type=PATH, help="CSV or JSON of image, label (group, split)."),
        click.option("--unlabelled", type=PATH, multiple=True, help="Folder of images without labels; repeatable."),
        click.option("--data", type=PATH, help="Folder of the data set."),
    ):
        function = option(function)
    return function


def task(function):
    """--task."""
    return click.option("--task", type=click.Choice(["skin", "heart"]), required=True, help="2D skin or 3D heart.")(
        function
    )


def method(function):
    """--method."""
    text = "Pre-training: pseudo-class (default), pseudo-class-attract, simclr, autoencoder, scratch."
    return click.option("--method", help=text)(function)


def fold(function):
    """--fold."""
    text = "Cross-validation: part K of N of the labelled groups tests; one run for each K."
    return click.option("--fold", metavar="K/N", help=text)(function)


def label_fraction(function):
    """--label-fraction."""
    text = "Share of the training labels that may be used; 0.1 is a tenth."
    return click.option("--label-fraction", type=float, help=text)(function)
