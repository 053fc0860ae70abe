"""Training losses: maps of errors a pixel, and what is made of them image by image.

Images are float (N, C, H, W), 0 to 1; losses of images are (N,), so that a batch may be cut up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

_LAPLACIAN = ((0.5, 1.0, 0.5), (1.0, -6.0, 1.0), (0.5, 1.0, 0.5))


def absolute(estimate: Tensor, target: Tensor) -> Tensor:
    """Absolute errors: (N, C, H, W)."""
    return (estimate - target).abs()


def squared(estimate: Tensor, target: Tensor) -> Tensor:
    """Squared errors: (N, C, H, W)."""
    return (estimate - target).square()


def laplacian(estimate: Tensor, target: Tensor) -> Tensor:
    """Absolute errors weighted by log(2 + |L * target|), as published for enhancer: (N, C, H, W).

    Edges are replicated, so that a border is not taken for detail.
    """
    channels = target.shape[1]
    kernel = target.new_tensor(_LAPLACIAN).expand(channels, 1, 3, 3)
    detail = F.conv2d(F.pad(target, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    return (estimate - target).abs() * torch.log(2 + detail.abs())


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": absolute,
    "mse": squared,
    "laplacian": laplacian,
    "balanced": squared,
}
"""Map of errors by the name of a loss."""


def mean_of(errors: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of a map of errors, image by image: (N, C, H, W) to (N,).

    With `weight`, (N, 1, H, W), 0 (known) to 1 (hidden), over the hidden pixels. Where less than
    one value is hidden in all, their sum: a mean of next to nothing would be noise.
    """
    if weight is None:
        return errors.flatten(1).mean(1)
    return (errors * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * errors.shape[1]).clamp(min=1)


def balanced(errors: Tensor) -> Tensor:
    """Loss over mean squared errors, (N,) to (N,), that serves MSE and PSNR alike.

    The first term is the error, which a few hard images rule; the second, its log (PSNR but for a
    factor), keeps easy images exact.
    """
    return 100 * errors + 0.3 * (errors + 1e-4).log()


def laplace_nll(error: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of absolute errors (not differentiated) under Laplace scales.

    Any one shape; a map of it comes back.
    """
    return error.detach() * torch.exp(-log_scale) + log_scale
