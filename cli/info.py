"""`clustercl info`: what is installed, which devices there are, which kernels are active and why."""

import json

import click

PACKAGES = ("clustercl", "torch", "numpy", "monai", "lightning-fabric", "scikit-learn", "scipy", "nibabel", "click")


def collect() -> dict:
    import os
    import platform
    from importlib import metadata

    import torch

    from clustercl.ops._extension import build_info

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    build = build_info()
    if "missing" in build:
        cpu = cuda = f"blocked torch code, slow: {build['missing']}"
    else:
        forced = os.environ.get("CLUSTERCL_CPU")
        why = f"forced by CLUSTERCL_CPU={forced}" if forced else "the best this CPU has"
        cpu = f"compiled, {build['cpu']} ({why})"
        cuda = "compiled" if build["cuda"] else f"blocked torch code, slow: CUDA kernels {build['cuda_reason']}"
    return {
        "versions": versions,
        "devices": {"cpu_threads": torch.get_num_threads(), "gpus": gpus, "torch_cuda": torch.version.cuda},
        "kernels": {"cpu": cpu, "cuda": cuda},
        "build": build,
    }


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
        click.echo(f"{name:18} {version}")
    devices = found["devices"]
    click.echo(f"{'CPU threads':18} {devices['cpu_threads']}")
    click.echo(f"{'GPUs':18} {', '.join(devices['gpus']) or 'none visible'} (torch CUDA: {devices['torch_cuda']})")
    click.echo(f"{'kernels on CPU':18} {found['kernels']['cpu']}")
    click.echo(f"{'kernels on CUDA':18} {found['kernels']['cuda']}")
