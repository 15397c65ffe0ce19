"""From a prepared image to class probabilities on its grid."""

from collections.abc import Callable
from itertools import count

import torch

from clustercl.data.settings import DataSettings
from clustercl.data.task import Task
from clustercl.data.units import pad_to

WINDOWS_AT_ONCE = {"cpu": 1, "cuda": 4}  # one fills every core, four take 4.5 GB with the default network


@torch.no_grad()
def predict_probabilities(
    network: torch.nn.Module,
    image: torch.Tensor,
    settings: DataSettings,
    task: Task,
    device: torch.device | str,
    overlap: float = 0.5,
    tell: Callable[[str], None] = lambda doing: None,
) -> torch.Tensor:
    """Probabilities (k+1, *spatial) float32 on the CPU for one image (c, *spatial) float32; the network in eval mode.

    Photographs go through in one pass. Volumes go window by window (`settings.patch`, the given overlap, each window
    weighted by a Gaussian around its centre: MONAI's sliding_window_inference); one that is smaller than the window is
    filled up with its smallest value, as it was in training. `tell` hears of each window before it is computed.
    """
    if task.spatial_dims == 2:
        batch = image[None].to(device, memory_format=torch.channels_last)
        return network(batch).float().softmax(1)[0].cpu()
    from monai.inferers import sliding_window_inference

    number = count()

    def probabilities(windows: torch.Tensor) -> torch.Tensor:
        tell(f"segmenting, window {1 + next(number) * at_once}")
        return network(windows.to(memory_format=torch.channels_last_3d)).float().softmax(1)

    shape = image.shape[1:]
    at_once = WINDOWS_AT_ONCE.get(torch.device(device).type, 1)
    padded = pad_to(image, settings.patch, float(image.min()))
    # Windows are computed on the device and collected on the host: a whole volume of all classes need not fit a GPU.
    whole = sliding_window_inference(
        padded[None],
        settings.patch,
        at_once,
        probabilities,
        overlap=overlap,
        mode="gaussian",
        sw_device=torch.device(device),
        device=torch.device("cpu"),
    )
    return whole[0][(slice(None), *(slice(length) for length in shape))]
