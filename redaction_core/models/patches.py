"""Blocks of pixels out of features, for blocks of any size with the same weights.

A sub-pixel convolution (Shi et al. 2016, "Real-time single image super-resolution using an
efficient sub-pixel convolutional neural network") has one output channel a pixel of the block.
Here the channels are coefficients of cosines over the block instead, so that what is learnt on
blocks of one size holds for all others.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Patches(nn.Module):
    """Convolution from features to the pixels of a block a place."""

    def __init__(self, width: int, *, order: int, kernel: int = 3) -> None:
        """Build with `order` cosines a direction; smaller blocks use those they have room for.

        All pixels are 0 at first: what they are added to is where training starts from.
        """
        super().__init__()
        self.order = order
        self.conv = nn.Conv2d(width, order**2, kernel, padding=kernel // 2, bias=False)
        nn.init.zeros_(self.conv.weight)
        self.bias = nn.Parameter(torch.zeros(order * order))

    def forward(self, features: Tensor, block: int, *, level: bool = False) -> Tensor:
        """Give the pixels: (N, width, h, w) to (N, 1, block h, block w).

        `level`: the mean of each block is 0.
        """
        used = min(self.order, block)
        # Left out, not taken away afterwards: rounding would be all that its weights learn from.
        cosines = _cosines(block, used, level=level).to(features.device)
        grid = (self.order, self.order)
        weight = self.conv.weight.view(*grid, *self.conv.weight.shape[1:])[:used, :used]
        bias = self.bias.view(grid)[:used, :used]
        # The cosines go into the weights: the block's pixels then come out of one convolution.
        weight = torch.einsum("uvxy,uvcij->xycij", cosines, weight).flatten(0, 1)
        bias = torch.einsum("uvxy,uv->xy", cosines, bias).flatten()
        padding = self.conv.padding
        pixels = F.conv2d(features, weight, bias, padding=padding)
        return unfold(pixels, block)


def unfold(folded: Tensor, block: int) -> Tensor:
    """Sub-pixel shuffle: (N, block * block, h, w) to (N, 1, block h, block w).

    As `torch.nn.functional.pixel_shuffle`, in half the time from where convolutions leave it.
    """
    count, _, height, width = folded.shape
    cells = folded.permute(0, 2, 3, 1).reshape(count, height, width, block, block)
    return cells.transpose(2, 3).reshape(count, 1, block * height, block * width)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # kept for training, whoever asks first
def _cosines(block: int, used: int, *, level: bool) -> Tensor:
    """Give products of cosines over a block: (used, used, block, block).

    The finer, the fainter, as detail is in photographs: else the many fine ones would rule the
    first steps of training.
    """
    places = (torch.arange(block) + 0.5) * math.pi / block
    numbers = torch.arange(used)
    waves = torch.cos(places * numbers[:, None])
    waves[1:] *= math.sqrt(2)
    faint = 1 / (1 + numbers[:, None] + numbers)
    if level:
        faint[0, 0] = 0
    return torch.einsum("ux,vy,uv->uvxy", waves, waves, faint)
