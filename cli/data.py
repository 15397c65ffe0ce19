"""`clustercl data demo` and `clustercl data check`."""

import json
from pathlib import Path

import click


@click.group()
def command():
    """Write demo data; check a data set before anything is trained on it."""


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--task", type=click.Choice(["skin", "heart"]), required=True, help="Which layout to write.")
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
@click.option("--task", type=click.Choice(["skin", "heart"]), required=True, help="Which layout to expect.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--list", "list_csv", type=click.Path(path_type=Path), help="CSV of image,label paths instead of --data.")
@click.option("--unlabelled", type=click.Path(path_type=Path), multiple=True, help="Folder of images without labels.")
@click.option("--labels", help="Classes of your own, as RV=1,MYO=2,LV=3.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, and nothing else.")
def check(task, data, list_csv, unlabelled, labels, as_json):
    """Read every file and list every problem with its file. Exit 1 on errors, 0 when there are warnings only.

    \b
    Example:
      clustercl data check --task heart --data MMWHS
    """
    from clustercl.data.cases import find_cases
    from clustercl.data.check import check_data
    from clustercl.data.task import get_task

    definition = get_task(task, labels)
    report = check_data(definition, find_cases(definition, data, unlabelled, list_csv))
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.to_text())
    raise click.exceptions.Exit(1 if report.errors else 0)
