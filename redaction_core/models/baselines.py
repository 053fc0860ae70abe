"""The two published networks, exactly as published; what ours are measured against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redaction_core.models.estimate import Estimate
from redaction_core.redaction import Blur, Pixelate


class EnhancerBaseline(nn.Module):
    """Encoder and decoder on the pixelated image itself; 67 GFLOP for one image of 224x224."""

    def __init__(self) -> None:
        """Build with the published widths."""
        super().__init__()
        widths = ((1, 256), (256, 256), (256, 512), (512, 512), (512, 256), (256, 1))
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in widths)

    def forward(
        self,
        pixelated: Tensor,
        how: Pixelate | Blur,  # noqa: ARG002 - one interface
        *,
        with_scale: bool = True,  # noqa: ARG002 - the same
    ) -> Estimate:
        """Estimate the sharp image: float (N, 1, H, W), 0 to 1, to the same shape and range.

        Sizes that are no multiple of 4 are continued at the right and lower edge, then cut.
        """
        height, width = pixelated.shape[-2:]
        one, two, three, four, five, six = self.convolutions
        x = F.pad(pixelated.float(), (0, -width % 4, 0, -height % 4), mode="replicate")
        x = F.max_pool2d(F.relu(one(x)), 2)
        x = F.max_pool2d(F.relu(two(x)), 2)
        x = F.interpolate(F.relu(four(F.relu(three(x)))), scale_factor=2)
        x = F.interpolate(F.relu(five(x)), scale_factor=2)
        return Estimate(torch.sigmoid(six(x)).float()[..., :height, :width], None)


class RedactoBaseline(nn.Module):
    """Three convolutions, the mask appended to the input of each."""

    def __init__(self, *, mask_everywhere: int = 1) -> None:
        """Build with the published widths.

        With 0 for `mask_everywhere` the first layer alone is given the mask, and the others a
        feature more in its place: what the published gain is measured against.
        """
        super().__init__()
        self._everywhere = bool(mask_everywhere)
        more = 0 if self._everywhere else 1
        self.first = nn.Conv2d(4, 7 + more, 3, padding=1)
        self.second = nn.Conv2d(8, 5 + more, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, images: Tensor, hidden: Tensor) -> Estimate:
        """Fill hidden pixels: float (N, 3, H, W), 0 to 1, and bool (N, 1, H, W), to (N, 3, H, W).

        Known pixels come back as they were.
        """
        images = images.float()
        mask = hidden.float()
        x = F.relu(self.first(torch.cat((torch.where(hidden, 0.5, images), mask), 1)))
        for layer in (self.second, self.last):
            x = layer(torch.cat((x, mask), 1) if self._everywhere else x)
            x = F.relu(x) if layer is self.second else x
        return Estimate(torch.where(hidden, x.float(), images), None)
