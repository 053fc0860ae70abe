"""Enhancer: undoes pixelation in low-resolution space.

Space-to-depth, residual body, sub-pixel convolution (Shi et al. 2016, "Real-time single image
super-resolution using an efficient sub-pixel convolutional neural network"; residual blocks
without normalisation as in Lim et al. 2017, EDSR). What the input fixes exactly (block means, or
sampled pixels) is put back into the estimate, so a result always explains its input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redaction_core.redaction import Pixelate, block_means, expand_blocks, sample_places

MAX_BLOCK = 16
_FOLD = 4
_CELL = _FOLD * _FOLD


class Estimate(NamedTuple):
    """What a network gives: the image, and the log of a Laplace scale a pixel; both float."""

    image: Tensor
    log_scale: Tensor | None


class Enhancer(nn.Module):
    """Gray pixelated image to a sharp estimate, any image size, blocks of 2 to 16 pixels."""

    def __init__(self, *, width: int = 32, blocks: int = 8) -> None:
        """Build with `width` channels and `blocks` residual blocks of two convolutions."""
        super().__init__()
        self.width = width
        self.blocks = blocks
        self.enter = nn.Conv2d(2 * _CELL, width, 3, padding=1)
        # Block size and sampling reach every residual block as a bias: free at run time.
        self.condition = nn.Linear(_CONDITIONS, width * (blocks + 1))
        self.first = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.leave = nn.Conv2d(width, _CELL, 3, padding=1)
        self.scale = nn.Conv2d(width, _CELL, 1)
        for conv in (*self.second, self.leave):
            nn.init.normal_(conv.weight, std=1e-3)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.scale.weight)

    def forward(self, pixelated: Tensor, how: Pixelate) -> Estimate:
        """Estimate the sharp image.

        Args:
            pixelated: float (N, 1, H, W), 0 to 1.
            how: block size and sampling of the whole batch.

        Returns:
            Image, float32 (N, 1, H, W), not clipped; log-scale of the same shape.

        """
        pixelated = pixelated.float()
        smooth = interpolate_blocks(pixelated, how.block)
        height, width = pixelated.shape[-2:]
        folded = fold(torch.cat((smooth, pixelated), 1)) - 0.5
        biases = self.condition(_condition(how, pixelated)).view(
            -1, self.blocks + 1, self.width, 1, 1
        )
        x = self.enter(folded.contiguous(memory_format=torch.channels_last)) + biases[:, 0]
        skip = x
        for i, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            x = x + second(F.relu(first(x) + biases[:, i + 1]))
        x = x + skip
        sharp = smooth + F.pixel_shuffle(self.leave(x), _FOLD)[..., :height, :width].float()
        # Detached: learning the scale must not change the estimate.
        raw = F.pixel_shuffle(self.scale(x.detach()), _FOLD)[..., :height, :width]
        return Estimate(explain(sharp, pixelated, how), bounded_log_scale(raw.float()))


_CONDITIONS = 4


def bounded_log_scale(raw: Tensor) -> Tensor:
    """Log of a Laplace scale between 1/12 of a level of 8 bits and 1, wherever `raw` strays."""
    return 4 * torch.tanh(raw / 4) - 4


def _condition(how: Pixelate, like: Tensor) -> Tensor:
    block = float(how.block)
    values = (block / MAX_BLOCK, 4 / block, float(how.nearest), float(how.block % _FOLD == 0))
    return like.new_tensor(values).view(1, _CONDITIONS)


def fold(images: Tensor) -> Tensor:
    """Space-to-depth by 4, edges replicated: (N, C, H, W) to (N, 16 C, ceil(H/4), ceil(W/4))."""
    height, width = images.shape[-2:]
    images = F.pad(images, (0, -width % _FOLD, 0, -height % _FOLD), mode="replicate")
    return F.pixel_unshuffle(images, _FOLD)


def interpolate_blocks(pixelated: Tensor, block: int) -> Tensor:
    """Bicubic interpolation of the blocks: float (N, C, H, W), same shape; the network's start.

    Cubic convolution with a = -0.5 (Keys 1981), as Pillow and MATLAB have it.
    """
    height, width = pixelated.shape[-2:]
    blocks = pixelated[..., ::block, ::block]
    size = (blocks.shape[-2] * block, blocks.shape[-1] * block)
    smooth = F.interpolate(blocks, size, mode="bicubic", antialias=True)
    return smooth[..., :height, :width]


def explain(estimate: Tensor, pixelated: Tensor, how: Pixelate) -> Tensor:
    """Project the estimate onto the images that explain the input exactly.

    An orthogonal projection onto a set that holds the truth (up to rounding): the squared error
    never grows. Shapes (N, C, H, W), float.
    """
    if how.nearest:
        rows, columns = sample_places(estimate, how.block)
        sampled = pixelated[..., :: how.block, :: how.block]
        estimate = estimate.clone()
        estimate[..., rows[:, None], columns] = sampled
        return estimate
    excess = block_means(pixelated - estimate, how.block)
    return estimate + expand_blocks(excess, how.block, estimate)
