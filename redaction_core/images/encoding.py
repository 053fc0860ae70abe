"""Pixels to bytes: PNG of our own writing, which is fast, and WebP and JPEG by Pillow."""

from __future__ import annotations

import io
import struct
from typing import Literal, TypeAlias

import numpy as np
from isal import isal_zlib
from PIL import Image

from redaction_core.errors import Failure, InputError
from redaction_core.images.decoding import Pixels

Format: TypeAlias = Literal["png", "webp", "jpeg"]

SUFFIXES: dict[Format, str] = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
"""What `encode` can write, and the suffix of each."""

_STRIP_VALUES = 2**22
_IMAGE_DESCRIPTION = 0x010E
"""Tag of Exif."""


def encode(pixels: Pixels, format: Format, description: str = "") -> bytes:  # noqa: A002 - the flag's name
    """Encode uint8 pixels, HxW or HxWx3: lossless as png or webp, quality 95 as jpeg.

    `description`, ASCII, goes into the metadata: PNG's text of that name, Exif's ImageDescription.
    The same pixels give the same bytes on the same kind of machine. Raises InputError
    (unsupported) for a side longer than the format can hold: 16,383 for webp, 65,500 for jpeg.
    """
    if format == "png":
        return _encode_png(pixels, description)
    # Levels above 1 take WebP ten times as long for files a few percent smaller.
    options: dict[str, object] = (
        {"lossless": True, "quality": 0, "method": 1}
        if format == "webp"
        else {"quality": 95, "subsampling": 0}
    )
    if description:
        exif = Image.Exif()
        exif[_IMAGE_DESCRIPTION] = description
        options["exif"] = exif
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format, **options)
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise InputError(
            Failure.UNSUPPORTED, f"{format} cannot hold {width} x {height} pixels: {error}"
        ) from error
    return buffer.getvalue()


def _encode_png(pixels: Pixels, description: str) -> bytes:
    """Write PNG with every row filtered by "up" (PNG specification, 9.2) and ISA-L deflate."""
    height, width = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else 2  # noqa: PLR2004 - gray or RGB
    rows = pixels.reshape(height, -1)
    parts = [
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)),
    ]
    if description:
        parts.append(_chunk(b"tEXt", b"Description\0" + description.encode("ascii")))
    deflate = isal_zlib.compressobj(level=1)
    step = max(1, _STRIP_VALUES // rows.shape[1])
    for top in range(0, height, step):
        strip = rows[top : top + step]
        filtered = np.empty((len(strip), rows.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2
        filtered[0, 1:] = strip[0] - rows[top - 1] if top else strip[0]
        np.subtract(strip[1:], strip[:-1], out=filtered[1:, 1:])
        body = deflate.compress(filtered)
        if top + step >= height:
            body += deflate.flush()
        parts.append(_chunk(b"IDAT", body))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = isal_zlib.crc32(body, isal_zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)))
