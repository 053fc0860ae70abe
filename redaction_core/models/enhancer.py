"""Enhancer: undoes pixelation and blur in low-resolution space.

A pixelated image holds one value a block, so the network works on blocks, not on pixels: a
residual body, then a block of pixels out of the features of its place. That costs the less the
stronger the redaction is, sees the further, and shares what it learns between block sizes. Blurred
images are deconvolved in several ways and folded to a sixteenth of their places first, and have a
body of their own; it says, place by place, which of the ways to follow, and adds detail.

What the input fixes exactly (block means, or sampled pixels) is put back into the estimate, so a
result always explains its input.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redaction_core.models.estimate import Estimate, bounded_log_scale
from redaction_core.models.patches import Patches
from redaction_core.models.starts import SMOOTHNESS, deconvolve, explain, start_of
from redaction_core.models.trunk import Trunk
from redaction_core.redaction import Blur, Pixelate

MAX_BLOCK = 16
"""Pixels a side of the largest blocks of a mosaic that it undoes; the least have 2."""
SIGMAS = (0.5, 8.0)
"""Least and largest blur, in pixels, that it undoes."""
_FOLD = 4
_CONDITIONS = 4
_ORDER = 8
_SCALE_ORDER = 4
_OF_SCALE = 16
_CONTRASTS = 4
_WIDE = 4
_LEAST_CONTRAST = 0.002
"""Half a level of 8 bits: less is rounding."""


class Enhancer(nn.Module):
    """Gray redacted image to a sharp estimate, at any image size."""

    def __init__(self, *, width: int = 48, blocks: int = 8) -> None:
        """Build bodies of `width` channels and `blocks` residual blocks of two convolutions."""
        super().__init__()
        sizes = {"conditions": _CONDITIONS, "width": width, "blocks": blocks}
        self.mosaic = Trunk(inputs=1, kernel=5, **sizes)
        self.blur = Trunk(inputs=(len(SMOOTHNESS) + 1) * _FOLD**2, kernel=3, **sizes)
        self.leave = nn.ModuleDict(
            {
                "mosaic": Patches(width, order=_ORDER),
                "blur": Patches(width, order=_FOLD),
            }
        )
        self.scale = nn.ModuleDict({name: _Scale(width) for name in self.leave})
        self.blend = nn.Conv2d(width, len(SMOOTHNESS), 1)
        for weight in self.blend.parameters():
            nn.init.zeros_(weight)

    def forward(
        self,
        images: Tensor,
        how: Pixelate | Blur,
        *,
        with_scale: bool = True,
    ) -> Estimate:
        """Estimate the sharp image.

        Args:
            images: float (N, 1, H, W), 0 to 1, pixelated or blurred.
            how: what was done to the whole batch.
            with_scale: the log-scale is wanted; it takes about a twelfth of the time.

        Returns:
            Image, float32 (N, 1, H, W), not clipped; log-scale of the same shape.

        """
        images = images.float()
        height, width = images.shape[-2:]
        if isinstance(how, Blur):
            name, block = "blur", _FOLD
            starts = deconvolve(images, how.sigma)
            features = self.blur(fold(torch.cat((starts, images), 1) - 0.5), _of_blur(how, images))
            start = self._blended(starts, features)
        else:
            name, block = "mosaic", how.block
            start = start_of(images, how)
            blocks = images[..., ::block, ::block] - 0.5
            blocks = blocks.contiguous(memory_format=torch.channels_last)
            features = self.mosaic(blocks, _of_mosaic(how, images))
        level = isinstance(how, Pixelate) and not how.nearest
        detail = self.leave[name](features, block, level=level)[..., :height, :width]
        sharp = explain(start + detail.float(), images, how)
        if not with_scale:
            return Estimate(sharp, None)
        raw = self.scale[name](features, block, sharp, start)
        return Estimate(sharp, bounded_log_scale(raw.float()))

    def _blended(self, starts: Tensor, features: Tensor) -> Tensor:
        """Mix deconvolutions as the features say: (N, K, H, W) to (N, 1, H, W)."""
        shares = self.blend(features).float().softmax(1)
        shares = F.interpolate(shares, scale_factor=_FOLD, mode="bilinear", align_corners=False)
        height, width = starts.shape[-2:]
        return (shares[..., :height, :width] * starts).sum(1, keepdim=True)


class _Scale(nn.Module):
    """How far pixels may be off: the raw log-scale.

    Errors grow with contrast, so it is told the logarithms of the estimate's own, near and wide,
    and of what was added to the start; with what the features that made them say of each pixel.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(width, width, 3, padding=1)
        self.leave = Patches(width, order=_SCALE_ORDER, kernel=1)
        self.near = nn.Conv2d(1 + _CONTRASTS, _OF_SCALE, 3, padding=1)
        self.join = nn.Conv2d(_OF_SCALE, _OF_SCALE, 1)
        self.out = nn.Conv2d(_OF_SCALE, 1, 1)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def forward(self, features: Tensor, block: int, sharp: Tensor, start: Tensor) -> Tensor:
        # Detached: learning the scale must not change the estimate.
        features, sharp, start = features.detach(), sharp.detach(), start.detach()
        raw = self.leave(F.relu(self.look(features), inplace=True), block).float()
        height, width = sharp.shape[-2:]
        raw = raw[..., :height, :width]
        seen = torch.cat((_halved(raw), _contrasts(sharp, start)), 1)
        x = F.relu(self.near(seen.contiguous(memory_format=torch.channels_last)), inplace=True)
        coarse = self.out(F.relu(self.join(x), inplace=True)).float()
        more = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        log_scale: Tensor = raw + more[..., :height, :width]
        return log_scale


def _contrasts(sharp: Tensor, start: Tensor) -> Tensor:
    """Logarithms of four contrasts, around 0: (N, 1, H, W) to (N, 4, ceil(H/2), ceil(W/2))."""
    down = sharp.diff(dim=-2, append=sharp[..., -1:, :]).abs()
    right = sharp.diff(dim=-1, append=sharp[..., -1:]).abs()
    steps = _halved(down + right)
    near = F.avg_pool2d(steps, 3, stride=1, padding=1, count_include_pad=False)
    wide = F.avg_pool2d(steps, _WIDE, ceil_mode=True, count_include_pad=False)
    wide = F.avg_pool2d(wide, 5, stride=1, padding=2, count_include_pad=False)
    wide = F.interpolate(wide, scale_factor=_WIDE, mode="nearest")
    wide = wide[..., : steps.shape[-2], : steps.shape[-1]]
    found = torch.cat((steps, near, wide, _halved((sharp - start).abs())), 1)
    return torch.log(found + _LEAST_CONTRAST) / 2 + 2


def _halved(planes: Tensor) -> Tensor:
    pooled: Tensor = F.avg_pool2d(planes, 2, ceil_mode=True, count_include_pad=False)
    return pooled


def _of_mosaic(how: Pixelate, like: Tensor) -> Tensor:
    block = float(how.block)
    # With even blocks the sampled pixel is half a pixel away from the middle.
    off = 2 / block if how.nearest and how.block % 2 == 0 else 0.0
    values = (math.log2(block) / 4, 4 / block, float(how.nearest), off)
    return like.new_tensor(values).view(1, _CONDITIONS)


def _of_blur(how: Blur, like: Tensor) -> Tensor:
    values = (how.sigma / 4, math.log2(how.sigma) / 2, 1 / how.sigma, 1.0)
    return like.new_tensor(values).view(1, _CONDITIONS)


def fold(images: Tensor) -> Tensor:
    """Space-to-depth by 4, edges replicated: (N, C, H, W) to (N, 16 C, ceil(H/4), ceil(W/4))."""
    height, width = images.shape[-2:]
    if height % _FOLD or width % _FOLD:
        images = F.pad(images, (0, -width % _FOLD, 0, -height % _FOLD), mode="replicate")
    return F.pixel_unshuffle(images, _FOLD).contiguous(memory_format=torch.channels_last)
