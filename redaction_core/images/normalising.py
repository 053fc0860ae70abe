"""Any image to one size and colour: what `Transform` says, exact enough to be done again elsewhere.

1. The first frame, 8 bits, upright by EXIF, alpha dropped, as `decode` gives it. A JPEG that is at
   least four times as large on both sides as what its fit asks for is decoded at 1/2, 1/4 or 1/8
   of its size (the decoder's own scaling in the DCT domain), the smallest that leaves both sides at
   least twice as large: `Image.draft(None, (2 * width, 2 * height))`. What follows is done to that.
2. Gray of a colour JPEG is the luma that the file holds (`Image.draft("L", ...)`), of every other
   picture Pillow's `convert("L")`: (19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R BT.601).
   Colour of a gray picture is three equal planes.
3. The fit. "crop": the largest square, from row (H - S) // 2 and column (W - S) // 2. "pad": the
   longer side becomes the size, the shorter one the same share of it, rounded half up, at least
   1; black is put around it, the odd pixel below or right. "stretch": both sides become the size.
4. Pillow's bicubic filter, which averages where it shrinks: `Image.resize(size, BICUBIC)`. A
   picture that already has the size passes unchanged.

A change to what any of this gives is a new `TRANSFORM_VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.images.decoding import (
    DEFAULT_MAX_PIXELS,
    Pixels,
    open_header,
    orientation,
    read_pixels,
    translated,
)

TRANSFORM_VERSION = 1
"""Of the description above; part of what a data set says about itself."""

Color: TypeAlias = Literal["gray", "rgb"]
Fit: TypeAlias = Literal["crop", "pad", "stretch"]

MAX_SIZE = 16_383
"""The longest side that every format of `encode` can hold."""

_STRIP_VALUES = 2**22


@dataclass(frozen=True, kw_only=True)
class Transform:
    """What becomes of every image. Raises UsageError where a number is out of its range."""

    size: int = 224
    """Pixels a side of the result, 1 to `MAX_SIZE`."""
    color: Color = "gray"
    fit: Fit = "crop"
    min_size: int = 0
    """Sources with a side shorter than this are refused."""
    max_pixels: int = DEFAULT_MAX_PIXELS
    """Sources of more pixels than this are refused."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE:
            raise UsageError(f"a size of {self.size} pixels; it must be 1 to {MAX_SIZE}")
        if self.min_size < 0 or self.max_pixels < 1:
            raise UsageError("the limits on the size of a source must be positive")


@dataclass(frozen=True)
class Normalised:
    """One image, as the data set holds it."""

    pixels: Pixels
    """uint8, size x size (gray) or size x size x 3 (RGB), contiguous."""
    source_width: int
    source_height: int
    """Pixels of the source, upright."""


def normalise(data: bytes, transform: Transform) -> Normalised:
    """Decode a file and apply the transform. May be called from many threads at once.

    Limits on the size are checked from the header, before pixels are decoded. Raises InputError:
    too_small, and what `decode` raises.
    """
    image = open_header(data, transform.max_pixels)
    width, height = image.size
    refuse_small(width, height, transform)
    with translated():
        if isinstance(image, JpegImageFile):
            if orientation(image) >= 5:  # noqa: PLR2004 - it lies on its side
                upright_width, upright_height = height, width
            else:
                upright_width, upright_height = width, height
            wanted = _fitted(width, height, transform)
            mode = "L" if transform.color == "gray" else None
            image.draft(mode, (2 * wanted[0], 2 * wanted[1]))
            pixels, _ = read_pixels(image)
        else:
            pixels, _ = read_pixels(image)
            upright_height, upright_width = pixels.shape[:2]
        return Normalised(normalise_pixels(pixels, transform), upright_width, upright_height)


def refuse_small(width: int, height: int, transform: Transform) -> None:
    """Raise InputError (too_small) for a source with a side below the transform's `min_size`."""
    if min(width, height) < transform.min_size:
        raise InputError(
            Failure.TOO_SMALL, f"{width} x {height}; a side is below {transform.min_size} pixels"
        )


def normalise_pixels(pixels: Pixels, transform: Transform) -> Pixels:
    """Apply fit, colour and size of the transform to upright pixels, HxW or HxWx3.

    Gives size x size (gray) or size x size x 3 (RGB), contiguous. The limits on the size of a
    source are not checked.
    """
    if transform.fit == "crop":
        side = min(pixels.shape[:2])
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        pixels = pixels[top : top + side, left : left + side]
    if transform.color == "gray":
        pixels = _gray(pixels)
    height, width = pixels.shape[:2]
    wanted = _fitted(width, height, transform)
    if (width, height) != wanted:
        resized = Image.fromarray(pixels).resize(wanted, Image.Resampling.BICUBIC)
        pixels = np.asarray(resized, np.uint8)
    if transform.color == "rgb" and pixels.ndim == 2:  # noqa: PLR2004 - rows and columns
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return _padded(pixels, transform.size)


def difference_hash(pixels: Pixels) -> int:
    """Give the 64-bit dHash of HxW or HxWx3 pixels, unsigned: near pictures differ in few bits.

    The gray picture is averaged down to 8 rows of 9; row by row, from the highest bit, a bit is 1
    where a value is above the one left of it (Krawetz 2013, "Kind of Like That").
    """
    small = cv2.resize(_gray(pixels), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())


def _fitted(width: int, height: int, transform: Transform) -> tuple[int, int]:
    """Give width and height to resize to, before black is put around."""
    size = transform.size
    if transform.fit != "pad":
        return size, size
    longer = max(width, height)
    fitted_width, fitted_height = (
        max(1, (2 * side * size + longer) // (2 * longer)) for side in (width, height)
    )
    return fitted_width, fitted_height


def _gray(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:  # noqa: PLR2004 - rows and columns
        return pixels
    height, width = pixels.shape[:2]
    gray = np.empty((height, width), np.uint8)
    # Strip by strip, as Pillow copies what it converts.
    step = max(1, _STRIP_VALUES // width)
    for top in range(0, height, step):
        strip = Image.fromarray(pixels[top : top + step])
        gray[top : top + step] = np.asarray(strip.convert("L"))
    return gray


def _padded(pixels: Pixels, size: int) -> Pixels:
    height, width = pixels.shape[:2]
    if height == width == size:
        return np.ascontiguousarray(pixels)  # a crop that needed no resizing is a view
    padded = np.zeros((size, size, *pixels.shape[2:]), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    padded[top : top + height, left : left + width] = pixels
    return padded
