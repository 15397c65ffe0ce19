"""`clustercl info`: what is installed, which devices there are, which kernels are active and why."""

import json

import click

PACKAGES = ("clustercl", "torch", "numpy", "monai", "lightning-fabric", "scikit-learn", "scipy", "nibabel", "click")
OPS = ("contrastive_loss", "pairwise_distances", "linkage")


def collect() -> dict:
    import platform

    import torch

    from clustercl.benchmarks.record import version
    from clustercl.ops._extension import build_info

    versions = {name: version(name) or "not installed" for name in PACKAGES}
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **versions},
        "devices": {"cpu_threads": torch.get_num_threads(), "gpus": gpus, "torch_cuda": torch.version.cuda},
        "kernels": {op: {device: _kernel(op, device) for device in ("cpu", "cuda")} for op in OPS},
        "build": build_info(),
    }


def _kernel(op: str, device: str) -> str:
    """Which code computes the op on a device, and why."""
    import os

    from clustercl.ops._extension import build_info, cuda_loss_kernel, why_no_kernels

    reason = why_no_kernels(device)
    if reason is None:
        if device == "cuda":
            return cuda_loss_kernel() if op == "contrastive_loss" else "compiled"
        forced = os.environ.get("CLUSTERCL_CPU")
        why = f"forced by CLUSTERCL_CPU={forced}" if forced else "the best this CPU has"
        return f"compiled, {build_info()['cpu']} ({why})"
    if op == "contrastive_loss":
        return f"blocked torch operations, slow: {reason}"
    return f"none: {reason}" if device == "cpu" else f"computed on the CPU: {reason}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
def command(as_json: bool):
    """Show versions, devices, and which kernels are active and why.

    \b
    Example:
      clustercl info
    """
    found = collect()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, version in found["versions"].items():
        click.echo(f"{name:25} {version}")
    devices = found["devices"]
    click.echo(f"{'CPU threads':25} {devices['cpu_threads']}")
    click.echo(f"{'GPUs':25} {', '.join(devices['gpus']) or 'none visible'} (torch CUDA: {devices['torch_cuda']})")
    for op, kernels in found["kernels"].items():
        for device, kernel in kernels.items():
            click.echo(f"{op + ', ' + device:25} {kernel}")
