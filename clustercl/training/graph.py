"""Which stage needs which, for a configuration."""

from clustercl.methods import METHODS
from clustercl.training.config import Config
from clustercl.training.run import STAGES


def parents(config: Config) -> dict[str, tuple[str, ...]]:
    """For each stage the stages whose results it reads."""
    method = METHODS[config.method]
    start = config.pretrain.start if method.pretrains else method.start
    from_autoencoder = ("autoencoder",) if start == "autoencoder" else ()
    return {
        "autoencoder": (),
        "clusters": ("autoencoder",),
        "pretrain": (("clusters",) if method.needs_clusters else ()) + from_autoencoder,
        "finetune": ("pretrain",) if method.pretrains else from_autoencoder,
        "evaluation": ("finetune",),
    }


def ancestors(config: Config, stage: str) -> set[str]:
    """All stages that must be finished before this one, near or far."""
    found: set[str] = set()
    for parent in parents(config)[stage]:
        found |= {parent} | ancestors(config, parent)
    return found


def needed(config: Config) -> list[str]:
    """The stages of a whole run, in order."""
    wanted = ancestors(config, "evaluation") | {"evaluation"}
    return [stage for stage in STAGES if stage in wanted]


def dependents(config: Config, stage: str) -> list[str]:
    """Stages that read this one's result, near or far, the last first."""
    return [later for later in reversed(STAGES) if stage in ancestors(config, later)]
