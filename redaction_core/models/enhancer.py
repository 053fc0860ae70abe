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
        self.scale = nn.ModuleDict(
            {name: Patches(width, order=_SCALE_ORDER, kernel=1) for name in self.leave}
        )
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
            with_scale: the log-scale is wanted; it takes about a twentieth of the time.

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
        # Detached: learning the scale must not change the estimate.
        raw = self.scale[name](features.detach(), block)[..., :height, :width]
        return Estimate(sharp, bounded_log_scale(raw.float()))

    def _blended(self, starts: Tensor, features: Tensor) -> Tensor:
        """Mix deconvolutions as the features say: (N, K, H, W) to (N, 1, H, W)."""
        shares = self.blend(features).float().softmax(1)
        shares = F.interpolate(shares, scale_factor=_FOLD, mode="bilinear", align_corners=False)
        height, width = starts.shape[-2:]
        return (shares[..., :height, :width] * starts).sum(1, keepdim=True)


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
