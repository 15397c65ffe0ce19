"""`clustercl data demo`, `clustercl data check` and `clustercl data clean`."""

import json
from pathlib import Path

import click

from clustercl.cli import options


@click.group()
def command():
    """Write demo data; check a data set before anything is trained on it; empty the cache.

    \b
    Examples:
      clustercl data demo demo_skin --task skin
      clustercl data check --task skin --data demo_skin
    """


@command.command()
@options.one_process
@click.argument("folder", type=options.PATH)
@options.task
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed writes the same images.")
@click.option("--cases", type=click.IntRange(min=1), help="Labelled cases; half as many unlabelled come too.")
@click.option(
    "--size",
    type=click.Choice(["small", "full"]),
    default="small",
    show_default=True,
    help="full: photographs of 3000 x 2000 pixels, volumes of 512 x 512 x 250 voxels.",
)
def demo(folder: Path, task: str, seed: int, cases: int | None, size: str):
    """Write synthetic images with labels into FOLDER, in the layout of the real data set.

    \b
    Example:
      clustercl data demo demo_skin --task skin --cases 60
    """
    from clustercl.data.demo import write_demo

    write_demo(folder, task, seed=seed, cases=cases, full_size=size == "full")
    click.echo(f"wrote {task} demo data to {folder}")


@command.command()
@options.one_process
@options.task
@options.source
@options.workers
@click.option("--table", is_flag=True, help="Print a row for each case, of more than 100 cases too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, a row for each case, and no more.")
def check(task, data, list_csv, unlabelled, labels, workers, table, as_json):
    """Read every file, sum up what there is, and list every problem with its file. Exit 1 on errors, 0 when there are
    warnings only.

    \b
    Example:
      clustercl data check --task heart --data MMWHS
    """
    from clustercl.data.cases import discover
    from clustercl.data.check import check_data
    from clustercl.data.task import get_task

    definition = get_task(task, labels)
    report = check_data(definition, *discover(definition, data, unlabelled, list_csv), workers=workers)
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.to_text(table or None))
    raise click.exceptions.Exit(1 if report.errors else 0)


@command.command()
@options.one_process
def clean():
    """Remove all prepared images from the cache: $CLUSTERCL_CACHE, or clustercl in ~/.cache. Runs make theirs anew.

    \b
    Example:
      clustercl data clean
    """
    from clustercl.data.cache import Cache

    cache = Cache()
    count, size = cache.clean()
    click.echo(f"removed {count} prepared images and label maps, {1e-6 * size:.1f} MB, from {cache.folder}")
