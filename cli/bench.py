"""`clustercl bench loss|linkage`: micro-benchmarks against the peers; `bench data|train`: reading and training."""

import json
from pathlib import Path

import click

from clustercl.cli import options


@click.group()
def command():
    """Time the kernels against naive torch, SciPy and whatever peers are installed, once answers agree; and training.

    \b
    Example:
      clustercl bench loss --sizes 1024,4096 --features 128
    """


def results(function):
    """--out, --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON, and nothing else."),
        click.option("--out", type=options.PATH, help="Folder for the row file, with machine, versions and commit."),
    ):
        function = option(function)
    return function


def sizes(function):
    """--sizes."""
    return click.option("--sizes", help="Numbers of rows, as 1024,4096.")(function)


def parsed(least: int = 2, **lists: str | None) -> dict:
    """Options such as --sizes 500,2000 as keyword arguments; one that is not given leaves the benchmark's own."""
    found = {}
    for name, words in lists.items():
        if words is None:
            continue
        try:
            found[name] = [int(word) for word in words.split(",")]
        except ValueError:
            found[name] = []
        if not found[name] or min(found[name]) < least:
            raise click.UsageError(f"--{name}: wanted numbers from {least} on with commas between them, got {words!r}")
    return found


@command.command()
@options.one_process
@sizes
@results
@click.option("--features", help="Numbers of features, as 128,512.")
@click.option("--repeats", type=click.IntRange(min=1), help="Timed repetitions; slow programs stop earlier.")
def loss(sizes: str | None, features: str | None, repeats: int | None, out: Path | None, as_json: bool):
    """Forward and backward of the pseudo-class NT-Xent loss: seconds, share of the machine's ceiling, memory.

    Against plain torch, torch.compile, blocked torch and pytorch-metric-learning, in float32 on all cores. All sizes
    take some ten minutes on two cores. --out gets loss.json and a plot, loss.png.

    \b
    Example:
      clustercl bench loss --sizes 1024,4096 --features 128 --out bench
    """
    from clustercl.benchmarks.loss import run
    from clustercl.benchmarks.loss_show import table

    found = run(out=out, **parsed(sizes=sizes, features=features), **({"repeats": repeats} if repeats else {}))
    click.echo(json.dumps(found["rows"], indent=2) if as_json else table(found))


@command.command()
@options.one_process
@sizes
@results
@click.option("--features", help="Numbers of features, as 32,128,512.")
@click.option("--methods", help="Linkages, as ward,average.")
def linkage(sizes: str | None, features: str | None, methods: str | None, out: Path | None, as_json: bool):
    """Exact hierarchical clustering, all four linkages: seconds and memory, against SciPy, scikit-learn, fastcluster.

    All sizes take some fifteen minutes on two cores. --out gets linkage.json and a plot, linkage.png.

    \b
    Example:
      clustercl bench linkage --sizes 500,2000 --methods ward,single --out bench
    """
    from clustercl.benchmarks.linkage import run
    from clustercl.benchmarks.linkage_show import table
    from clustercl.ops.linkage import METHODS

    chosen = METHODS if methods is None else methods.split(",")
    if wrong := [method for method in chosen if method not in METHODS]:
        raise click.UsageError(f"--methods: wanted some of {', '.join(METHODS)}, got {wrong[0]!r}")
    found = run(out=out, methods=chosen, **parsed(sizes=sizes, features=features))
    click.echo(json.dumps(found["rows"], indent=2) if as_json else table(found))


@command.command()
@options.one_process
@options.task
@click.option(
    "--cases", type=click.IntRange(min=3), help="Labelled cases of the demo data; half as many others come too."
)
@click.option("--data", type=options.PATH, help="Folder of a data set, instead of demo data of full size.")
@results
def data(task: str, cases: int | None, data: Path | None, out: Path | None, as_json: bool):
    """Checking, preparing and feeding images of full size: cases per second, memory, time spent waiting for data.

    \b
    Example:
      clustercl bench data --task skin --cases 24
    """
    from clustercl.benchmarks.data import run, table

    found = run(task, cases, data, out)
    click.echo(json.dumps(found["rows"], indent=2) if as_json else table(found))


@command.command()
@options.one_process
@options.task
@click.option("--preset", default="tiny", show_default=True, help="tiny, default or full.")
@click.option("--processes", help="Numbers of processes, or of GPUs where they are used, as 1,2 (the default).")
@click.option("--steps", type=click.IntRange(min=1), default=5, show_default=True, help="Timed steps of each stage.")
@options.device
@click.option("--data", type=options.PATH, help="Folder of a data set, instead of small demo data.")
@results
@options.sets
def train(
    task: str,
    preset: str,
    processes: str | None,
    steps: int,
    device: str,
    data: Path | None,
    out: Path | None,
    as_json: bool,
    sets: tuple[str, ...],
):
    """Steps and samples per second of each training stage, and what the time of a step is spent on.

    \b
    Examples:
      clustercl bench train --task skin
      clustercl bench train --task heart --preset default --processes 1,4
    """
    from clustercl.benchmarks.train import run, table

    chosen = parsed(1, processes=processes)
    found = run(task, preset, steps=steps, device=device, data=data, sets=sets, out=out, **chosen)
    click.echo(json.dumps(found["rows"], indent=2) if as_json else table(found))
