"""The numbers that choose the best checkpoint of each stage, on held-out cases, with the network in eval mode."""

from collections.abc import Sequence

import torch

from clustercl.data.augment import contrastive_views
from clustercl.data.prepare import Prepared, to_float
from clustercl.models.autoencoder import AutoEncoder
from clustercl.training.context import Context
from clustercl.training.settings import PretrainSettings

REPEATS = 4  # draws of views: one alone would let chance choose the checkpoint


def reconstruction_loss(model: AutoEncoder, images: torch.Tensor, batch_size: int, context: Context) -> float:
    """Mean squared error over units (b, c, *s), so many at a time."""
    total = 0.0
    for part in images.split(batch_size):
        part = context.to_device(part)
        total += float(torch.nn.functional.mse_loss(model(part).float(), part)) * len(part)
    return total / len(images)


def held_out_loss(model: torch.nn.Module, images: torch.Tensor, settings: PretrainSettings, context: Context) -> float:
    """The method's loss among held-out units (b, c, *s), the same views each time; their labels are unknown."""
    batches = [part for part in images.split(settings.batch_size) if len(part) > 1]
    total = 0.0
    for repeat in range(REPEATS):
        for number, part in enumerate(batches):
            seeds = torch.arange(len(part)) + settings.batch_size * (number + len(batches) * repeat)
            images = context.to_device(part)
            views = contrastive_views(
                images, seeds, settings.views, context.colour, scale=settings.view_scale, spacing=context.voxel
            )
            total += float(model(views, None, seeds)) * len(part)
    return total / (REPEATS * sum(len(part) for part in batches))


def mean_dice(network: torch.nn.Module, validation: Sequence[Prepared], context: Context) -> float:
    """Dice at the network's resolution: mean over cases and the classes that a case holds."""
    from monai.metrics import compute_dice
    from monai.networks.utils import one_hot

    from clustercl.evaluation.inference import predict_probabilities

    values = []
    for item in validation:
        # No overlap: this only ranks checkpoints, and costs a quarter or less.
        probabilities = predict_probabilities(
            network, to_float(item.image), context.config.data, context.task, context.fabric.device, 0.0
        )
        classes = context.task.num_classes
        predicted = one_hot(probabilities.argmax(0)[None, None].cpu(), classes)
        truth = one_hot(item.label[None, None].long(), classes)
        values.append(compute_dice(predicted, truth, include_background=False, ignore_empty=True).flatten())
    found = torch.cat(values)
    found = found[~found.isnan()]
    return float(found.mean()) if len(found) else 0.0
