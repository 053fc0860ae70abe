"""Hostile and odd image files, each with the failure or the pixels that must come of it.

`make` gives them in memory: small, made here, the same every time. A file that is good comes with
its upright pixels as `decode` must give them, so `normalise_pixels` of those is what a data set
must hold.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps

from redaction_core.errors import Failure
from tests.poison import Pixels, packed, picture

MAX_PIXELS = 2**20
"""The limit on pixels that `make` builds its bombs for, unless told otherwise."""

KINDS = ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}


@dataclass(frozen=True, kw_only=True)
class HostileImage:
    """One file: either `failure` or `expected` is there."""

    name: str
    """A file name; its suffix may lie."""
    data: bytes
    failure: Failure | None = None
    expected: Pixels | None = None
    """What decoding gives: uint8, HxW or HxWx3, upright."""
    tolerance: int = 0
    """Levels that a pixel may be off, where the format loses some."""


def make(*, max_pixels: int = MAX_PIXELS) -> Iterator[HostileImage]:
    """Give every file. Bombs have just more than `max_pixels`, or claim very many."""
    yield from _lies()
    yield from _bombs(max_pixels)
    yield from _cut()
    yield from _no_images()
    yield from _frames()
    yield from _modes()
    yield from _turned()
    yield from _metadata()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Write a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bad(name: str, data: bytes, failure: Failure) -> HostileImage:
    """Give a file that must be refused."""
    return HostileImage(name=name, data=data, failure=failure)


def good(name: str, data: bytes, expected: Pixels, tolerance: int = 0) -> HostileImage:
    """Give a file that must be read."""
    return HostileImage(name=name, data=data, expected=expected, tolerance=tolerance)


def _suffix(kind: str) -> str:
    return _SUFFIXES.get(kind, kind.lower())


def _lies() -> Iterator[HostileImage]:
    """Headers that claim enormous pictures over a few bytes of pixels."""
    gray = picture(48, 64, channels=1)
    png = packed(gray)
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    yield bad("lie.png", png[:8] + chunk(b"IHDR", header) + png[33:], Failure.TOO_MANY_PIXELS)
    jpeg = bytearray(packed(gray, "JPEG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", 65_500, 65_500)
    yield bad("lie.jpg", bytes(jpeg), Failure.TOO_MANY_PIXELS)
    gif = bytearray(packed(gray, "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield bad("lie.gif", bytes(gif), Failure.TOO_MANY_PIXELS)
    bmp = bytearray(packed(gray, "BMP"))
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    yield bad("lie.bmp", bytes(bmp), Failure.TOO_MANY_PIXELS)
    canvas = struct.pack("<I", 2) + (65_534).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas
    yield bad("lie.webp", b"RIFF" + struct.pack("<I", len(body)) + body, Failure.TOO_MANY_PIXELS)
    tags = {256: 2**31, 257: 2**31, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2**31, 279: 9}
    yield bad("lie.tif", _tiff(tags, end=0), Failure.TOO_MANY_PIXELS)


def _tiff(tags: dict[int, int], *, end: int) -> bytes:
    """Write one directory of 32-bit values; `end` is where the next one lies."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", end)
    return b"II*\0" + struct.pack("<I", 8) + directory


def _bombs(max_pixels: int) -> Iterator[HostileImage]:
    """Whole and valid files, small but for their pixels."""
    side = int(max_pixels**0.5) + 1
    flat = Image.new("L", (side, side), 7)
    options = {"TIFF": {"compression": "tiff_adobe_deflate"}, "WEBP": {"lossless": True}}
    for kind in KINDS:
        picture_ = flat.convert("1") if kind == "BMP" else flat
        data = packed(picture_, kind, **options.get(kind, {}))
        yield bad(f"bomb.{_suffix(kind)}", data, Failure.TOO_MANY_PIXELS)


def _cut() -> Iterator[HostileImage]:
    """Files that end early, in the header, the middle, just before the end."""
    noise = np.random.default_rng(9).integers(0, 256, (64, 64), np.uint8)
    for kind in KINDS:
        data = packed(noise, kind)
        for percent in (2, 10, 50, 90, 98):
            name = f"cut at {percent}.{_suffix(kind)}"
            yield bad(name, data[: len(data) * percent // 100], Failure.TRUNCATED)
    damaged = bytearray(packed(noise))
    damaged[len(damaged) // 2] ^= 0xFF
    yield bad("damaged.png", bytes(damaged), Failure.TRUNCATED)


def _no_images() -> Iterator[HostileImage]:
    yield bad("empty.jpg", b"", Failure.EMPTY_FILE)
    for name, data in {
        "page.jpg": b"<!doctype html><title>404 Not Found</title>",
        "vector.jpg": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        "paper.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "zeros.png": bytes(4096),
        "archive.png": b"PK\x03\x04" + bytes(40),
        "program.gif": b"\x7fELF" + bytes(60),
        "riff.webp": b"RIFF\x24\0\0\0WAVEfmt ",
    }.items():
        yield bad(name, data, Failure.NOT_AN_IMAGE)
    avif = struct.pack(">I", 24) + b"ftypavif" + bytes(12)
    for name, data in {
        "phone.jpg": avif,
        "favicon.png": b"\0\0\x01\0" + bytes(40),
        "float.tif": packed(Image.new("F", (64, 48)), "TIFF"),
    }.items():
        yield bad(name, data, Failure.UNSUPPORTED)
    yield good("a png.jpg", packed(picture()), picture())
    yield good("no suffix", packed(picture(), "BMP"), picture())


def _frames() -> Iterator[HostileImage]:
    rgb = Image.fromarray(picture())
    later = {"save_all": True, "append_images": [rgb.rotate(180), ImageOps.invert(rgb)]}
    for kind in ("PNG", "TIFF"):
        yield good(f"moving.{_suffix(kind)}", packed(rgb, kind, **later), picture())
    yield good("moving.webp", packed(rgb, "WEBP", lossless=True, **later), picture())
    palette = rgb.quantize(64)
    shown = np.asarray(palette.convert("RGB"))
    whole = packed(palette, "GIF", save_all=True, append_images=[palette.rotate(180)])
    yield good("moving.gif", whole, shown)
    # The frame lies far outside of the screen; Pillow makes the screen large enough to hold it.
    offset = bytearray(packed(palette, "GIF"))
    start = offset.index(b"," + struct.pack("<HHHH", 0, 0, 64, 48))
    offset[start + 1 : start + 5] = struct.pack("<HH", 65_000, 65_000)
    yield bad("far away.gif", bytes(offset), Failure.TOO_MANY_PIXELS)
    # Every directory is whole, and points to the next one, which is of the same small picture.
    data = bytearray(packed(picture(), "TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    directory = bytes(data[first : first + 2 + 12 * entries])
    link = first + len(directory)
    for _ in range(2_000):
        struct.pack_into("<I", data, link, len(data))
        data += directory + bytes(4)
        link = len(data) - 4
    yield good("directories.tif", bytes(data), picture())
    struct.pack_into("<I", data, link, first)
    yield good("directories in a ring.tif", bytes(data), picture())


def _modes() -> Iterator[HostileImage]:
    gray, rgb = picture(channels=1), picture()
    for kind in ("png", "tiff"):
        deep = gray.astype(np.uint16) * 256 + 200
        yield good(f"deep gray.{kind}", cv2.imencode(f".{kind}", deep)[1].tobytes(), gray)
        colour = (rgb.astype(np.uint16) * 256 + 200)[..., ::-1]
        yield good(f"deep rgb.{kind}", cv2.imencode(f".{kind}", colour)[1].tobytes(), rgb)
    for name, pixels in (("gray", gray), ("rgb", rgb)):
        image = Image.fromarray(pixels)
        image.putalpha(Image.fromarray(255 - gray))
        yield good(f"{name} alpha.png", packed(image), pixels)
    yield good("one bit.png", packed(gray > 99), np.where(gray > 99, 255, 0).astype(np.uint8))
    palette = Image.fromarray(rgb).quantize(64)
    shown = np.asarray(palette.convert("RGB"))
    yield good("palette.png", packed(palette), shown)
    yield good("clear palette.png", packed(palette, transparency=bytes(range(256))), shown)
    # Flat colours, as JPEG blurs the rest.
    flat = np.full((48, 64, 3), (200, 60, 30), np.uint8)
    yield good("flat.jpg", packed(flat, "JPEG", quality=95), flat, tolerance=3)
    for option in ("keep_rgb", "progressive"):
        data = packed(flat, "JPEG", quality=95, **{option: True})
        yield good(f"{option}.jpg", data, flat, tolerance=3)
    cmyk = packed(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=95)
    yield good("cmyk.jpg", cmyk, flat, tolerance=4)
    # Adobe's inks are inverted, and without its marker readers assume so too.
    start = cmyk.index(b"\xff\xee")
    length = 2 + int.from_bytes(cmyk[start + 2 : start + 4])
    yield good("cmyk without adobe.jpg", cmyk[:start] + cmyk[start + length :], flat, tolerance=4)
    yield good("cmyk.tif", packed(Image.fromarray(flat).convert("CMYK"), "TIFF"), flat)


def _turned() -> Iterator[HostileImage]:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        data = packed(picture(), exif=exif)
        with Image.open(io.BytesIO(data)) as opened:
            upright = np.asarray(ImageOps.exif_transpose(opened))
        yield good(f"orientation {orientation}.png", data, upright)
        half = np.full((48, 64, 3), 230, np.uint8)
        half[:, :32] = 30
        with Image.fromarray(half) as image:
            image.getexif()[274] = orientation
            upright = np.asarray(ImageOps.exif_transpose(image))
        data = packed(half, "JPEG", quality=95, exif=exif)
        yield good(f"orientation {orientation}.jpg", data, upright, 3)
    yield good("bad exif.png", packed(picture(), exif=b"Exif\0\0II*\0\xff\xff"), picture())


def _metadata() -> Iterator[HostileImage]:
    png = packed(picture())
    zeros = zlib.compress(bytes(2**26), 9)
    text = png[:33] + chunk(b"zTXt", b"Comment\0\0" + zeros) + png[33:]
    yield bad("text bomb.png", text, Failure.TRUNCATED)
    profile = png[:33] + chunk(b"iCCP", b"profile\0\0" + zeros) + png[33:]
    yield bad("profile bomb.png", profile, Failure.TRUNCATED)
    sideways = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind, options in {"PNG": {}, "WEBP": {"lossless": True}}.items():
        data = packed(picture(), kind, icc_profile=sideways, **options)
        yield good(f"profile.{_suffix(kind)}", data, picture())
    # A tag whose value lies far behind the end of the file.
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 2**30, 277: 1, 278: 8, 279: 64}
    yield bad("tags.tif", _tiff(tags, end=0), Failure.TRUNCATED)
