"""Redactions as torch operations: batched, exact at any image size, rounded to 8 bits.

One implementation serves training, reconstruction and audit, so that redacting while
reconstructing gives exactly what redacting the files first would give.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from redaction_core.errors import UsageError
from redaction_core.strokes import draw_strokes

if TYPE_CHECKING:
    from collections.abc import Sequence

Mask = npt.NDArray[np.bool_]

HIDDEN_U8 = 128
"""The mid-gray that hidden pixels are filled with."""

_FORMS = (
    "pixelate:B, pixelate:B:nearest, blur:S, box:WxH@center, box:WxH@random, box:F@center, "
    "box:F@random, freeform:F@random or pixels:F@random "
    "(B and WxH in pixels, S a standard deviation in pixels, F a share of the area)"
)


@dataclass(frozen=True, kw_only=True)
class Pixelate:
    """Every block of `block` x `block` pixels becomes one value; blocks start at the top left."""

    block: int
    nearest: bool = False

    def __str__(self) -> str:
        """Give the text form that `parse` reads."""
        return f"pixelate:{self.block}" + (":nearest" if self.nearest else "")


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Gaussian blur with a standard deviation of `sigma` pixels."""

    sigma: float

    def __str__(self) -> str:
        """Give the text form that `parse` reads."""
        return f"blur:{_plain(self.sigma)}"


@dataclass(frozen=True, kw_only=True)
class Box:
    """Hidden pixels: a rectangle, or a square of the share `fraction` of the area."""

    width: int = 0
    height: int = 0
    fraction: float = 0.0
    random: bool = False

    def __str__(self) -> str:
        """Give the text form that `parse` reads."""
        size = _plain(self.fraction) if self.fraction else f"{self.width}x{self.height}"
        return f"box:{size}@{'random' if self.random else 'center'}"

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Give the box's (height, width) in an image of that size, never larger than the image."""
        if self.fraction:
            side = max(1, round(math.sqrt(self.fraction * height * width)))
            return min(side, height), min(side, width)
        return min(self.height, height), min(self.width, width)


@dataclass(frozen=True, kw_only=True)
class Freeform:
    """Hidden pixels: strokes of a brush, in all the share `fraction` of the area.

    As the free-form masks of Yu et al. 2019, "Free-form image inpainting with gated convolution".
    """

    fraction: float

    def __str__(self) -> str:
        """Give the text form that `parse` reads."""
        return f"freeform:{_plain(self.fraction)}@random"


@dataclass(frozen=True, kw_only=True)
class Scattered:
    """Hidden pixels: the share `fraction` of all, each for itself."""

    fraction: float

    def __str__(self) -> str:
        """Give the text form that `parse` reads."""
        return f"pixels:{_plain(self.fraction)}@random"


Hiding = Box | Freeform | Scattered
Redaction = Pixelate | Blur | Hiding


class Redacted(NamedTuple):
    """Images, uint8 (N, C, H, W), and their hidden pixels, bool (N, 1, H, W), or None."""

    images_u8: Tensor
    hidden: Tensor | None


def parse(text: str) -> Redaction:
    """Read a redaction from its text form.

    Raises UsageError when the text is none of the forms.
    """
    if match := re.fullmatch(r"pixelate:(\d{1,4})(:nearest)?", text):
        block = int(match[1])
        if block >= 2:  # noqa: PLR2004 - a block of one pixel redacts nothing
            return Pixelate(block=block, nearest=match[2] is not None)
    elif match := re.fullmatch(r"blur:(\d+(?:\.\d+)?)", text):
        sigma = float(match[1])
        if 0 < sigma <= 100:  # noqa: PLR2004 - the kernel grows with sigma; beyond this it is a mistake
            return Blur(sigma=sigma)
    elif (hiding := _parse_hiding(text)) is not None:
        return hiding
    msg = f"redaction {text!r} is not understood: write {_FORMS}"
    raise UsageError(msg)


def _parse_hiding(text: str) -> Hiding | None:
    if match := re.fullmatch(r"box:(\d{1,5})x(\d{1,5})@(center|random)", text):
        width, height = int(match[1]), int(match[2])
        random = match[3] == "random"
        return Box(width=width, height=height, random=random) if width and height else None
    match = re.fullmatch(r"(box|freeform|pixels):(0?\.\d+)@(center|random)", text)
    fraction = float(match[2]) if match else 0.0
    if match is None or not fraction:
        return None
    kind, random = match[1], match[3] == "random"
    if kind == "box":
        return Box(fraction=fraction, random=random)
    return (Freeform if kind == "freeform" else Scattered)(fraction=fraction) if random else None


def redact(redaction: Redaction, images_u8: Tensor, keys: Sequence[str], seed: int = 0) -> Redacted:
    """Redact a batch of images of one size.

    Args:
        redaction: what to do.
        images_u8: uint8 (N, C, H, W), any C.
        keys: one name an image; random places derive from it and the seed alone.
        seed: the run's seed.

    Returns:
        The redacted images, uint8 (N, C, H, W) on the same device, and the pixels that are
        hidden, bool (N, 1, H, W), where that is what it does, else None.

    """
    match redaction:
        case Pixelate(block=block, nearest=True):
            return Redacted(expand_blocks(block_pixels(images_u8, block), block, images_u8), None)
        case Pixelate(block=block):
            means = block_means(images_u8.float(), block).round_().to(torch.uint8)
            return Redacted(expand_blocks(means, block, images_u8), None)
        case Blur(sigma=sigma):
            return Redacted(_blur(images_u8, sigma), None)
        case Box() | Freeform() | Scattered():
            hidden = hidden_pixels(redaction, images_u8.shape, keys, seed).to(images_u8.device)
            return Redacted(images_u8.masked_fill(hidden, HIDDEN_U8), hidden)


def hidden_pixels(how: Hiding, shape: Sequence[int], keys: Sequence[str], seed: int = 0) -> Tensor:
    """Draw the hidden pixels of images (N, C, H, W): bool (N, 1, H, W), on the CPU.

    `keys` has one name an image; random places derive from it and the seed alone.
    """
    hidden = np.zeros((shape[0], 1, *shape[-2:]), np.bool_)
    for mask, key in zip(hidden[:, 0], keys, strict=True):
        digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
        match how:
            case Box():
                _box(how, mask, digest)
            case Freeform(fraction=fraction):
                draw_strokes(mask, _share(mask, fraction), digest)
            case Scattered(fraction=fraction):
                _scatter(mask, _share(mask, fraction), digest)
    return torch.from_numpy(hidden)


def block_means(images: Tensor, block: int) -> Tensor:
    """Mean of every block: float (N, C, H, W) to (N, C, ceil(H/block), ceil(W/block)).

    Blocks at the right and lower edge are the mean of the pixels they have.
    """
    height, width = images.shape[-2:]
    # A window larger than the image is refused; the image is then one block in that direction.
    kernel = (min(block, height), min(block, width))
    return F.avg_pool2d(images, kernel, kernel, ceil_mode=True, count_include_pad=False)


def block_pixels(images: Tensor, block: int) -> Tensor:
    """Pixel at row and column block//2 of every block (the last one of a smaller edge block)."""
    rows, columns = sample_places(images, block)
    return images[..., rows, :][..., columns]


def sample_places(images: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Rows and columns, int64, of the pixels that `block_pixels` takes."""
    places = (
        torch.arange(block // 2, size + block // 2, block, device=images.device).clamp_(
            max=size - 1
        )
        for size in images.shape[-2:]
    )
    rows, columns = places
    return rows, columns


def expand_blocks(blocks: Tensor, block: int, like: Tensor) -> Tensor:
    """Repeat each value over its block: (N, C, h, w) to the height and width of `like`."""
    height, width = like.shape[-2:]
    wide = blocks.repeat_interleave(block, -1)[..., :width]
    return wide.repeat_interleave(block, -2)[..., :height, :]


def _plain(number: float) -> str:
    """Write every digit, and no exponent, which `parse` does not read."""
    return np.format_float_positional(number, trim="-")


def blur_kernel(sigma: float) -> Tensor:
    """Give the Gaussian of a blur along a line: float32 (2 r + 1,), sums to 1.

    Cut off at 4 sigma, as scipy.ndimage.gaussian_filter does.
    """
    return _gaussian(sigma).float()


def _gaussian(sigma: float) -> Tensor:
    radius = int(4 * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()


def _blur(images_u8: Tensor, sigma: float) -> Tensor:
    weights = _gaussian(sigma).tolist()
    radius = len(weights) // 2
    # Sums of a convolution come in another order in another batch, and a half then rounds the other
    # way: shifted images are added one by one instead, in float64.
    planes = images_u8.flatten(0, 1).double()
    for axis, around in ((1, (0, 0, radius, radius)), (2, (radius, radius, 0, 0))):
        size = planes.shape[axis]
        # Edges are replicated, as scipy.ndimage.gaussian_filter(mode="nearest") does.
        wide = F.pad(planes[None], around, mode="replicate")[0]
        planes = planes * weights[radius]
        for away in range(1, radius + 1):
            pair = wide.narrow(axis, radius - away, size) + wide.narrow(axis, radius + away, size)
            planes.add_(pair, alpha=weights[radius + away])
    return planes.round_().clamp_(0, 255).to(torch.uint8).reshape(images_u8.shape)


def _share(mask: Mask, fraction: float) -> int:
    return max(1, round(fraction * mask.size))


def _box(box: Box, mask: Mask, digest: bytes) -> None:
    height, width = mask.shape
    box_height, box_width = box.size(height, width)
    top, left = (height - box_height) // 2, (width - box_width) // 2
    if box.random:
        top = int.from_bytes(digest[:8]) % (height - box_height + 1)
        left = int.from_bytes(digest[8:16]) % (width - box_width + 1)
    mask[top : top + box_height, left : left + box_width] = True


def _scatter(mask: Mask, count: int, digest: bytes) -> None:
    # NumPy keeps the stream of its bit generators for ever, that of its distributions not.
    lots = np.random.PCG64(int.from_bytes(digest)).random_raw(mask.size)
    mask.reshape(-1)[np.argpartition(lots, count - 1)[:count]] = True
