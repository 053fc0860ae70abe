"""Everything that changes the weights of a training, as one value."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

from redaction_core.errors import UsageError

RECIPE_VERSION: Final = 3
"""Counts changes of the code after which the same recipe gives other weights."""

Loss = Literal["mae", "mse", "laplacian", "balanced"]
Learn = Literal["all", "scale"]
Precision = Literal["float32", "bfloat16"]
Optimiser = Literal["muon", "adamw"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that ingest wrote."""

    location: str
    repeats: int = 1
    """How often each of its images is seen in an epoch."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training learns from and how; runs of one recipe take the same steps."""

    network: str
    """A key of `models.BUILDERS`."""
    architecture: Mapping[str, int] = field(default_factory=dict)
    """Keyword arguments of the network's class; others as its class has them."""
    init: str | None = None
    """Hash of the model that training starts from; None: random weights."""
    sources: tuple[Source, ...]
    redactions: tuple[str, ...]
    """A mixture, as `mixture.RedactionMixture` reads it; one is drawn for every batch."""
    scales: tuple[str, ...] = ("1",)
    """A mixture, as `mixture.ScaleMixture` reads it; images are shrunk by it, one by one."""
    crop: int = 96
    """Pixels a side of what a sample shows; smaller images are seen whole."""
    batch_size: int = 16
    """Samples of a step, over all workers."""
    epochs: int = 10
    loss: Loss = "mae"
    learn: Learn = "all"
    """"scale": the estimate stays as it is, only how far it may be off is learnt."""
    optimiser: Optimiser = "muon"
    learning_rate: float = 1e-3
    """The highest."""
    warmup: float = 0.02
    """Share of all steps during which the learning rate rises."""
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    """Of the running mean of the weights, which is what is kept."""
    precision: Precision = "float32"
    gray_share: float = 0.0
    """Share of the samples in colour that are seen without it."""
    val_images: int = 256
    """At most so many images of the validation split of each source."""
    patience: int = 0
    """Epochs without a lower validation loss after which training stops; 0: never."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        least = dict.fromkeys(("crop", "batch_size", "epochs", "val_images"), 1) | {"patience": 0}
        for name, fewest in least.items():
            if getattr(self, name) < fewest:
                raise UsageError(f"{_flag(name)} {getattr(self, name)}: at least {fewest}")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"--seed {self.seed}: 0 to {(1 << 63) - 1}")
        # Written so that "nan" does not pass.
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{_flag(name)} {getattr(self, name)}: above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"--weight-decay {self.weight_decay}: at least 0")
        for name in ("warmup", "ema_decay", "gray_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{_flag(name)} {getattr(self, name)}: write a share, 0 to 1")
        if any(source.repeats < 1 for source in self.sources):
            raise UsageError("--repeats are at least 1")

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values, with its version."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        found["architecture"] = dict(self.architecture)
        found["sources"] = [asdict(source) for source in self.sources]
        found["redactions"], found["scales"] = list(self.redactions), list(self.scales)
        return {"version": RECIPE_VERSION, **found}

    def digest(self) -> str:
        """Give a hash over all of it."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
