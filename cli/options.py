"""Options that several commands share, each defined once."""

import functools
from pathlib import Path

import click


class _Path(click.Path):
    """A path that is not empty: to pathlib "" is the current folder, and a shell makes it of a variable not set."""

    def convert(self, value, param, ctx):
        if str(value) == "":
            self.fail("wanted a path, got an empty one, as of a shell variable that is not set", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)


def one_process(function):
    """Refuse to be one of several processes that torchrun or srun started: each would do all, and write the same files.
    `evaluate` and `compare` do so by themselves, the latter with what to do instead."""

    @functools.wraps(function)
    def call(*arguments, **options):
        from clustercl.launcher import require_one_process

        name = click.get_current_context().command_path.removeprefix("clustercl ")
        require_one_process(f"{name}: one process does it all", "start it without")
        return function(*arguments, **options)

    return call


def workers(function):
    """--workers."""
    text = "Threads that read images; by default one per core, up to 4 (3 for volumes). 0 reads without threads."
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
    """--gpus, --device, --processes, --nodes, --workers, given to the function as one DeviceRequest, `devices`."""
    nodes = "Machines; needs MASTER_ADDR, MASTER_PORT and NODE_RANK set. torchrun and srun need no such option."
    function = _requested(function, ("gpus", "device", "processes", "nodes", "workers"))
    for option in (
        workers,
        click.option("--nodes", type=int, help=nodes),
        click.option("--processes", type=int, help="Processes on the CPU, with --device cpu; one uses every core."),
        device,
        click.option("--gpus", type=int, help="How many GPUs of each machine to use."),
    ):
        function = option(function)
    return function


def one_device(function):
    """--device and --workers, given to the function as a DeviceRequest, `devices`."""
    return device(workers(_requested(function, ("device", "workers"))))


def device(function):
    """--device."""
    text = "Default: a GPU if any."
    return click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help=text)(function)


def _requested(function, names: tuple[str, ...]):
    @functools.wraps(function)
    def call(*arguments, **options):
        from clustercl.training.devices import DeviceRequest

        request = DeviceRequest(**{name: options.pop(name) for name in names})
        return function(*arguments, devices=request, **options)

    return call


def training(function):
    """--batch-size, --accumulate, --precision, --compile: given to the function as a list, `own_sets`, of the settings
    they stand for."""

    @functools.wraps(function)
    def call(*arguments, batch_size, accumulate, precision, compile_, **options):
        sets = [f"{stage}.{key}={value}" for key, value in (("batch_size", batch_size), ("accumulate", accumulate))
                for stage in ("autoencoder", "pretrain", "finetune") if value is not None]  # fmt: skip
        sets += [f'precision="{precision}"'] * (precision is not None) + ["compile=true"] * bool(compile_)
        return function(*arguments, own_sets=sets, **options)

    for option in (
        click.option("--compile", "compile_", is_flag=True, help="Compile the networks: minutes, then faster."),
        click.option(
            "--precision", type=click.Choice(["32", "16", "bf16"]), help="Default: bf16 where the GPU has it."
        ),
        click.option("--accumulate", type=int, help="Parts that a batch is computed in: less memory, the same result."),
        click.option("--batch-size", type=int, help="Samples per step of every stage, over all processes."),
    ):
        call = option(call)
    return call


def sets(function, example: str = "pretrain.temperature=0.2"):
    """--set KEY=VALUE."""
    text = f"Change one setting, as in --set {example}; as often as needed."
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


def groups(function):
    """--groups."""
    text = "CSV id,group of true groups of the images, such as a diagnosis, for oracle-class."
    return click.option("--groups", type=PATH, help=text)(function)


def task(function):
    """--task."""
    return click.option("--task", type=click.Choice(["skin", "heart"]), required=True, help="2D skin or 3D heart.")(
        function
    )


def preset(function):
    """--preset, None where it was not given: a file of settings may name another than the default."""
    text = "tiny (two CPU cores, minutes), default or full. Not given: that of --config, else default."
    return click.option("--preset", help=text)(function)


def method(function):
    """--method."""
    text = (
        "Pre-training: pseudo-class (default), pseudo-class-tree, pseudo-class-attract, random-class, oracle-class, "
        "simclr, g-simclr, byol, mae, autoencoder, scratch."
    )
    return click.option("--method", help=text)(function)


def fold(function):
    """--fold."""
    text = "Cross-validation: part K of N of the labelled groups tests; one run for each K."
    return click.option("--fold", metavar="K/N", help=text)(function)


def label_fraction(function):
    """--label-fraction."""
    text = "Share of the training labels that may be used; 0.1 is a tenth."
    return click.option("--label-fraction", type=float, help=text)(function)
