"""Training without an engine: the objectives of the networks, one optimisation step, one epoch."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redaction_core import losses
from redaction_core.models.redacto import Redacto, masked_pyramid
from redaction_core.redaction import Pixelate, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_COARSE_WEIGHT = 0.25
_SCALE_WEIGHT = 0.01


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How weights are moved: AdamW, linear warm-up, then a cosine down to a hundredth."""

    learning_rate: float = 1e-3
    """Highest learning rate."""
    warmup: float = 0.02
    """Share of the training during which the rate rises."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float = 0.999
    """Decay of the running mean of weights, which is what is kept."""
    mixed: bool = True
    """Compute in bfloat16 where it is safe; networks of a few channels learn less that way."""

    def rate(self, progress: float) -> float:
        """Learning rate at a progress of 0 to 1."""
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * rise * fall


class Trainer:
    """A network with its optimiser and the running mean of its weights."""

    def __init__(self, network: nn.Module, optimisation: Optimisation) -> None:
        """Start from the network's present weights, on its present device."""
        self.network = network
        self.optimisation = optimisation
        self.average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self.optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
        self.steps = 0
        named = list(network.named_parameters())
        groups = [
            [p for n, p in named if n.startswith("scale.") is scale] for scale in (False, True)
        ]
        self._clipped_apart = [group for group in groups if group]

    def step(self, objective: Callable[[], Tensor], progress: float) -> float:
        """Take one step on the loss that `objective` computes; gives that loss.

        A step with a loss or gradient that is not finite leaves the weights as they are.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.optimisation.rate(progress)
        device = next(self.network.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.optimisation.mixed):
            loss = objective()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        # Apart, or a steep scale would slow the estimate down.
        norms = [
            nn.utils.clip_grad_norm_(parameters, self.optimisation.clip_norm)
            for parameters in self._clipped_apart
        ]
        if all(map(torch.isfinite, (loss, *norms))):
            self.optimiser.step()
            self.steps += 1
            # A short memory at first, or the random start would linger in the mean.
            decay = min(self.optimisation.ema_decay, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
                for mean, now in pairs:
                    mean.lerp_(now, 1 - decay)
        return float(loss.detach())

    def epoch(self, objectives: Iterable[tuple[Callable[[], Tensor], float]]) -> float:
        """Take one step for each (objective, progress); gives the mean loss."""
        total, count = 0.0, 0
        for objective, progress in objectives:
            total += self.step(objective, progress)
            count += 1
        return total / max(1, count)


def enhance_objective(
    network: nn.Module,
    images_u8: Tensor,
    how: Pixelate,
    loss: Callable[[Tensor, Tensor], Tensor] = losses.mae,
) -> Tensor:
    """Loss of undoing a pixelation that is made here: images uint8 (N, 1, H, W)."""
    pixelated = redact(how, images_u8, [""] * len(images_u8)).images_u8.float() / 255
    target = images_u8.float() / 255
    estimate = network(pixelated, how)
    value = loss(estimate.image, target)
    if estimate.log_scale is not None:
        error = (estimate.image - target).abs()
        value = value + _SCALE_WEIGHT * losses.laplace_nll(error, estimate.log_scale)
    return value


def fill_objective(network: nn.Module, images_u8: Tensor, hidden: Tensor) -> Tensor:
    """Loss of filling holes: images uint8 (N, 3, H, W), hidden bool (N, 1, H, W)."""
    target = images_u8.float() / 255
    if not isinstance(network, Redacto):
        return losses.hidden_mse(network(target, hidden).image, target, hidden.float()).mean()
    total = target.new_zeros(())
    shares = [share for _, share in masked_pyramid(target, hidden)]
    for level, (estimate, share) in enumerate(
        zip(network.pyramid(target, hidden), shares, strict=True)
    ):
        if level:
            pad = (0, target.shape[-1] % 2, 0, target.shape[-2] % 2)
            target = F.avg_pool2d(F.pad(target, pad, mode="replicate"), 2)
        errors = losses.hidden_mse(estimate.image, target, share)
        total = total + (_COARSE_WEIGHT if level else 1.0) * losses.hole_loss(errors)
        if level == 0 and estimate.log_scale is not None:
            error = (estimate.image - target).abs().mean(1, keepdim=True)[hidden]
            total = total + _SCALE_WEIGHT * losses.laplace_nll(error, estimate.log_scale[hidden])
    return total
