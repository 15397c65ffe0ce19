"""`clustercl data demo` and `clustercl data check`."""

import json
from pathlib import Path

import click

from clustercl.cli import options


@click.group()
def command():
    """Write demo data; check a data set before anything is trained on it."""


@command.command()
@click.argument("folder", type=options.PATH)
@options.task
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed writes the same images.")
@click.option("--cases", type=click.IntRange(min=1), help="Labelled cases; half as many unlabelled come too.")
def demo(folder: Path, task: str, seed: int, cases: int | None):
    """Write synthetic images with labels into FOLDER, in the layout of the real data set.

    \b
    Example:
      clustercl data demo demo_skin --task skin --cases 60
    """
    from clustercl.data.demo import write_demo

    write_demo(folder, task, seed=seed, cases=cases)
    click.echo(f"wrote {task} demo data to {folder}")


@command.command()
@options.task
@options.source
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, and nothing else.")
def check(task, data, list_csv, unlabelled, labels, as_json):
    """Read every file and list every problem with its file. Exit 1 on errors, 0 when there are warnings only.

    \b
    Example:
      clustercl data check --task heart --data MMWHS
    """
    from clustercl.data.cases import discover
    from clustercl.data.check import check_data
    from clustercl.data.task import get_task

    definition = get_task(task, labels)
    report = check_data(definition, *discover(definition, data, unlabelled, list_csv))
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.to_text())
    raise click.exceptions.Exit(1 if report.errors else 0)
