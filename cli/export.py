"""`clustercl export`: a network or an encoder for another program."""

from pathlib import Path

import click

from clustercl.cli import options


@click.command()
@options.one_process
@click.argument("checkpoint", type=options.PATH)
@click.option("--to", required=True, metavar="FORMAT", help="monai, torchscript, onnx, or encoder (of any stage).")
@click.option("--out", type=options.PATH, required=True, help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already, but never one of a run.")
def command(checkpoint: Path, to: str, out: Path, overwrite: bool):
    """Write the network of CHECKPOINT, such as RUN/finetune/best.pt, for another program.

    \b
    Examples:
      clustercl export runs/skin/finetune/best.pt --to monai --out unet.pt
      clustercl export runs/skin/finetune/best.pt --to onnx --out unet.onnx
      clustercl export runs/skin/pretrain/best.pt --to encoder --out encoder.pt
    """
    from clustercl.models.export import export

    click.echo(export(checkpoint, to, out, overwrite))
