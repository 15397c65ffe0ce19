"""`clustercl evaluate RUN`: metrics of a run's network."""

import json
from pathlib import Path

import click

from clustercl.cli import options


@click.command()
@click.argument("run", type=options.PATH)
@click.option("--data", type=options.PATH, help="Evaluate on every labelled case of this folder instead.")
@click.option(
    "--list", "list_csv", type=options.PATH, help="Evaluate on the labelled cases of this CSV or JSON instead."
)
@click.option("--out", type=options.PATH, help="Folder for metrics.json, per_case.csv and masks/.")
@click.option("--overwrite", is_flag=True, help="Replace results that are in --out already.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON, and nothing else.")
@options.one_device
def command(
    run: Path,
    data: Path | None,
    list_csv: Path | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    devices,
):
    """Metrics of the fine-tuned network of RUN on its test split, or on other labelled cases.

    \b
    Examples:
      clustercl evaluate runs/skin
      clustercl evaluate runs/skin --data PH2 --out ph2_results --json
    """
    from clustercl.training.evaluate import evaluate_run

    metrics = evaluate_run(run, data, list_csv, out, devices, save_masks=out is not None, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(metrics, indent=2))
        return
    from clustercl.evaluation.metrics import table

    click.echo(table(metrics))
