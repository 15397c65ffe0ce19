"""`clustercl config`: the settings that a training would have."""

from pathlib import Path

import click

from clustercl.cli import options


@click.command()
@options.task
@options.preset
@click.option("--config", "toml_path", type=options.PATH, help="TOML file of settings that overrule the preset's.")
@options.sets
def command(task: str, preset: str | None, toml_path: Path | None, sets: tuple[str, ...]):
    """Print every setting with its value and what it means, as TOML that --config reads.

    They are those of one training: what a file says in [methods.NAME.SECTION] counts for --set method=NAME.

    \b
    Examples:
      clustercl config --task heart > heart.toml
      clustercl config --task skin --config docs/results/skin/config.toml --set method=mae
    """
    from clustercl.training.config import resolve
    from clustercl.training.toml import to_toml

    click.echo(to_toml(resolve(task, preset, toml_path, sets)), nl=False)
