"""Bytes to pixels: gray or RGB, 8 bits, upright, whatever the file looked like.

Pillow decodes. OpenCV would decode JPEG in two thirds of the time, but it takes damaged files for
whole ones, and what is missing in them may hold the memory of other images.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from redaction_core.errors import Failure, InputError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""uint8, HxW (gray) or HxWx3 (RGB), 0 to 255."""

_Value = TypeVar("_Value", bound=np.generic)

DEFAULT_MAX_PIXELS = 2**27

_PILLOW_MAX_PIXELS = 2**28
_STRIP_VALUES = 2**22

_PLUGINS: tuple[tuple[tuple[bytes, ...], type[ImageFile]], ...] = (
    ((b"\xff\xd8\xff",), JpegImagePlugin.JpegImageFile),
    ((b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    ((b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
)
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)

_OTHER_FORMATS = (
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftyp", "HEIC, AVIF or video"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\x01\0", "icon"),
)

# What Pillow's parsers let through when a file lies to them.
_CORRUPT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_HUSHED = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)
_HUSHING = threading.Lock()


@dataclass(frozen=True)
class Decoded:
    """Pixels, and what had to be changed or left out to get them."""

    pixels: Pixels
    """uint8, HxW (gray) or HxWx3 (RGB), upright, writable, contiguous."""
    notes: tuple[str, ...] = ()
    """For people, such as "first of 3 frames" or "alpha dropped"."""


def decode(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Decode the first frame of a JPEG, PNG, WebP, TIFF, BMP or GIF file to 8-bit gray or RGB.

    Of 16 bits the high byte is kept, alpha is dropped without blending, EXIF rotation is applied.
    Width times height above `max_pixels` is refused from the header, before pixels are decoded.
    Raises InputError: empty_file, not_an_image, too_many_pixels, truncated (or corrupt),
    unsupported, out_of_memory.
    """
    image = open_header(data, max_pixels)
    with translated():
        pixels, notes = read_pixels(image)
        return Decoded(pixels, (*_frame_notes(image), *notes))


def decode_mask(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.bool_]:
    """Decode a mask to bool, HxW: a pixel that is not 0 in any channel but alpha is hidden.

    Palette colours count, not palette numbers. Raises InputError as `decode` does; 16-bit colour
    is unsupported, as a faint value would be lost in its low byte.
    """
    image = open_header(data, max_pixels)
    with translated():
        deep = image.mode in {"I", "F"} or image.mode.startswith("I;16")
        if not deep and ";16" in _raw_mode(image):
            raise InputError(Failure.UNSUPPORTED, "a mask in 16-bit colour; save it with 8 bits")
        image.load()
        values = np.asarray(image) if deep else _eight_bit(image)
        hidden = values != 0
        if hidden.ndim == 3:  # noqa: PLR2004 - rows, columns, channels
            hidden = hidden.any(axis=2)
        return _upright(hidden, orientation(image))


def pixel_count(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> int:
    """Read width times height from the header. Raises InputError as `decode` does."""
    width, height = open_header(data, max_pixels).size
    return width * height


def gray_planes(pixels: Pixels) -> bool:
    """Say whether a picture has no colour: it is HxW, or its three planes are equal."""
    if pixels.ndim == 2:  # noqa: PLR2004 - rows and columns
        return True
    red, green, blue = (pixels[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)


def open_header(data: bytes, max_pixels: int) -> ImageFile:
    """Read the header alone. Raises InputError as `decode` does."""
    if not data:
        raise InputError(Failure.EMPTY_FILE, "the file has no bytes")
    plugin = _plugin(data)
    # Pillow's cap holds for the whole process and warns; `max_pixels` decides, this backs it up.
    Image.MAX_IMAGE_PIXELS = _PILLOW_MAX_PIXELS
    _hush()
    with translated():
        image = plugin(io.BytesIO(data))
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(
            Failure.TOO_MANY_PIXELS, f"{width} x {height} is more than {max_pixels} pixels"
        )
    return image


def read_pixels(image: ImageFile) -> tuple[Pixels, list[str]]:
    """Give the upright pixels of an image whose header is read, and notes; to be `translated`."""
    bits = 16 if ";16" in _raw_mode(image) else 8
    # Pillow turns TIFF images itself while loading, and some PNG files name it at their end.
    before = orientation(image)
    image.load()
    notes = _mode_notes(image, bits)
    pixels = _eight_bit(image)
    after = orientation(image)
    if max(before, after) > 1:
        notes.append("rotated by EXIF")
    return _upright(pixels, after), notes


@contextmanager
def translated() -> Iterator[None]:
    """Raise as InputError what Pillow raises for a file that is damaged or too large."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise InputError(Failure.TOO_MANY_PIXELS, str(error)) from error
    except (*_CORRUPT, MemoryError) as error:
        _refuse(error)


def _hush() -> None:
    """Keep Pillow from warning of odd tags: whoever reads a million files cannot act on it.

    For good, as `warnings.catch_warnings` is not made for threads.
    """
    if _HUSHED not in warnings.filters:
        with _HUSHING:
            if _HUSHED not in warnings.filters:
                warnings.filterwarnings("ignore", category=UserWarning, module=_HUSHED[3].pattern)


def _plugin(data: bytes) -> type[ImageFile]:
    """Choose by the first bytes: Pillow's own search would try, and warn about, far more."""
    for magics, plugin in _PLUGINS:
        if data.startswith(magics):
            return plugin
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    # Two letters alone are too weak a sign of a BMP file.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return BmpImagePlugin.BmpImageFile
    for offset, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise InputError(Failure.UNSUPPORTED, f"{name} is not read; save it as PNG or JPEG")
    raise InputError(Failure.NOT_AN_IMAGE, f"begins with {data[:8]!r}, as no known image does")


def _refuse(error: BaseException) -> NoReturn:
    """Translate what Pillow raised."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, MemoryError):
        raise InputError(Failure.OUT_OF_MEMORY, "its pixels do not fit in memory") from error
    # Pillow has no class of its own for these, only these words.
    unsupported = "nsupported" in text or "unknown pixel mode" in text
    failure = Failure.UNSUPPORTED if unsupported else Failure.TRUNCATED
    raise InputError(failure, text) from error


def _raw_mode(image: ImageFile) -> str:
    """Give the layout in the file, such as "RGB;16B"; known only before pixels are decoded."""
    args = image.tile[0].args if image.tile else None
    return str(args[0] if isinstance(args, tuple) else args)


def _eight_bit(image: ImageFile) -> Pixels:
    """Give the pixels of a loaded image of any mode that is read."""
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    target = "L" if image.mode in {"1", "L", "LA", "La"} else "RGB"
    picture: Image.Image = image
    if image.mode != target:
        image.info.pop("transparency", None)  # Pillow would warn that it cannot be kept
        picture = image.convert(target)
    width, height = picture.size
    pixels = np.empty((height, width) if target == "L" else (height, width, 3), np.uint8)
    # Strip by strip, as Pillow hands over pixels by way of two further copies.
    step = max(1, _STRIP_VALUES // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        whole = bottom - top == height
        strip = picture if whole else picture.crop((0, top, width, bottom))
        pixels[top:bottom] = np.asarray(strip)
    return pixels


def _mode_notes(image: ImageFile, bits: int) -> list[str]:
    """Say what `_eight_bit` will change; raise for modes that cannot be read faithfully."""
    mode = image.mode
    notes = ["16-bit reduced to 8"] if bits == 16 else []  # noqa: PLR2004
    if mode in {"I", "F", "LAB"} or (mode.startswith("I;16") and bits == 8):  # noqa: PLR2004
        raise InputError(Failure.UNSUPPORTED, f"pixels of kind {mode} are not read")
    if mode == "1":
        notes.append("1-bit widened to 8")
    if mode in {"P", "PA"}:
        notes.append("palette converted to RGB")
    if mode in {"CMYK", "YCbCr"}:
        notes.append(f"converted from {mode}")
    if image.has_transparency_data:
        notes.append("alpha dropped")
    return notes


def _frame_notes(image: ImageFile) -> list[str]:
    """Count the frames; moves on in the file, so it comes last."""
    try:
        frames = getattr(image, "n_frames", 1)
    except _CORRUPT:
        return ["first of several frames"]  # the later ones are damaged
    return [f"first of {frames} frames"] if frames > 1 else []


def orientation(image: ImageFile) -> int:
    """Give the EXIF orientation still to be undone, 1 to 8; damaged EXIF counts as none."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(ExifTags.Base.Orientation, 1)
    else:
        exif = Image.Exif()
        try:
            exif.load(image.info.get("exif", b""))
            value = exif.get(ExifTags.Base.Orientation, 1)
        except _CORRUPT:
            return 1
    return value if value in range(1, 9) else 1


def _upright(pixels: npt.NDArray[_Value], orientation: int) -> npt.NDArray[_Value]:
    """Undo an EXIF orientation (Exif 2.32, tag 274)."""
    if orientation == 1:
        return pixels
    if orientation >= 5:  # noqa: PLR2004 - from here on, rows and columns are exchanged
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
