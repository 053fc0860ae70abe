"""How weights move: one step, the schedule of its length, and the running mean of the weights."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from redaction_core.training.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redaction_core.training.recipe import Optimiser, Recipe

_MOMENTS: Final = ("momentum", "step", "exp_avg", "exp_avg_sq")
_MATRIX: Final = 2  # dimensions


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Muon or AdamW with a linear warm-up, then a cosine down to a hundredth."""

    optimiser: Optimiser = "muon"
    """Muon moves kernels, and leaves all else to AdamW."""

    learning_rate: float = 1e-3
    """Highest learning rate."""
    warmup: float = 0.02
    """Share of the training during which the rate rises."""
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float = 0.999
    """Decay of the running mean of weights, which is what is kept."""
    mixed: bool = True
    """Compute in bfloat16 where it is safe; networks of a few channels learn less that way."""

    @classmethod
    def of(cls, recipe: Recipe) -> Optimisation:
        """Give what a recipe asks for."""
        return cls(
            optimiser=recipe.optimiser,
            learning_rate=recipe.learning_rate,
            warmup=recipe.warmup,
            weight_decay=recipe.weight_decay,
            clip_norm=recipe.clip_norm,
            ema_decay=recipe.ema_decay,
            mixed=recipe.precision == "bfloat16",
        )

    def rate(self, progress: float) -> float:
        """Learning rate at a progress of 0 to 1."""
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * rise * fall


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What was learned from since the last tally; sums over workers are tallies again."""

    loss: float
    """Sum of the losses of all samples, but for those of skipped steps that are not finite."""
    samples: float
    skipped: float
    """Steps that moved nothing, as loss or gradient were not finite."""


class Trainer:
    """A network with its optimiser and the running mean of its weights.

    Nothing here waits for the device: what is found out on it is left there until it is asked for.
    """

    def __init__(self, network: nn.Module, optimisation: Optimisation) -> None:
        """Start from the network's present weights, on its present device."""
        self.network = network
        self.optimisation = optimisation
        self.average = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self.best: nn.Module | None = None
        """The running mean as it was when `keep_as_best` was called last."""
        named = [each for each in network.named_parameters() if each[1].requires_grad]
        self.optimisers = _optimisers(named, optimisation)
        self.steps = 0
        """Steps taken, skipped ones among them."""
        self._device = named[0][1].device
        self._weights: list[Tensor] = list(network.parameters())
        self._means: list[Tensor] = list(self.average.parameters())
        # Apart, or a steep scale would slow the estimate down.
        self._clipped_apart = [
            [weight for name, weight in named if is_of_scale(name) is scale]
            for scale in (False, True)
        ]
        self._sums = torch.zeros(3, dtype=torch.float64, device=self._device)

    def step(
        self,
        objective: Callable[[], Tensor],
        progress: float,
        *,
        total: int | None = None,
        world: int = 1,
        counted: bool = True,
    ) -> None:
        """Take one step on the losses, (n,), of this worker's samples that `objective` computes.

        Where gradients are averaged over `world` workers, what moves the weights is the mean over
        the `total` samples of all of them, however uneven their shares. A worker without samples
        joins with one that is not `counted`, as the others wait for it. A step with a loss or
        gradient that is not finite on any worker leaves the weights as they are on all.
        """
        mixed = self.optimisation.mixed
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=mixed):
            losses = objective()
        losses = losses.float()
        share = world / (len(losses) if total is None else total) if counted else 0.0
        loss = losses.sum() * share
        # The gradient tells the other workers, which see no loss but their own.
        loss = loss * torch.where(loss.isfinite(), 1.0, math.nan)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        skipped = self._clip()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.optimisation.rate(progress)
            setattr(optimiser, "found_inf", skipped)  # noqa: B010 - read by the step
            optimiser.step()
        self.steps += 1
        self._follow()
        if counted:
            found = losses.detach().double()
            finite = found.isfinite()
            self._sums[0] += torch.where(finite, found, 0.0).sum()
            self._sums[1] += finite.sum()
        self._sums[2] += skipped

    @torch.no_grad()
    def _clip(self) -> Tensor:
        """Scale gradients down; gives 1.0 when they are not finite, else 0.0."""
        finite = torch.ones((), dtype=torch.bool, device=self._device)
        for weights in self._clipped_apart:
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            if gradients:
                norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # noqa: SLF001
                finite &= norm.isfinite()
                scale = (self.optimisation.clip_norm / (norm + 1e-6)).clamp(max=1.0)
                torch._foreach_mul_(gradients, scale)
        return (~finite).float()

    @torch.no_grad()
    def _follow(self) -> None:
        # A short memory at first, or the random start would linger in the mean.
        decay = min(self.optimisation.ema_decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)
        for mean, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            mean.copy_(now)

    def keep_as_best(self) -> None:
        """Keep a copy of the running mean as it is."""
        self.best = copy.deepcopy(self.average)

    def take_sums(self) -> Tensor:
        """Give what a tally is made of, float64 (3,) on the device, and begin anew."""
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        return sums

    def tensors(self) -> dict[str, Tensor]:
        """Give a copy of all that the next steps depend on, by name, on the CPU."""
        found = {f"model.{name}": value for name, value in self.network.state_dict().items()}
        found |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        best = self.best.state_dict() if self.best is not None else {}
        found |= {f"best.{name}": value for name, value in best.items()}
        states = self._states
        for name, weight in self.network.named_parameters():
            state = states.get(weight, {})
            found |= {f"{moment}.{name}": state[moment] for moment in _MOMENTS if moment in state}
        return {
            name: value.detach().to("cpu", copy=True).contiguous() for name, value in found.items()
        }

    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Go on from such a copy.

        Raises KeyError, ValueError or RuntimeError when it is of another network.
        """
        for network, prefix in ((self.network, "model."), (self.average, "average.")):
            network.load_state_dict(_below(prefix, tensors))
        self.best = None
        if best := _below("best.", tensors):
            self.best = copy.deepcopy(self.average)
            self.best.load_state_dict(best)
        named = dict(self.network.named_parameters())
        of = {w: each for each in self.optimisers for g in each.param_groups for w in g["params"]}
        for optimiser in self.optimisers:
            optimiser.state.clear()
        for moment in _MOMENTS:
            for name, value in _below(f"{moment}.", tensors).items():
                weight = named[name]
                # Moments lie in memory as their weights do; the fused step counts on it.
                like = torch.zeros((), device=self._device) if moment == "step" else weight
                kept = torch.zeros_like(like, requires_grad=False).copy_(value)
                of[weight].state[weight][moment] = kept
        self.steps = steps

    @property
    def _states(self) -> dict[Tensor, Mapping[str, Tensor]]:
        """Give what the optimisers know of each weight."""
        return {
            weight: state
            for optimiser in self.optimisers
            for weight, state in optimiser.state.items()
        }


def _optimisers(
    named: Sequence[tuple[str, nn.Parameter]], optimisation: Optimisation
) -> list[torch.optim.Optimizer]:
    """Give what moves the weights, each of them one's or the other's."""
    decay = optimisation.weight_decay
    kernels: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in named:
        by_muon = optimisation.optimiser == "muon" and weight.dim() >= _MATRIX
        (kernels if by_muon and not is_of_scale(name) else rest).append(weight)
    found: list[torch.optim.Optimizer] = []
    if kernels:
        found.append(Muon(kernels, weight_decay=decay))
    if rest:
        # Fused: a fifth of the time, and it leaves out a step on the device's own word.
        found.append(torch.optim.AdamW(rest, weight_decay=decay, fused=True))
    return found


def is_of_scale(name: str) -> bool:
    """Whether a weight, by its name, says how far the estimate may be off."""
    return name.startswith("scale.")


def tally(sums: Tensor, world: int = 1) -> Tally:
    """Read sums of `Trainer.take_sums` that were added up over workers; waits for the device."""
    loss, samples, skipped = sums.tolist()
    return Tally(loss=loss, samples=samples, skipped=skipped / world)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
