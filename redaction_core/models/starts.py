"""The classical estimates that enhancer starts from, and what its result has to explain."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from redaction_core.redaction import (
    Blur,
    Pixelate,
    block_means,
    blur_kernel,
    expand_blocks,
    sample_places,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SMOOTHNESS = (1e-3, 0.03, 1.0)
"""Of deconvolutions, from what suits sharp photographs to what suits smooth ones.

At their best, over blurs of 1 to 4 pixels: photographs 0.002 to 0.2, faces 0.1 to 0.9.
"""


def start_of(images: Tensor, how: Pixelate | Blur) -> Tensor:
    """Give a classical estimate: float (N, C, H, W), 0 to 1, to the same shape, not clipped.

    Bicubic interpolation of blocks; deconvolution of a blur, of middling smoothness.
    """
    if isinstance(how, Blur):
        return deconvolve(images, how.sigma, SMOOTHNESS[1:2])
    return (interpolate_samples if how.nearest else interpolate_blocks)(images, how.block)


def interpolate_blocks(pixelated: Tensor, block: int) -> Tensor:
    """Bicubic interpolation of the blocks: float (N, C, H, W), same shape; the network's start.

    Cubic convolution with a = -0.5 (Keys 1981), as Pillow and MATLAB have it.
    """
    height, width = pixelated.shape[-2:]
    blocks = pixelated[..., ::block, ::block]
    size = (blocks.shape[-2] * block, blocks.shape[-1] * block)
    smooth = F.interpolate(blocks, size, mode="bicubic", antialias=True)
    return smooth[..., :height, :width]


def interpolate_samples(pixelated: Tensor, block: int) -> Tensor:
    """Bicubic interpolation of sampled pixels: float (N, C, H, W), same shape.

    As `interpolate_blocks`, but from where `block_pixels` takes them: with even blocks that is half
    a pixel below and to the right of the middle of the block.
    """
    n, c, height, width = pixelated.shape
    away = torch.arange(1 - 2 * block, 2 * block, device=pixelated.device).abs() / block
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    kernel = torch.where(away <= 1, near, -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2)
    samples = pixelated[..., ::block, ::block].float().flatten(0, 1)[:, None]
    first = 4 * block - block // 2 - 1
    # In bfloat16 the start would lose levels of 8 bits.
    with torch.autocast(pixelated.device.type, enabled=False):
        smooth = F.pad(samples, (2, 2, 2, 2), mode="replicate")
        smooth = F.conv_transpose2d(smooth, kernel.view(1, 1, 1, -1), stride=(1, block))
        smooth = F.conv_transpose2d(smooth, kernel.view(1, 1, -1, 1), stride=(block, 1))
    smooth = smooth[..., first : first + height, first : first + width]
    return smooth.reshape(n, c, height, width)


def deconvolve(blurred: Tensor, sigma: float, smoothness: Sequence[float] = SMOOTHNESS) -> Tensor:
    """Undo a Gaussian blur: float (N, 1, H, W) to (N, K, H, W), one for each of K smoothnesses.

    Constrained least squares (Hunt 1973): the error, and `smoothness` times the square of the
    Laplacian, are made small together. The image is continued as in a mirror: there the blur is a
    product with the cosine transform of its kernel, and no edge rings. With one smoothness there
    may be several channels, each by itself.
    """
    height, width = blurred.shape[-2:]
    device = blurred.device
    # In bfloat16 the start would lose levels of 8 bits.
    with torch.autocast(device.type, enabled=False):
        rows, columns = _cosines(height, device), _cosines(width, device)
        kept = _kept(height, sigma, device)[:, None] * _kept(width, sigma, device)
        power = _frequencies(height, device)[:, None] ** 2 + _frequencies(width, device) ** 2
        weight = torch.tensor(smoothness, device=device).view(-1, 1, 1)
        gain = kept / (kept**2 + weight * power**2)
        return rows.T @ ((rows @ blurred.float() @ columns.T) * gain) @ columns


def explain(estimate: Tensor, images: Tensor, how: Pixelate | Blur) -> Tensor:
    """Project the estimate onto the images that explain the input exactly.

    An orthogonal projection onto a set that holds the truth (up to rounding): the squared error
    never grows. Shapes (N, C, H, W), float. A blur, rounded, fixes no value: there the estimate
    comes back.
    """
    if isinstance(how, Blur):
        return estimate
    if how.nearest:
        rows, columns = sample_places(estimate, how.block)
        sampled = images[..., :: how.block, :: how.block]
        estimate = estimate.clone()
        estimate[..., rows[:, None], columns] = sampled
        return estimate
    excess = block_means(images - estimate, how.block)
    return estimate + expand_blocks(excess, how.block, estimate)


@lru_cache(maxsize=8)  # up to 7 MB each
@torch.inference_mode(mode=False)  # kept for training, whoever asks first
def _cosines(size: int, device: torch.device) -> Tensor:
    """Give the orthonormal matrix of the cosine transform (DCT-II): (size, size)."""
    numbers = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos((numbers + 0.5) * numbers[:, None] * (math.pi / size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(device, torch.float32)


def _kept(size: int, sigma: float, device: torch.device) -> Tensor:
    """Give what the blur leaves of each cosine of a line of `size` pixels: (size,)."""
    kernel = blur_kernel(sigma).to(device)
    away = torch.arange(len(kernel), device=device) - len(kernel) // 2
    return (torch.cos(math.pi * _frequencies(size, device)[:, None] * away) * kernel).sum(1)


def _frequencies(size: int, device: torch.device) -> Tensor:
    """Give the frequency of each cosine, 0 to 1 in half cycles a pixel."""
    return torch.arange(size, device=device) / size
