"""Bytes to pixels and back: gray or RGB, 8 bits, upright, whatever the file looked like.

decoding.py     files to pixels; the limit on pixels is checked before they are decoded
encoding.py     pixels to PNG, WebP, JPEG
normalising.py  any file to one size and colour, and a hash for near-duplicates

Everything here may be called from many threads at once.
"""

from redaction_core.images.decoding import (
    DEFAULT_MAX_PIXELS,
    Decoded,
    Pixels,
    decode,
    decode_mask,
    gray_planes,
    pixel_count,
)
from redaction_core.images.encoding import SUFFIXES, Format, encode
from redaction_core.images.normalising import (
    TRANSFORM_VERSION,
    Color,
    Fit,
    Normalised,
    Transform,
    difference_hash,
    normalise,
    normalise_pixels,
    refuse_small,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SUFFIXES",
    "TRANSFORM_VERSION",
    "Color",
    "Decoded",
    "Fit",
    "Format",
    "Normalised",
    "Pixels",
    "Transform",
    "decode",
    "decode_mask",
    "difference_hash",
    "encode",
    "gray_planes",
    "normalise",
    "normalise_pixels",
    "pixel_count",
    "refuse_small",
]
