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

    def forward(self, pixelated: Tensor, how: Pixelate, *, with_scale: bool = True) -> Estimate:
        """Estimate the sharp image.

        Args:
            pixelated: float (N, 1, H, W), 0 to 1.
            how: block size and sampling of the whole batch.
            with_scale: the log-scale is wanted; it takes about a twentieth of the time.

        Returns:
            Image, float32 (N, 1, H, W), not clipped; log-scale of the same shape.

        """
        pixelated = pixelated.float()
        smooth = (
            interpolate_samples(pixelated, how.block)
            if how.nearest
            else interpolate_blocks(pixelated, how.block)
        )
        height, width = pixelated.shape[-2:]
        folded = fold(torch.cat((smooth, pixelated), 1).sub_(0.5))
        biases = self.condition(_condition(how, pixelated)).view(self.blocks + 1, self.width)
        # Added to the convolutions' own biases, and sums in place: passes over memory cost time.
        skip = x = _biased(self.enter, folded, biases[0])
        for bias, first, second in zip(biases[1:], self.first, self.second, strict=True):
            x = second(F.relu(_biased(first, x, bias), inplace=True)).add_(x)
        x = x + skip
        sharp = smooth + unfold(self.leave(x))[..., :height, :width].float()
        if not with_scale:
            return Estimate(explain(sharp, pixelated, how), None)
        # Detached: learning the scale must not change the estimate.
        raw = unfold(self.scale(x.detach()))[..., :height, :width]
        return Estimate(explain(sharp, pixelated, how), bounded_log_scale(raw.float()))


_CONDITIONS = 4


def _biased(conv: nn.Module, x: Tensor, bias: Tensor) -> Tensor:
    """Convolve, with one more bias."""
    weight, own = conv.parameters()
    return F.conv2d(x, weight, own + bias, padding=1)


def bounded_log_scale(raw: Tensor) -> Tensor:
    """Log of a Laplace scale between 1/12 of a level of 8 bits and 1, wherever `raw` strays."""
    return 4 * torch.tanh(raw / 4) - 4


def _condition(how: Pixelate, like: Tensor) -> Tensor:
    block = float(how.block)
    values = (block / MAX_BLOCK, 4 / block, float(how.nearest), float(how.block % _FOLD == 0))
    return like.new_tensor(values).view(1, _CONDITIONS)


def fold(images: Tensor) -> Tensor:
    """Space-to-depth by 4, edges replicated; not differentiable.

    Float32 (N, C, H, W) to (N, 16 C, ceil(H/4), ceil(W/4)).
    """
    height, width = images.shape[-2:]
    if height % _FOLD or width % _FOLD:
        images = F.pad(images, (0, -width % _FOLD, 0, -height % _FOLD), mode="replicate")
    count, channels, height, width = images.shape
    # What pixel_unshuffle does, straight to the layout in which convolutions run faster; four
    # neighbours move as one word, in half the time.
    words = images.contiguous().view(torch.complex128)
    cells = words.view(count, channels, height // _FOLD, _FOLD, width // _FOLD)
    folded = cells.permute(0, 2, 4, 1, 3).contiguous().view(torch.float32).flatten(3)
    return folded.permute(0, 3, 1, 2)


def unfold(folded: Tensor) -> Tensor:
    """Sub-pixel shuffle by 4: (N, 16, H, W) to (N, 1, 4 H, 4 W).

    As `torch.nn.functional.pixel_shuffle`, in half the time from where convolutions leave it.
    """
    count, _, height, width = folded.shape
    cells = folded.permute(0, 2, 3, 1).reshape(count, height, width, _FOLD, _FOLD)
    return cells.transpose(2, 3).reshape(count, 1, _FOLD * height, _FOLD * width)


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
