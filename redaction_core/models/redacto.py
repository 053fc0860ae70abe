"""Redacto: fills hidden pixels from their surroundings, coarse to fine.

The image is halved until no pixel is wholly hidden. Each scale starts from the filled-in coarser
one and from features of its hidden pixels, so holes of any size are seen whole. Coarse scales,
where most of an error is decided and a pixel is cheap, share one large network; the finest has a
small one of its own. The mask enters every layer but the last (the published finding of redacto).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redaction_core.models.estimate import Estimate, bounded_log_scale
from redaction_core.models.tiling import tiles
from redaction_core.models.trunk import begin_small

_GRID = 8
"""JPEG codes blocks of 8x8 pixels: where a pixel lies in that grid tells what its block shares."""
_PHASES = 4
_HANDED = 16
"""Features that a scale hands to the next finer one."""
_OF_SCALE = 32
"""Features that say how far pixels may be off."""
_CONTRASTS = 4
_LEAST_CONTRAST = 0.002
"""Half a level of 8 bits: less is rounding."""
_SEEN = 4
"""Channels of any scale: colours, and the share of the pixel that is hidden."""
_SHARE = 3
"""The number of that channel."""

_TILE = 128
"""Pixels a side of the pieces of a large image; pieces without hidden pixels cost nothing."""


class _MaskedConv(nn.Conv2d):
    """Convolution that hands the mask on as the last of its channels, or adds nothing to it.

    The mask passes through the convolution itself: setting it beside the features of every layer
    would copy them all.
    """

    def __init__(self, inputs: int, width: int, *, mask: int | None) -> None:
        """Build for `width` channels with the mask; `mask`: its channel of the inputs, or None."""
        super().__init__(inputs, width - 1, 3, padding=1)
        passing = torch.zeros(1, inputs, 3, 3)
        if mask is not None:
            passing[0, mask, 1, 1] = 1
        self.register_buffer("passing", passing, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.parameters()
        passed = torch.cat((weight, self.get_buffer("passing")))
        return F.conv2d(x, passed, F.pad(bias, (0, 1)), padding=1)


class _Scale(nn.Module):
    """What is seen of one scale to an image, and to features for the next finer one."""

    def __init__(self, *, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = _MaskedConv(inputs, width, mask=_SHARE)
        self.first = nn.ModuleList(_MaskedConv(width, width, mask=-1) for _ in range(blocks))
        self.second = nn.ModuleList(_MaskedConv(width, width, mask=None) for _ in range(blocks))
        self.leave = nn.Conv2d(width, 3, 3, padding=1)
        # How far its pixels see; even, so that pieces begin where coarser pixels do.
        self.reach = 2 * blocks + 2
        for conv in (*self.second, self.leave):
            begin_small(conv)

    def forward(self, inputs: Tensor) -> Tensor:
        """Give features, the mask the last of them: (N, inputs, h, w) to (N, width, h, w)."""
        x = F.relu(self.enter(inputs.contiguous(memory_format=torch.channels_last)), inplace=True)
        for first, second in zip(self.first, self.second, strict=True):
            x = second(F.relu(first(x), inplace=True)).add_(x)
        return x


class Redacto(nn.Module):
    """RGB image and hidden pixels to an estimate of the hidden ones, at any image size."""

    def __init__(
        self, *, width: int = 48, blocks: int = 4, coarse_width: int = 96, coarse_blocks: int = 5
    ) -> None:
        """Build with `width` channels (the mask is one of them) and `blocks` residual blocks."""
        super().__init__()
        self.fine = _Scale(inputs=_SEEN + _HANDED + _PHASES, width=width, blocks=blocks)
        self.coarse = _Scale(inputs=_SEEN + _HANDED, width=coarse_width, blocks=coarse_blocks)
        self.hand = nn.Conv2d(coarse_width, _HANDED, 1)
        self.scale = nn.Sequential(
            *(nn.Conv2d(width + _CONTRASTS, _OF_SCALE, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(_OF_SCALE, _OF_SCALE, 1), nn.ReLU()),
            nn.Conv2d(_OF_SCALE, 1, 1),
        )
        for weight in self.scale[-1].parameters():
            nn.init.zeros_(weight)

    def forward(self, images: Tensor, hidden: Tensor) -> Estimate:
        """Fill the hidden pixels.

        Args:
            images: float (N, 3, H, W), 0 to 1; hidden pixels may hold anything.
            hidden: bool (N, 1, H, W).

        Returns:
            Image, float32 (N, 3, H, W), not clipped, known pixels as they were; log-scale of the
            hidden pixels, (N, 1, H, W); while training, the coarser scales too.

        """
        scales = masked_pyramid(images.float(), hidden)
        contrasts = _contrasts(images.float(), hidden)
        images_of: list[Tensor] = []
        handed = None
        for level in reversed(range(len(scales))):
            base, share = scales[level]
            if images_of:
                coarse = _doubled(images_of[-1], base)
                base = torch.where(share == 1, coarse, base)
            around = None if level else contrasts
            log_scale, image, handed = self._fill(base, share, handed, around)
            images_of.append(image)
        *coarser, image = images_of
        if not self.training:
            return Estimate(image, log_scale)
        shares = [share for _, share in scales[1:]]
        return Estimate(image, log_scale, tuple(zip(coarser[::-1], shares, strict=True)))

    def _fill(
        self, base: Tensor, share: Tensor, handed: Tensor | None, contrasts: Tensor | None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Give log-scale (of the finest, which has contrasts), image, and what is handed on."""
        finest = contrasts is not None
        if handed is None:
            height, width = ((size + 1) // 2 for size in base.shape[-2:])
            handed = base.new_zeros(len(base), _HANDED, height, width)
        net = self.fine if finest else self.coarse
        if self.training or max(base.shape[-2:]) <= _TILE + net.reach:
            return self._fill_piece(base, share, handed, contrasts, (0, 0))
        image = base.clone()
        more = base.new_zeros(len(base), 1 if finest else _HANDED, *base.shape[-2:])
        for tile in tiles(*base.shape[-2:], core=_TILE, halo=net.reach):
            look, kept = (..., tile.rows, tile.columns), (..., tile.kept_rows, tile.kept_columns)
            if not bool(share[kept].any()):
                continue
            coarse = (..., _halved(tile.rows), _halved(tile.columns))
            corner = (tile.rows.start, tile.columns.start)
            near = None if contrasts is None else contrasts[coarse]
            log_scale, piece, on = self._fill_piece(
                base[look], share[look], handed[coarse], near, corner
            )
            inner = (..., tile.inner_rows, tile.inner_columns)
            image[kept] = piece[inner]
            more[kept] = (on if log_scale is None else log_scale)[inner]
        return (more, image, handed) if finest else (None, image, more)

    def _fill_piece(
        self,
        base: Tensor,
        share: Tensor,
        handed: Tensor,
        contrasts: Tensor | None,
        corner: tuple[int, int],
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        # No more than is needed: then no image depends on how deep others of its batch go.
        coarser = torch.where(share == 1, _doubled(handed, base), 0.0)
        seen = [base - 0.5, share, coarser]
        if contrasts is not None:
            seen.append(_grid_phase(base, corner).expand(len(base), -1, -1, -1))
        net = self.coarse if contrasts is None else self.fine
        features = net(torch.cat(seen, 1))
        image = torch.where(share > 0, base + net.leave(features).float(), base)
        if contrasts is not None:
            # Detached: learning the scale must not change the estimate.
            told = torch.cat((features.detach(), _doubled(contrasts, base).to(features.dtype)), 1)
            return bounded_log_scale(self.scale(told).float()), image, handed
        return None, image, self.hand(features).float()


def _contrasts(images: Tensor, hidden: Tensor) -> Tensor:
    """Logarithms of the contrast of known pixels, fine to coarse: (N, C, ceil(H/2), ceil(W/2)).

    Errors grow with it. Inside of holes it is that of the nearest pixels that are known.
    """
    known = (~hidden).float()
    total = images.mean(1, keepdim=True) * known
    found: list[Tensor] = []
    for number in range(_CONTRASTS):
        total, known = halved(total), halved(known)
        mean = total / known.clamp(min=1e-6)
        steps = torch.zeros_like(mean)
        count = torch.zeros_like(mean)
        for dim, end in ((-1, (0, 1, 0, 0)), (-2, (0, 0, 0, 1))):
            length = mean.shape[dim] - 1
            there = (known.narrow(dim, 0, length) * known.narrow(dim, 1, length) > 0).float()
            steps += F.pad(mean.diff(dim=dim).abs() * there, end)
            count += F.pad(there, end)
        sums = (F.avg_pool2d(each, 5, stride=1, padding=2) for each in (steps, count))
        around = _spread(*sums)
        if found:
            around = F.interpolate(around, scale_factor=2**number, mode="nearest")
            around = around[..., : found[0].shape[-2], : found[0].shape[-1]]
        found.append(around)
    return torch.log(torch.cat(found, 1) + _LEAST_CONTRAST) / 2 + 2


def _spread(total: Tensor, count: Tensor) -> Tensor:
    """Give means, and where nothing was counted those of the least coarse pixel where some was."""
    mean = total / count.clamp(min=1e-6)
    if bool((count > 0).all()) or max(count.shape[-2:]) == 1:
        return mean
    return torch.where(count > 0, mean, _doubled(_spread(halved(total), halved(count)), mean))


def _doubled(coarse: Tensor, like: Tensor) -> Tensor:
    height, width = like.shape[-2:]
    return F.interpolate(coarse, scale_factor=2, mode="nearest")[..., :height, :width]


def _halved(span: slice) -> slice:
    return slice(span.start // 2, (span.stop + 1) // 2)


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
        total, known = halved(total), halved(known)
        mean = torch.where(known > 0, total / known.clamp(min=1e-6), 0.5)
        scales.append((mean, 1 - known))
    return scales


def halved(images: Tensor) -> Tensor:
    """Halve by means of 2x2 pixels: (N, C, H, W) to (N, C, ceil(H/2), ceil(W/2))."""
    height, width = images.shape[-2:]
    # Odd sizes: the last row or column counts twice, as if the image went on.
    images = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(images, 2)


def _grid_phase(like: Tensor, corner: tuple[int, int]) -> Tensor:
    """Say where each pixel lies in the grid of JPEG: (1, 4, H, W); `corner` is that of a piece."""
    turns = [
        (start + torch.arange(size, device=like.device, dtype=torch.float32)) * 2 * math.pi / _GRID
        for start, size in zip(corner, like.shape[-2:], strict=True)
    ]
    y, x = torch.meshgrid(*turns, indexing="ij")
    return torch.stack((y.sin(), y.cos(), x.sin(), x.cos())).unsqueeze(0)
