"""`clustercl compare`: several methods on the same data, from more and fewer labels."""

from pathlib import Path

import click

from clustercl.cli import options


@click.command()
@options.task
@options.source
@options.groups
@click.option("--out", type=options.PATH, default="runs/compare", show_default=True, help="Folder; goes on if there.")
@options.preset
@click.option("--methods", default="scratch,simclr,pseudo-class", show_default=True, help="Names as of train --method.")
@click.option("--label-fractions", default="0.1,1", show_default=True, help="Shares of the training labels.")
@click.option("--folds", type=int, default=1, show_default=True, help="Parts that test in turn; 1: one fixed split.")
@click.option("--seeds", default="0", show_default=True, help="As 0,1,2: of labelled cases, weights and order.")
@click.option("--baseline", help="What the others are tested against; default: simclr, else the first method.")
@click.option("--test-data", type=options.PATH, help="Another labelled folder to evaluate every network on as well.")
@click.option("--vary", multiple=True, metavar="KEY=V,V", help="Ablation: each of these values, one setting at a time.")
@click.option("--shard", default="1/1", metavar="I/N", help="Only part I of N of the runs; start one process for each.")
@click.option("--config", "toml_path", type=options.PATH, help="TOML file of settings.")
@options.sets
@options.training
@options.one_device
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
    methods: str,
    label_fractions: str,
    folds: int,
    seeds: str,
    baseline: str | None,
    test_data: Path | None,
    vary: tuple[str, ...],
    shard: str,
    toml_path: Path | None,
    sets: tuple[str, ...],
    own_sets: list[str],
    devices,
    time_limit: str | None,
):
    """Methods x label fractions x folds x seeds: a table with intervals and paired tests, results.csv, a figure.

    Stages that runs share run once. Started again, it goes on; with more methods, fractions or seeds, it adds them. The
    cases that validate and test are the same for every seed, and nothing is trained on a test image.

    \b
    Examples:
      clustercl compare --task skin --data ISIC2017 --unlabelled PH2 --preset tiny
      clustercl compare --task heart --data MMWHS --methods simclr,pseudo-class,mae --seeds 0,1,2 --out runs/heart
      clustercl compare --task skin --data ISIC2017 --methods pseudo-class --vary cluster.n_clusters=5,20 --out runs/k
    """
    from clustercl.evaluation.comparison import finished_methods
    from clustercl.report.comparison import write_comparison
    from clustercl.training.compare import compare
    from clustercl.training.grid import Grid, parse_vary

    names = tuple(name.strip() for name in methods.split(","))
    grid = Grid(task, preset, names, _numbers("--label-fractions", label_fractions, float), folds,
                _numbers("--seeds", seeds, int), toml_path, (*own_sets, *sets), parse_vary(vary))  # fmt: skip
    compared = list(dict.fromkeys(cell.name for cell in grid.cells()))
    baseline = baseline or ("simclr" if "simclr" in compared else compared[0])
    known = list(dict.fromkeys([*compared, *finished_methods(out)]))
    if baseline not in known:
        raise click.UsageError(f"--baseline: {baseline!r} is not compared, wanted one of {', '.join(known)}")

    def write() -> tuple[str | None, str | None]:
        other = None
        if test_data is not None:
            other = write_comparison(out, baseline, "evaluation_test_data", "_test_data", compared, test_data)
        return write_comparison(out, baseline, order=compared), other

    compare(grid, out, data, unlabelled, list_csv, labels, groups, test_data, shard, devices,
            options.seconds(time_limit), write)  # fmt: skip
    table, other = write()
    click.echo(table or f"no run of {baseline} is finished yet, so there is no table: {out}/results.csv has the rows")
    if other is not None:
        click.echo(f"On {test_data}:\n\n{other}")


def _numbers(option: str, text: str, kind: type) -> tuple:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        wanted = "whole numbers as 0,1,2" if kind is int else "numbers as 0.1,1"
        raise click.UsageError(f"{option}: wanted {wanted}, got {text!r}") from None
