"""Whether the clustering that a run is to come to fits into memory."""

import torch

from clustercl.errors import RunError
from clustercl.ops.linkage import lacking_memory
from clustercl.training.config import Config


def require_room(config: Config, units: int, device: torch.device) -> None:
    """RunError where so many units cannot have the matrix of distances that their linkage wants: told before other
    stages are trained for hours, or thrown away."""
    linkage = config.cluster.linkage
    d = config.model.code_dim if config.cluster.feature == "code" else config.model.features[-1]
    lacking = lacking_memory(linkage, units, d, device)
    if lacking is not None:
        wanted, there = (1e-9 * size for size in lacking)
        raise RunError(f"cluster.linkage={linkage}: the distances of {units} units want {wanted:.1f} GB of memory, and "
                       f"{there:.1f} GB are there: take ward or single, which keep none, as by "
                       "--set cluster.linkage=ward")  # fmt: skip
