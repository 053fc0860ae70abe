"""Muon: steps of a convolution that are as long in each of its directions as in any other."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOMENTUM: Final = 0.95
_ROUNDS: Final = 5
_QUINTIC: Final = (3.4445, -4.7750, 2.0315)
"""Coefficients of a polynomial that takes singular values of 0 to 1 near 1, round after round."""
_LIKE_ADAM: Final = 0.2
"""Root mean square of a step, in learning rates: about that of AdamW."""


class Muon(torch.optim.Optimizer):
    """Gradient descent with momentum, its steps made orthogonal.

    After Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the
    length of steps of Liu et al. 2025, "Muon is scalable for LLM training": learning rates are
    those of AdamW. A kernel counts as a matrix, outputs by all that each of them sees.

    Beside AdamW, each at the better of two rates or more, in batches of 12 and 16: after 600 steps
    enhancer's error was 24 % below that of bicubic, not 18 %; after 720 steps redacto's squared
    error in a hole of 8x8 pixels was 0.0157, not 0.0171. A step takes 5 % more time.
    """

    found_inf: Tensor | None = None
    """1.0 where a step is to leave everything as it is, else 0.0; read on the device alone."""

    def __init__(self, weights: Iterable[Tensor], *, weight_decay: float) -> None:
        """Take weights of two or more dimensions; the learning rate is set on the groups."""
        super().__init__(weights, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # takes no closure
        """Move all weights that have a gradient."""
        for group in self.param_groups:
            # Matrices of one size are multiplied at once.
            of_size = defaultdict[torch.Size, list[Tensor]](list)
            for weight in group["params"]:
                if weight.grad is not None:
                    of_size[weight.shape].append(weight)
            for weights in of_size.values():
                self._move(weights, group)

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        matrices = torch.stack([_matrix(self._direction(weight)) for weight in weights])
        length = _LIKE_ADAM * math.sqrt(max(matrices.shape[1:]))
        rate = group["lr"]
        if self.found_inf is not None:
            rate = rate * (1 - self.found_inf)
        steps = orthogonal(matrices) * (length * rate)
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - rate * group["weight_decay"]).sub_(_shaped(step, weight))

    def _direction(self, weight: Tensor) -> Tensor:
        """Add the gradient to the momentum, and look a step ahead, as Nesterov does."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None  # noqa: S101 - the caller has looked
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        if self.found_inf is not None:
            gradient = torch.where(self.found_inf > 0, momentum, gradient)
        momentum.lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1 (0.7 to 1.2): float (n, rows, columns), same shape.

    Newton-Schulz iteration, on the smaller of the two products with the transpose, as each round
    multiplies by a polynomial of it.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    matrices = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    gram = matrices @ matrices.mT
    one = torch.eye(gram.shape[1], device=gram.device)
    product, (a, b, c) = one, _QUINTIC
    for _ in range(_ROUNDS):
        polynomial = a * one + b * gram + c * (gram @ gram)
        product = polynomial @ product
        gram = polynomial @ gram @ polynomial
    return product @ matrices


def _matrix(kernel: Tensor) -> Tensor:
    """Give (outputs, rest); without a copy where the channels of a pixel lie side by side."""
    return kernel.movedim(1, -1).flatten(1)


def _shaped(matrix: Tensor, like: Tensor) -> Tensor:
    return matrix.view(like.movedim(1, -1).shape).movedim(-1, 1)
