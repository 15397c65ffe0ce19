"""The learning rate over the steps of a stage."""

import math

from clustercl.training.settings import StageSettings


def learning_rate_factor(step: int, settings: StageSettings) -> float:
    """Of the peak rate: a linear rise over the warm-up, then half a cosine down to 0."""
    rise = max(1, round(settings.warmup * settings.steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, settings.steps - rise)))
