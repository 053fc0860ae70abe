"""Inputs of every kind that will come, good and bad, each with what must become of it.

`make` writes them as folders of files: inputs, and originals or masks where a run has them. What a
row says of a picture that was read depends on nothing but these files and the flags of its `Run`.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from redaction_core.errors import Failure

Pixels = npt.NDArray[np.uint8]
Kind = Literal["file", "fifo", "dangling link", "folder link", "file link", "denied", "large"]

ABORTING_PATH = Path(__file__).parent / "faults" / "aborting"
"""On PYTHONPATH, it makes the decoder of the picture of the run `aborts` abort its process."""
MAX_BYTES = 2**21
"""What every run takes as its limit (`--max-bytes`)."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input."""

    name: str | bytes
    """Path below the folder; bytes where it is no UTF-8."""
    data: bytes = b""
    kind: Kind = "file"
    failure: Failure | None = None
    """What its row must say; None: ok."""
    note: str | None = None
    """What the detail of an ok row must contain; None: the row has no detail."""
    shown: str | None = None
    """Its key in the table, where that is not its name."""
    original: bytes | None = None
    mask: bytes | None = None
    """What lies under the same path among the originals, and among the masks."""

    @property
    def key(self) -> str:
        """The key in the table of metrics."""
        return self.shown or os.fsdecode(self.name)

    @property
    def on_s3(self) -> bool:
        """Say whether a bucket can hold it; the rest is of file systems alone."""
        return self.kind in {"file", "large"} and self.shown is None


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one command gets: flags, and the folders `input`, `originals`, `masks`."""

    name: str
    flags: tuple[str, ...]
    cases: tuple[Case, ...]
    originals: bool = False
    masks: bool = False


def runs(*, huge: bool = False) -> list[Run]:
    """Give every run; `huge` adds an image of 10,000 x 10,000 pixels."""
    pixelated = ("--block-size", "4")
    every = [*_formats(), *_sizes(huge=huge), *_broken(), *_names(), *_kinds_of_file()]
    return [
        Run(name="all", flags=pixelated, cases=tuple(every)),
        Run(name="grids", flags=(), cases=tuple(_grids())),
        Run(name="originals", flags=pixelated, cases=tuple(_originals()), originals=True),
        Run(name="masks", flags=(), cases=tuple(_masks()), masks=True),
        Run(name="aborts", flags=pixelated, cases=tuple(_aborts())),
    ]


def make(root: Path, run: Run) -> None:
    """Write the folders of a run below `root`."""
    for folder, wanted in (("input", True), ("originals", run.originals), ("masks", run.masks)):
        if wanted:
            (root / folder).mkdir(parents=True)
    for case in run.cases:
        _write(root / "input", case)
        for folder, data in (("originals", case.original), ("masks", case.mask)):
            if data is not None:
                _write(root / folder, Case(name=case.name, data=data))


def picture(height: int = 48, width: int = 64, channels: int = 3, seed: int = 0) -> Pixels:
    """Give a picture of 4x4 blocks, HxW or HxWx3."""
    shape = (-(-height // 4), -(-width // 4)) + ((channels,) if channels == 3 else ())
    blocks = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return blocks.repeat(4, 0).repeat(4, 1)[:height, :width]


def packed(pixels: npt.NDArray[Any] | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Encode by Pillow."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _formats() -> Iterator[Case]:
    rgb, gray = Image.fromarray(picture()), Image.fromarray(picture(channels=1))
    with_alpha = rgb.copy()
    with_alpha.putalpha(gray)
    deep = Image.fromarray(picture(channels=1).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[274] = 6
    frames = {"save_all": True, "append_images": [rgb.rotate(180), rgb.convert("L").convert("RGB")]}
    for suffix, kind in {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF"}.items():
        yield Case(name=f"formats/rgb.{suffix}", data=packed(rgb, kind))
        yield Case(
            name=f"formats/turned.{suffix}", data=packed(rgb, kind, exif=exif), note="rotated"
        )
    yield Case(name="formats/gray.jpg", data=packed(gray, "JPEG"))
    yield Case(name="formats/gray.png", data=packed(gray))
    yield Case(name="formats/progressive.jpeg", data=packed(rgb, "JPEG", progressive=True))
    yield Case(name="formats/lossless.webp", data=packed(rgb, "WEBP", lossless=True))
    yield Case(name="formats/lzw.tiff", data=packed(rgb, "TIFF", compression="tiff_lzw"))
    yield Case(name="formats/rgb.bmp", data=packed(rgb, "BMP"))
    yield Case(name="formats/still.gif", data=packed(gray, "GIF"), note="palette")
    yield Case(name="formats/moving.gif", data=packed(rgb, "GIF", **frames), note="first of 3")
    yield Case(name="formats/moving.webp", data=packed(rgb, "WEBP", **frames), note="first of 3")
    yield Case(name="formats/pages.tif", data=packed(rgb, "TIFF", **frames), note="first of 3")
    yield Case(name="formats/alpha.png", data=packed(with_alpha), note="alpha dropped")
    yield Case(name="formats/alpha.webp", data=packed(with_alpha, "WEBP"), note="alpha dropped")
    yield Case(name="formats/palette.png", data=packed(rgb.quantize(32)), note="palette")
    yield Case(name="formats/one bit.png", data=packed(gray.convert("1")), note="1-bit")
    yield Case(name="formats/deep.png", data=packed(deep), note="16-bit reduced to 8")
    yield Case(name="formats/deep.tif", data=packed(deep, "TIFF"), note="16-bit reduced to 8")
    for suffix, kind in {"jpg": "JPEG", "tif": "TIFF"}.items():
        cmyk = packed(rgb.convert("CMYK"), kind)
        yield Case(name=f"formats/cmyk.{suffix}", data=cmyk, note="converted from CMYK")
    yield Case(name="formats/wrong suffix.jpg", data=packed(rgb))


def _sizes(*, huge: bool) -> Iterator[Case]:
    sides = [(1, 1), (1, 2), (3, 3), (5, 1), (7, 1000), (1, 10_000), (10_000, 1)]
    for height, width in sides:
        data = packed(picture(height, width, channels=1))
        yield Case(name=f"sizes/{width}x{height}.png", data=data)
    if huge:
        # Repeated, so that the file is small.
        data = packed(np.tile(picture(400, 400, channels=1), (25, 25)))
        yield Case(name="sizes/10000x10000.png", data=data)
    yield Case(name="sizes/1x1.jpg", data=packed(picture(1, 1), "JPEG"))


def _broken() -> Iterator[Case]:
    noise = np.random.default_rng(9).integers(0, 256, (64, 64), np.uint8)
    for suffix in ("jpeg", "png", "webp", "tiff", "bmp", "gif"):
        data = packed(noise, suffix.upper())
        half = data[: len(data) // 2]
        yield Case(name=f"broken/half.{suffix}", data=half, failure=Failure.TRUNCATED)
    damaged = bytearray(packed(noise))
    damaged[len(damaged) // 2] ^= 0xFF
    yield Case(name="broken/damaged.png", data=bytes(damaged), failure=Failure.TRUNCATED)
    yield Case(name="broken/signature.png", data=bytes(damaged[:8]), failure=Failure.TRUNCATED)
    yield Case(name="broken/empty.png", failure=Failure.EMPTY_FILE)
    texts = {"page.jpg": b"<!doctype html><title>404</title>", "README": b"BMW and other words"}
    for name, data in {**texts, "zeros.png": bytes(999), "Thumbs.db": b"\xd0\xcf\x11\xe0"}.items():
        yield Case(name=f"broken/{name}", data=data, failure=Failure.NOT_AN_IMAGE)
    heic = struct.pack(">I", 24) + b"ftypheic" + bytes(12)
    yield Case(name="broken/phone.heic", data=heic, failure=Failure.UNSUPPORTED)
    real = packed(Image.new("F", (64, 48)), "TIFF")
    yield Case(name="broken/float.tif", data=real, failure=Failure.UNSUPPORTED)
    bomb = packed(Image.new("1", (20_000, 20_000)))
    yield Case(name="broken/bomb.png", data=bomb, failure=Failure.TOO_MANY_PIXELS)
    yield Case(name="broken/lie.png", data=_png_that_lies(), failure=Failure.TOO_MANY_PIXELS)
    yield Case(name="broken/large.png", kind="large", failure=Failure.TOO_MANY_BYTES)


def _png_that_lies() -> bytes:
    """Write a header of 60,000 x 60,000 pixels without the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def _names() -> Iterator[Case]:
    png, jpeg = packed(picture()), packed(picture(), "JPEG")
    good = (
        "names/with spaces .png",
        "names/#hash?query=1&x.png",
        "names/100%41%2F.png",
        "names/a..b.png",
        "names/...png",
        "names/.hidden.png",
        "names/Größe 大きさ \N{GRINNING FACE}.png",
        "names/e\N{COMBINING ACUTE ACCENT} decomposed.png",
        "names/\N{LATIN SMALL LETTER E WITH ACUTE} composed.png",
        "names/no suffix",
        "names/$(touch x);'\"*[a].png",
        "names/UPPER.PNG",
        "names/upper.png",
        "names/" + "l" * 251 + ".png",
        "names/" + "d/" * 100 + "deep.png",
        "names/two/a.png",
        "names/two/a.jpg.jpg",
        "names/taken/a.jpg.png",
        "names/taken/b.jpg.png/inside.png",
    )
    yield from (Case(name=name, data=png) for name in good)
    yield Case(name="names/two/a.jpg", data=jpeg)
    for name in ("names/taken/a.jpg", "names/taken/b.jpg"):
        yield Case(name=name, data=jpeg, failure=Failure.NAME_COLLISION)
    # The name fits, but not with the suffix of the output.
    for name in ("names/" + "l" * 251 + ".jpg", "names/" + ("w" * 220 + "/") * 4 + "p" * 17):
        yield Case(name=name, data=jpeg, failure=Failure.BAD_NAME)
    for raw, shown in ((b"latin \xe9.png", r"latin \xe9.png"), (b"li\nne.png", r"li\u000ane.png")):
        yield Case(name=b"names/" + raw, shown="names/" + shown, data=png, failure=Failure.BAD_NAME)


def _kinds_of_file() -> Iterator[Case]:
    yield Case(name="kinds/link.png", kind="file link", data=packed(picture()))
    bad: tuple[Kind, ...] = ("fifo", "dangling link", "folder link")
    # Nothing is denied to root.
    for kind in (*bad, "denied") if os.geteuid() else bad:
        yield Case(name=f"kinds/{kind}.png", kind=kind, failure=Failure.UNREADABLE)


def _grids() -> Iterator[Case]:
    eights = picture(channels=1).repeat(2, 0).repeat(2, 1)
    noise = np.random.default_rng(9).integers(0, 256, (40, 40), np.uint8)
    yield Case(name="blocks of 4.png", data=packed(picture()))
    yield Case(name="blocks of 8.png", data=packed(eights))
    yield Case(name="flat.png", data=packed(np.full((40, 40), 9, np.uint8)))
    yield Case(name="photograph.png", data=packed(noise), failure=Failure.NOT_PIXELATED)


def _originals() -> Iterator[Case]:
    png, other = packed(picture()), packed(picture(seed=1))
    yield Case(name="good.png", data=png, original=other)
    yield Case(name="itself.png", data=png, original=png)
    yield Case(name="missing.png", data=png, failure=Failure.ORIGINAL_MISSING)
    for name, original, failure in (
        ("other size.png", packed(picture(48, 60)), Failure.ORIGINAL_SIZE),
        ("other way up.png", packed(picture(64, 48)), Failure.ORIGINAL_SIZE),
        ("half.png", other[: len(other) // 2], Failure.ORIGINAL_UNREADABLE),
        ("empty.png", b"", Failure.ORIGINAL_UNREADABLE),
        ("text.png", b"not an image", Failure.ORIGINAL_UNREADABLE),
    ):
        yield Case(name=name, data=png, original=original, failure=failure)
    yield Case(name="broken itself.png", data=b"?", original=png, failure=Failure.NOT_AN_IMAGE)


def _masks() -> Iterator[Case]:
    png = packed(picture())
    box = np.zeros((48, 64), np.uint8)
    box[20:28, 30:40] = 255
    yield Case(name="box.png", data=png, mask=packed(box))
    yield Case(name="faint.png", data=png, mask=packed(box // 255))
    yield Case(name="gray.png", data=packed(picture(channels=1)), mask=packed(box > 0))
    yield Case(name="missing.png", data=png, failure=Failure.MASK_MISSING)
    for name, mask, failure in (
        ("other size.png", packed(box[:, :60]), Failure.MASK_SIZE),
        ("hides nothing.png", packed(box * 0), Failure.MASK_EMPTY),
        ("hides everything.png", packed(box | 1), Failure.MASK_FULL),
        ("text.png", b"not an image", Failure.MASK_UNREADABLE),
        ("empty.png", b"", Failure.MASK_UNREADABLE),
    ):
        yield Case(name=name, data=png, mask=mask, failure=failure)


def aborting(told: str, pixels: Pixels) -> bytes:
    """Make a picture that aborts a decoder: see tests/faults/aborting."""
    text = PngImagePlugin.PngInfo()
    text.add_text("aborts-decoder", told)
    return packed(pixels, pnginfo=text)


def _aborts() -> Iterator[Case]:
    yield from (Case(name=f"good {n}.png", data=packed(picture(seed=n))) for n in range(5))
    yield Case(
        name="good 2 aborts.png", data=aborting("always", picture()), failure=Failure.WORKER_CRASH
    )


def _write(folder: Path, case: Case) -> None:
    path = folder / os.fsdecode(case.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if case.kind in {"file", "denied"}:
        path.write_bytes(case.data)
        if case.kind == "denied":
            path.chmod(0)
    elif case.kind == "large":
        with path.open("wb") as file:
            file.truncate(MAX_BYTES + 1)
    elif case.kind == "fifo":
        os.mkfifo(path)
    else:
        outside = folder.parent / "outside"
        outside.mkdir(exist_ok=True)
        if case.kind == "file link":
            (outside / "target.png").write_bytes(case.data)
        end = {"file link": "target.png", "folder link": "", "dangling link": "nothing"}
        path.symlink_to(outside / end[case.kind])
