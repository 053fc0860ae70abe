"""What a sample shows of its image: a crop at some scale, mirrored or not, with its colours or not.

Drawn for a whole global batch at once, so that it is the same for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from redaction_core.images import Pixels

_JPEG_BLOCK: Final = 8


@dataclass(frozen=True, kw_only=True)
class Crops:
    """What each of n samples shows."""

    regions: npt.NDArray[np.int64]
    """Pixels a side of the square that is seen, which is shrunk to the side of the crop."""
    tops: npt.NDArray[np.int64]
    lefts: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.bool_]
    """Left and right change places."""
    gray: npt.NDArray[np.bool_]
    """Colours are left out."""

    @classmethod
    def draw(  # noqa: PLR0913 - by name
        cls,
        rng: np.random.Generator,
        scales: npt.NDArray[np.float64],
        *,
        side: int,
        crop: int,
        on_grid: bool,
        gray_share: float,
    ) -> Self:
        """Draw for images of `side` pixels a side, of which `crop` (at most `side`) are shown.

        A region is the crop's side divided by its scale, at most the image. `on_grid`: the grid
        of 8x8 blocks that JPEG leaves lies, where nothing is shrunk, as in a whole picture: blocks
        begin at the crop's top left, also after mirroring. Takes 4 n numbers of `rng`.
        """
        down, right, mirror, gray = rng.random((4, len(scales)))
        regions = np.clip(np.rint(crop / scales), crop, side).astype(np.int64)
        free = side - regions
        mirrored = mirror < 0.5  # noqa: PLR2004 - every second
        step = np.where((regions == crop) & on_grid, _JPEG_BLOCK, 1)
        # A mirrored crop begins where it ends in the image: there a block must end.
        first = -crop % step
        mirrored &= first <= free
        first = np.where(mirrored, first, 0)
        return cls(
            regions=regions,
            tops=step * (down * (free // step + 1)).astype(np.int64),
            lefts=first + step * (right * ((free - first) // step + 1)).astype(np.int64),
            mirrored=mirrored,
            gray=gray < gray_share,
        )

    def __getitem__(self, some: slice) -> Self:
        """Give those of some samples."""
        return type(self)(**{each.name: getattr(self, each.name)[some] for each in fields(self)})

    def cut(self, number: int, image: Pixels, out: Pixels) -> None:
        """Put what one sample shows into `out`, uint8 (channels, crop, crop).

        `image` is uint8 (side, side) or (side, side, 3); gray is repeated for more channels.
        """
        region, top, left = self.regions[number], self.tops[number], self.lefts[number]
        seen = image[top : top + region, left : left + region]
        crop = out.shape[-1]
        planes = seen[None] if seen.ndim == 2 else seen.transpose(2, 0, 1)  # noqa: PLR2004
        if region != crop:
            # Copied in the order that it lies in: what is interleaved is shrunk twice as fast.
            copied = torch.from_numpy(seen.copy())
            tensor = copied[None] if seen.ndim == 2 else copied.permute(2, 0, 1)  # noqa: PLR2004
            planes = F.interpolate(tensor[None], (crop, crop), mode="bicubic", antialias=True)[
                0
            ].numpy()
        if self.mirrored[number]:
            planes = planes[..., ::-1]
        if self.gray[number] and len(planes) > 1:
            planes = _luma(planes)
        out[:] = planes


def _luma(planes: Pixels) -> Pixels:
    """Give the luma of (3, H, W) as (1, H, W), rounded as Pillow does (ITU-R BT.601)."""
    red, green, blue = planes.astype(np.uint32)
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    gray: Pixels = luma.astype(np.uint8)[None]
    return gray
