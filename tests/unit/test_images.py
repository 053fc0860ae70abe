"""Decoding images and masks: every format and mode, damage, limits, threads."""

import io
import random
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageOps

from redaction_core import images
from redaction_core.errors import Failure, InputError

Pixels = npt.NDArray[np.uint8]

GRAY: Pixels = np.random.default_rng(1).integers(0, 256, (13, 21), np.uint8)
RGB: Pixels = np.random.default_rng(2).integers(0, 256, (13, 21, 3), np.uint8)
ALPHA: Pixels = np.random.default_rng(3).integers(0, 256, (13, 21), np.uint8)
LOSSLESS = ("PNG", "TIFF", "BMP")


def packed(image: Image.Image | Pixels, kind: str, **options: object) -> bytes:
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def failure(data: bytes, **options: int) -> Failure:
    with pytest.raises(InputError) as caught:
        images.decode(data, **options)
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    return caught.value.failure


@pytest.mark.parametrize("pixels", [GRAY, RGB], ids=["gray", "rgb"])
@pytest.mark.parametrize("kind", LOSSLESS)
def test_plain_lossless_files_come_back_as_they_are(pixels: Pixels, kind: str) -> None:
    decoded = images.decode(packed(pixels, kind))

    assert decoded.notes == ()
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.writeable
    assert decoded.pixels.flags.c_contiguous
    np.testing.assert_array_equal(decoded.pixels, pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("pixels", [GRAY, RGB], ids=["gray", "rgb"])
def test_jpeg_is_decoded_as_another_library_does(
    pixels: Pixels, options: dict[str, object]
) -> None:
    data = packed(pixels, "JPEG", **options)

    decoded = images.decode(data)

    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert reference is not None
    reference = reference if pixels.ndim == 2 else reference[..., ::-1]
    assert decoded.notes == ()
    np.testing.assert_allclose(decoded.pixels.astype(int), reference.astype(int), atol=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_high_byte(kind: str) -> None:
    for pixels in (GRAY, RGB):
        deep = pixels.astype(np.uint16) * 256 + 200
        data = cv2.imencode(f".{kind.lower()}", deep if deep.ndim == 2 else deep[..., ::-1])[1]

        decoded = images.decode(data.tobytes())

        assert decoded.notes == ("16-bit reduced to 8",)
        np.testing.assert_array_equal(decoded.pixels, pixels)


def test_big_endian_sixteen_bits() -> None:
    deep = (GRAY.astype(np.uint16) * 256 + 7).astype(">u2")

    decoded = images.decode(packed(Image.frombytes("I;16B", (21, 13), deep.tobytes()), "TIFF"))

    np.testing.assert_array_equal(decoded.pixels, GRAY)


def test_alpha_is_dropped_without_blending() -> None:
    for pixels in (GRAY, RGB):
        with_alpha = Image.fromarray(pixels)
        with_alpha.putalpha(Image.fromarray(ALPHA))

        decoded = images.decode(packed(with_alpha, "PNG"))

        assert decoded.notes == ("alpha dropped",)
        np.testing.assert_array_equal(decoded.pixels, pixels)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palettes_become_rgb(transparency: int | bytes | None) -> None:
    palette = Image.fromarray(RGB).quantize(64)
    options = {} if transparency is None else {"transparency": transparency}

    decoded = images.decode(packed(palette, "PNG", **options))

    expected = ("palette converted to RGB", *(["alpha dropped"] if options else []))
    assert decoded.notes == expected
    np.testing.assert_array_equal(decoded.pixels, np.asarray(palette.convert("RGB")))


def test_one_bit_becomes_gray() -> None:
    decoded = images.decode(packed(Image.fromarray(GRAY > 99), "PNG"))

    assert decoded.notes == ("1-bit widened to 8",)
    np.testing.assert_array_equal(decoded.pixels, np.where(GRAY > 99, 255, 0))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))

    decoded = images.decode(packed(red, kind))

    assert decoded.notes == ("converted from CMYK",)
    np.testing.assert_allclose(decoded.pixels[0, 0].astype(int), (255, 0, 0), atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_rotation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = packed(RGB, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))

    decoded = images.decode(data)

    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert decoded.pixels.shape == ((21, 13, 3) if orientation > 4 else (13, 21, 3))
    assert decoded.notes == (("rotated by EXIF",) if orientation > 1 else ())
    np.testing.assert_array_equal(decoded.pixels, expected)


def test_damaged_exif_is_no_rotation() -> None:
    decoded = images.decode(packed(RGB, "PNG", exif=b"Exif\0\0II*\0\xff\xff"))

    np.testing.assert_array_equal(decoded.pixels, RGB)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_of_many_frames_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (9, 7), (value, 0, 0)) for value in (10, 120, 250)]
    options = {"lossless": True} if kind == "WEBP" else {}

    decoded = images.decode(
        packed(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    )

    assert decoded.notes[0] == "first of 3 frames"
    np.testing.assert_array_equal(decoded.pixels, np.asarray(frames[0]))


def test_a_later_damaged_frame_does_no_harm() -> None:
    frames = [Image.fromarray(np.roll(GRAY, step)) for step in range(3)]
    data = packed(frames[0], "GIF", save_all=True, append_images=frames[1:])

    decoded = images.decode(data[: len(data) * 7 // 10])

    assert decoded.notes[0] == "first of several frames"
    np.testing.assert_array_equal(decoded.pixels.reshape(13, 21, -1)[..., 0], GRAY)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF")
def test_files_that_end_early_are_truncated(kind: str) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (64, 64), np.uint8)
    data = packed(noise, kind)

    # Headers can be cut too; Pillow's TIFF writer puts the directory first.
    for share in (0.2, 0.5, 0.9):
        assert failure(data[: int(len(data) * share)]) is Failure.TRUNCATED


def test_damage_inside_a_png_is_found() -> None:
    data = bytearray(packed(RGB, "PNG"))
    data[data.index(b"IDAT") + 40] ^= 0xFF

    assert failure(bytes(data)) is Failure.TRUNCATED


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Failure.EMPTY_FILE),
        (b"hello, world\n" * 9, Failure.NOT_AN_IMAGE),
        (b"<!doctype html><html></html>", Failure.NOT_AN_IMAGE),
        (b"BMW is a car, not an image", Failure.NOT_AN_IMAGE),
        (b"\xff", Failure.NOT_AN_IMAGE),
        (b"\0" * 1000, Failure.NOT_AN_IMAGE),
        (b"\xff\xd8\xff", Failure.TRUNCATED),
        (b"\x89PNG\r\n\x1a\n", Failure.TRUNCATED),
        (b"\0\0\0 ftypheic" + b"\0" * 99, Failure.UNSUPPORTED),
        (b"8BPS" + b"\0" * 99, Failure.UNSUPPORTED),
        (packed(RGB, "BMP").replace(b"\x18\0\0\0", b"\x18\0\x09\0", 1), Failure.UNSUPPORTED),
        (packed(Image.new("F", (5, 5)), "TIFF"), Failure.UNSUPPORTED),
        (packed(Image.new("I", (5, 5)), "TIFF"), Failure.UNSUPPORTED),
        (packed(Image.new("LAB", (5, 5)), "TIFF"), Failure.UNSUPPORTED),
    ],
)
def test_what_is_no_image_we_read(data: bytes, expected: Failure) -> None:
    assert failure(data) is expected


@pytest.mark.parametrize("kind", [np.float32, np.uint32, np.int16])
def test_kinds_of_tiff_that_have_no_eight_bits_are_unsupported(kind: type[np.generic]) -> None:
    for shape in ((8, 8), (8, 8, 3)):
        buffer = io.BytesIO()
        photometric = "rgb" if len(shape) == 3 else "minisblack"
        tifffile.imwrite(buffer, np.zeros(shape, kind), photometric=photometric)
        assert failure(buffer.getvalue()) is Failure.UNSUPPORTED


def test_the_limit_on_pixels_is_checked_from_the_header() -> None:
    # No pixel data at all: only the header can have been read.
    assert failure(png_header(60_000, 60_000)) is Failure.TOO_MANY_PIXELS
    gif = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x01\x00\x00;"
    assert failure(gif + frame) is Failure.TOO_MANY_PIXELS
    canvas = (65_534).to_bytes(3, "little") * 2
    webp = b"WEBPVP8X" + struct.pack("<II", 10, 2) + canvas
    riff = b"RIFF" + struct.pack("<I", len(webp)) + webp
    assert failure(riff) is Failure.TOO_MANY_PIXELS


def test_the_limit_on_pixels_is_inclusive() -> None:
    data = packed(GRAY, "PNG")

    assert images.decode(data, max_pixels=13 * 21).pixels.shape == (13, 21)
    assert failure(data, max_pixels=13 * 21 - 1) is Failure.TOO_MANY_PIXELS


def test_pixels_are_counted_from_the_header() -> None:
    assert images.pixel_count(png_header(300, 70)) == 21_000
    with pytest.raises(InputError, match="too_many_pixels"):
        images.pixel_count(png_header(300, 70), max_pixels=20_999)


def test_images_beyond_the_usual_cap_of_pillow_do_not_warn() -> None:
    side = 9_600
    blank = Image.new("L", (side, side), 7)

    decoded = images.decode(packed(blank, "TIFF", compression="tiff_adobe_deflate"))

    assert decoded.pixels.shape == (side, side)
    assert (decoded.pixels == 7).all()


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (Image.fromarray(np.where(GRAY > 99, 1, 0).astype(np.uint8)), "PNG"),
        (Image.fromarray(GRAY > 99), "PNG"),
        (Image.fromarray(np.where(GRAY > 99, 1, 0).astype(np.uint16)), "PNG"),
        (Image.fromarray(np.where(GRAY > 99, 0.5, 0).astype(np.float32)), "TIFF"),
        (Image.fromarray(np.dstack([GRAY * 0, GRAY * 0, (GRAY > 99) * np.uint8(9)])), "BMP"),
        (Image.fromarray(np.dstack([(GRAY > 99) * np.uint8(9), ALPHA]), "LA"), "PNG"),
        (Image.fromarray(np.where(GRAY > 99, 255, 0).astype(np.uint8)), "GIF"),
    ],
    ids=["gray", "1-bit", "16-bit", "float", "rgb", "alpha", "gif"],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter")
def test_masks_hide_what_is_not_zero(mask: Image.Image, kind: str) -> None:
    hidden = images.decode_mask(packed(mask, kind))

    assert hidden.dtype == np.bool_
    np.testing.assert_array_equal(hidden, GRAY > 99)


def test_masks_are_turned_like_images() -> None:
    exif = Image.Exif()
    exif[274] = 6

    hidden = images.decode_mask(packed(GRAY, "PNG", exif=exif))

    np.testing.assert_array_equal(hidden, np.rot90(GRAY, -1) != 0)


def test_masks_that_would_lose_faint_values_are_unsupported() -> None:
    data = cv2.imencode(".png", np.ones((4, 4, 3), np.uint16))[1].tobytes()

    with pytest.raises(InputError, match="16-bit colour"):
        images.decode_mask(data)
    with pytest.raises(InputError, match="empty_file"):
        images.decode_mask(b"")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_random_damage_ends_as_a_failure_or_an_image(kind: str) -> None:
    chance = random.Random(kind)
    whole = packed(RGB, kind)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            images.decode(bytes(data[: chance.randrange(1, len(data) + 1)]), max_pixels=10**6)
        except InputError as error:
            assert error.detail  # noqa: PT017 - either outcome is right


def test_many_threads_decode_at_once() -> None:
    sources = {kind: packed(RGB, kind) for kind in LOSSLESS}
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        start.wait()
        kind = LOSSLESS[number % len(LOSSLESS)]
        return all(np.array_equal(images.decode(sources[kind]).pixels, RGB) for _ in range(30))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
