"""`clustercl report RUN`: one self-contained HTML page with pictures."""

from pathlib import Path

import click

from clustercl.cli import options


@click.command()
@options.one_process
@click.argument("run", type=options.PATH)
@click.option(
    "--out", type=options.PATH, help="File to write instead of RUN/report.html; one that is there must be a page."
)
def command(run: Path, out: Path | None):
    """Write RUN/report.html: metrics, curves, pseudo-classes and test cases on one page, and print its path.

    The page needs no network and holds all its pictures. Of a run that is not finished it shows what there is.

    \b
    Examples:
      clustercl report runs/skin
      clustercl report /mnt/colleague/runs/skin --out skin.html
    """
    from clustercl.report.html import write_report

    click.echo(write_report(run, out))
