"""`clustercl bench loss|linkage`: micro-benchmarks against the peers that are installed."""

import json
from pathlib import Path

import click

from clustercl.cli import options


@click.group()
def command():
    """Time the kernels against naive torch, SciPy and whatever peers are installed; answers are compared first."""


def shared(function):
    """--sizes, --out, --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON, and nothing else."),
        click.option("--out", type=options.PATH, help="Folder for the row file, with machine, versions and commit."),
        click.option("--sizes", help="Numbers of rows, as 1024,4096."),
    ):
        function = option(function)
    return function


def parsed(sizes: str | None) -> dict:
    """The --sizes option as a keyword argument; none leaves the benchmark's own sizes."""
    if sizes is None:
        return {}
    try:
        numbers = [int(word) for word in sizes.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 2:
        raise click.UsageError(f"--sizes: wanted numbers from 2 on with commas between them, got {sizes!r}")
    return {"sizes": numbers}


@command.command()
@shared
def loss(sizes: str | None, out: Path | None, as_json: bool):
    """Forward and backward of the pseudo-class NT-Xent loss.

    \b
    Example:
      clustercl bench loss --sizes 1024,4096 --out bench
    """
    from clustercl.benchmarks.loss import run

    rows = run(out=out, **parsed(sizes))
    if as_json:
        click.echo(json.dumps(rows, indent=2))


@command.command()
@shared
def linkage(sizes: str | None, out: Path | None, as_json: bool):
    """Exact hierarchical clustering, all four linkages.

    \b
    Example:
      clustercl bench linkage --sizes 500,2000 --out bench
    """
    from clustercl.benchmarks.linkage import run

    rows = run(out=out, **parsed(sizes))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
