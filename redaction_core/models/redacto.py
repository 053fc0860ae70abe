"""Redacto: fills hidden pixels from their surroundings, coarse to fine.

One small residual network, shared by all scales of a pyramid: the coarsest scale has no wholly
hidden pixel, and each finer one starts from the filled-in coarser one. So holes of any size are
seen whole, at a third more than the cost of the finest scale. The mask enters every layer but the
last (the published finding of redacto).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redaction_core.models.enhancer import Estimate, bounded_log_scale
from redaction_core.models.tiling import tiles

_GRID = 8
"""JPEG codes blocks of 8x8 pixels: where a pixel lies in that grid tells what its block shares."""

_TILE = 128
"""Pixels a side of the pieces of a large image; pieces without hidden pixels cost nothing."""


class Redacto(nn.Module):
    """RGB image and hidden pixels to an estimate of the hidden ones, at any image size."""

    def __init__(self, *, width: int = 64, blocks: int = 5) -> None:
        """Build with `width` channels (the mask is one of them) and `blocks` residual blocks."""
        super().__init__()
        self.enter = nn.Conv2d(8, width - 1, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(width, width - 1, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(
            nn.Conv2d(width, width - 1, 3, padding=1) for _ in range(blocks)
        )
        self.leave = nn.Conv2d(width, 3, 3, padding=1)
        self.scale = nn.Conv2d(width, 1, 1)
        self.reach = 2 * blocks + 2
        for conv in (*self.second, self.leave):
            nn.init.normal_(conv.weight, std=1e-3)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.scale.weight)

    def forward(self, images: Tensor, hidden: Tensor) -> Estimate:
        """Fill the hidden pixels.

        Args:
            images: float (N, 3, H, W), 0 to 1; hidden pixels may hold anything.
            hidden: bool (N, 1, H, W).

        Returns:
            Image, float32 (N, 3, H, W), not clipped, known pixels as they were; log-scale of the
            hidden pixels, (N, 1, H, W).

        """
        return self.pyramid(images, hidden)[0]

    def pyramid(self, images: Tensor, hidden: Tensor) -> list[Estimate]:
        """Estimates of all scales, the finest first; for training."""
        scales = masked_pyramid(images.float(), hidden)
        estimates: list[Estimate] = []
        for level in reversed(range(len(scales))):
            base, share = scales[level]
            if estimates:
                coarse = F.interpolate(estimates[-1].image, scale_factor=2, mode="bilinear")
                base = torch.where(
                    share == 1, coarse[..., : base.shape[-2], : base.shape[-1]], base
                )
            estimates.append(self._fill(base, share, finest=level == 0))
        return estimates[::-1]

    def _fill(self, base: Tensor, share: Tensor, *, finest: bool) -> Estimate:
        grid = _grid_phase(base) if finest else base.new_zeros(1, 4, *base.shape[-2:])
        if self.training or max(base.shape[-2:]) <= _TILE + self.reach:
            return self._fill_piece(base, share, grid)
        image, log_scale = base.clone(), base.new_zeros(len(base), 1, *base.shape[-2:])
        for tile in tiles(*base.shape[-2:], core=_TILE, halo=self.reach):
            look, kept = (..., tile.rows, tile.columns), (..., tile.kept_rows, tile.kept_columns)
            if not bool(share[kept].any()):
                continue
            piece = self._fill_piece(base[look], share[look], grid[look])
            image[kept] = piece.image[..., tile.inner_rows, tile.inner_columns]
            if piece.log_scale is not None:
                log_scale[kept] = piece.log_scale[..., tile.inner_rows, tile.inner_columns]
        return Estimate(image, log_scale)

    def _fill_piece(self, base: Tensor, share: Tensor, grid: Tensor) -> Estimate:
        inputs = torch.cat((base - 0.5, share, grid.expand(len(base), -1, -1, -1)), 1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        mask = share.to(memory_format=torch.channels_last)
        x = F.relu(self.enter(inputs))
        mask = mask.to(x.dtype)
        for first, second in zip(self.first, self.second, strict=True):
            inner = F.relu(first(torch.cat((x, mask), 1)))
            x = x + second(torch.cat((inner, mask), 1))
        last = torch.cat((x, mask), 1)
        image = torch.where(share > 0, base + self.leave(last).float(), base)
        return Estimate(image, bounded_log_scale(self.scale(last.detach()).float()))


def masked_pyramid(images: Tensor, hidden: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Halve an image until no pixel is wholly hidden.

    Args:
        images: float (N, C, H, W).
        hidden: bool (N, 1, H, W).

    Returns:
        A scale each, the finest first: mean of the known pixels (0.5 where none is known), and the
        hidden share of each pixel, 0 to 1, float (N, 1, h, w).

    """
    known = (~hidden).float()
    total = images * known
    scales = [(torch.where(hidden, 0.5, images), 1 - known)]
    while bool((scales[-1][1] == 1).any()) and max(total.shape[-2:]) > 1:
        total, known = _halve(total), _halve(known)
        mean = torch.where(known > 0, total / known.clamp(min=1e-6), 0.5)
        scales.append((mean, 1 - known))
    return scales


def _halve(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    # Odd sizes: the last row or column counts twice, as if the image went on.
    images = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(images, 2)


def _grid_phase(like: Tensor) -> Tensor:
    height, width = like.shape[-2:]
    turn = 2 * math.pi / _GRID
    y = (
        torch.arange(height, device=like.device, dtype=torch.float32).view(-1, 1).expand(-1, width)
        * turn
    )
    x = (
        torch.arange(width, device=like.device, dtype=torch.float32).view(1, -1).expand(height, -1)
        * turn
    )
    return torch.stack((y.sin(), y.cos(), x.sin(), x.cos())).unsqueeze(0)
