"""The classical estimates that enhancer starts from, and what its result has to explain."""

from __future__ import annotations

import math
from functools import lru_cache

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

NOISE = 4.25
"""Log of how much stronger than rounding alone the noise of a blurred photograph is taken for.

As found on faces, over blurs of 0.8 to 4 pixels and two sizes: spectra are steeper than assumed.
"""

_ROUNDING = (1 / 255) ** 2 / 12
"""Variance of rounding to 8 bits."""


def start_of(
    images: Tensor,
    how: Pixelate | Blur,
    *,
    noise: Tensor | float = NOISE,
    detail: Tensor | None = None,
) -> Tensor:
    """Give the classical estimate: float (N, C, H, W), 0 to 1, to the same shape, not clipped.

    Bicubic interpolation of blocks; Wiener deconvolution of a blur, with `noise` and `detail` as
    `deconvolve` takes them.
    """
    if isinstance(how, Blur):
        return deconvolve(images, how.sigma, noise=noise, detail=detail)
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


def detail_of(images: Tensor) -> Tensor:
    """Mean squares of differences between neighbours: float (N, C, H, W) to (N, 1, 1, 1)."""
    squares = [images.diff(dim=axis).square().sum((-3, -2, -1), keepdim=True) for axis in (-2, -1)]
    return (squares[0] + squares[1]) / images[0].numel()


def deconvolve(
    blurred: Tensor,
    sigma: float,
    *,
    noise: Tensor | float = NOISE,
    detail: Tensor | None = None,
) -> Tensor:
    """Wiener deconvolution of a Gaussian blur: float (N, C, H, W), same shape (Wiener 1949).

    The image is continued as in a mirror: there the blur is a product with the cosine transform of
    its kernel, and no edge rings. Power falls with the square of the frequency, as in photographs,
    from a strength that the blurred image tells. `noise` is as `NOISE`; `detail` is what
    `detail_of` finds in the whole image, where this is a piece of one.
    """
    height, width = blurred.shape[-2:]
    device = blurred.device
    # In bfloat16 the start would lose levels of 8 bits.
    with torch.autocast(device.type, enabled=False):
        rows, columns = _cosines(height, device), _cosines(width, device)
        kept = _kept(height, sigma, device)[:, None] * _kept(width, sigma, device)
        power = _frequencies(height, device)[:, None] ** 2 + _frequencies(width, device) ** 2
        blurred = blurred.float()
        # Differences weigh power with the square of the frequency, which leaves the strength alone.
        detail = detail_of(blurred) if detail is None else detail
        strength = detail / (math.pi**2 * (kept**2).mean())
        factor = noise.exp() if isinstance(noise, Tensor) else math.exp(noise)
        share = factor * _ROUNDING / strength.clamp(min=_ROUNDING**2)
        gain = kept / (kept**2 + share * power)
        return rows.T @ ((rows @ blurred @ columns.T) * gain) @ columns


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
