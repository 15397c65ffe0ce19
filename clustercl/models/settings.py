"""The size of the networks."""

from dataclasses import dataclass

from clustercl.errors import UsageError


@dataclass(frozen=True)
class ModelSettings:
    """features: channels of the encoder's levels, fine to coarse, each level half as fine as the one before.
    code_dim: length of the auto-encoder's code, the vector that is clustered. projection_dim: length of the embeddings
    that the contrastive loss compares. dropout: probability, in every convolution block."""

    features: tuple[int, ...] = (32, 64, 128, 256, 320)
    code_dim: int = 128
    projection_dim: int = 128
    dropout: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "features", tuple(self.features))  # lists come from JSON and TOML
        if len(self.features) < 2 or min(self.features) < 1:
            raise UsageError(f"model.features: wanted two or more numbers of channels, got {list(self.features)}")
        for name in ("code_dim", "projection_dim"):
            if getattr(self, name) < 1:
                raise UsageError(f"model.{name}: wanted at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"model.dropout: wanted a probability below 1, got {self.dropout:g}")
