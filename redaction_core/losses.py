"""Training losses; every one takes float images of 0 to 1 and gives a scalar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

_LAPLACIAN = ((0.5, 1.0, 0.5), (1.0, -6.0, 1.0), (0.5, 1.0, 0.5))


def mae(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error."""
    return (estimate - target).abs().mean()


def mse(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return (estimate - target).square().mean()


def laplacian(estimate: Tensor, target: Tensor) -> Tensor:
    """Absolute error weighted by log(2 + |L * target|), as published for enhancer.

    (N, C, H, W). Edges are replicated, so that a border is not taken for detail.
    """
    channels = target.shape[1]
    kernel = target.new_tensor(_LAPLACIAN).expand(channels, 1, 3, 3)
    detail = F.conv2d(F.pad(target, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    return ((estimate - target).abs() * torch.log(2 + detail.abs())).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": mae,
    "mse": mse,
    "laplacian": laplacian,
}


def hidden_mse(estimate: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error of each image over its hidden pixels.

    Estimate and target (N, C, H, W); weight (N, 1, H, W), 0 (known) to 1 (hidden). Gives (N,).
    """
    squared = ((estimate - target).square() * weight).sum((1, 2, 3))
    return squared / (weight.sum((1, 2, 3)) * target.shape[1]).clamp(min=1)


def hole_loss(errors: Tensor) -> Tensor:
    """Loss over per-image squared errors (N,) that serves MSE and PSNR alike.

    The first term is the mean error, which a few hard images rule; the second, the mean log error
    (mean PSNR but for a factor), keeps easy images exact.
    """
    return 100 * errors.mean() + 0.3 * (errors + 1e-4).log().mean()


def laplace_nll(error: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of absolute errors (not differentiated) under Laplace scales."""
    return (error.detach() * torch.exp(-log_scale) + log_scale).mean()
