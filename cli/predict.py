"""`clustercl predict`: masks for new images."""

from pathlib import Path

import click

from clustercl.cli import options


@click.command()
@options.one_process
@click.argument("inputs", nargs=-1, required=True, type=options.PATH)
@click.option("--checkpoint", required=True, type=options.PATH, help="finetune/best.pt of a run.")
@click.option("--out", required=True, type=options.PATH, help="Folder for the masks.")
@options.device
@click.option("--overwrite", is_flag=True, help="Replace masks that are there already.")
def command(inputs: tuple[Path, ...], checkpoint: Path, out: Path, device: str, overwrite: bool):
    """Segment images or folders of them: PNG masks for photographs, NIfTI for volumes, laid exactly over the input.

    \b
    Examples:
      clustercl predict --checkpoint runs/skin/finetune/best.pt photographs/ --out masks/
      clustercl predict --checkpoint runs/heart/finetune/best.pt case1.nii.gz case2.nii.gz --out masks/
    """
    import torch

    from clustercl.errors import UsageError
    from clustercl.evaluation.memory import SMALLER, memory_advice_untrained
    from clustercl.evaluation.predict import predict_files

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no GPU is visible on this machine")
    with memory_advice_untrained("predict", torch.device(device), SMALLER, "the same command with"):
        written = predict_files(checkpoint, inputs, out, device, overwrite)
    click.echo(f"wrote {len(written)} mask{'s' * (len(written) != 1)} to {out}")
