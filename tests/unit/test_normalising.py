"""Any image to one size and colour: equal to the documented transform, whatever the file."""

import io
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.images import (
    Color,
    Fit,
    Pixels,
    Transform,
    decode,
    difference_hash,
    encode,
    normalise,
    normalise_pixels,
)
from tests.hostile_images import MAX_PIXELS, HostileImage, make
from tests.poison import packed

BICUBIC = Image.Resampling.BICUBIC
HOSTILE = tuple(make())
SMALL = Transform(size=24, max_pixels=MAX_PIXELS)


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def scene(height: int, width: int) -> Pixels:
    """Give a smooth picture with edges, HxWx3."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    planes = (np.sin(9 * x + 5 * y), np.cos(14 * x * y), (x - 0.4) ** 2 + (y - 0.3) ** 2 < 0.05)
    return np.clip(np.dstack(planes) * 100 + 120, 0, 255).astype(np.uint8)


def pillow(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), BICUBIC))


def luma(rgb: Pixels) -> Pixels:
    red, green, blue = np.moveaxis(rgb.astype(np.int64), 2, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


@pytest.mark.parametrize("shape", [(350, 350), (101, 101, 3), (31, 50), (9000, 3, 3), (32, 32)])
@pytest.mark.parametrize("size", [16, 224])
def test_resizing_is_that_of_pillow(shape: tuple[int, ...], size: int) -> None:
    color: Color = "gray" if len(shape) == 2 else "rgb"
    for pixels in (noise(*shape), noise(*shape) // 128 * 255):
        resized = normalise_pixels(pixels, Transform(size=size, color=color, fit="stretch"))
        assert resized.flags.c_contiguous
        np.testing.assert_array_equal(resized, pillow(pixels, size, size))


@pytest.mark.parametrize(("height", "width"), [(31, 50), (50, 31), (40, 40), (1, 7), (24, 24)])
def test_crop_takes_the_largest_square_in_the_middle(height: int, width: int) -> None:
    pixels = noise(height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2

    result = normalise_pixels(pixels, SMALL)

    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    np.testing.assert_array_equal(result, pillow(square, 24, 24))


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(30, 60, (6, 0, 12, 24)), (60, 31, (0, 6, 24, 12)), (1, 500, (11, 0, 1, 24))],
)
def test_pad_keeps_the_whole_picture_and_puts_black_around(
    height: int, width: int, box: tuple[int, int, int, int]
) -> None:
    pixels = noise(height, width, 3) | 1
    top, left, rows, columns = box

    result = normalise_pixels(pixels, Transform(size=24, color="rgb", fit="pad"))

    inside = result[top : top + rows, left : left + columns]
    np.testing.assert_array_equal(inside, pillow(pixels, columns, rows))
    result[top : top + rows, left : left + columns] = 0
    assert not result.any()


def test_stretch_gives_every_pixel_of_the_source() -> None:
    pixels = noise(33, 90)

    result = normalise_pixels(pixels, Transform(size=24, fit="stretch"))

    np.testing.assert_array_equal(result, pillow(pixels, 24, 24))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_picture_that_fits_passes_unchanged(fit: Fit) -> None:
    gray, rgb = noise(24, 24), noise(24, 24, 3)

    for pixels, color in ((gray, "gray"), (rgb, "rgb")):
        transform = Transform(size=24, color=color, fit=fit)
        np.testing.assert_array_equal(normalise_pixels(pixels, transform), pixels)
        np.testing.assert_array_equal(normalise(encode(pixels, "png"), transform).pixels, pixels)


def test_gray_is_the_luma_of_bt_601_and_colour_of_gray_is_three_planes() -> None:
    rgb, gray = noise(24, 24, 3), noise(24, 24)

    np.testing.assert_array_equal(normalise_pixels(rgb, SMALL), luma(rgb))
    planes = normalise_pixels(gray, Transform(size=24, color="rgb"))
    np.testing.assert_array_equal(planes, np.dstack([gray] * 3))


def test_gray_of_large_pictures_is_that_of_their_strips() -> None:
    rgb = noise(2500, 2000, 3)

    result = normalise_pixels(rgb, Transform(size=2000, fit="crop"))

    np.testing.assert_array_equal(result, luma(rgb[250:2250]))


@pytest.mark.parametrize("subsampling", [0, 2])
def test_gray_of_a_colour_jpeg_is_the_luma_in_the_file(subsampling: int) -> None:
    data = packed(scene(60, 60), "JPEG", subsampling=subsampling)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", None)
        stored = np.asarray(image)

    result = normalise(data, Transform(size=60)).pixels

    np.testing.assert_array_equal(result, stored)
    np.testing.assert_allclose(result.astype(int), luma(decode(data).pixels).astype(int), atol=2)


@pytest.mark.parametrize(
    ("side", "divisor"), [(95, 1), (96, 2), (191, 2), (192, 4), (384, 8), (900, 8)]
)
def test_large_jpegs_are_decoded_at_a_fraction_twice_as_large_as_needed(
    side: int, divisor: int
) -> None:
    data = packed(scene(side, side + 40), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", ((side + 40) // divisor, side // divisor))
        image.load()
        assert image.height == -(-side // divisor)
        reduced = np.asarray(image)

    result = normalise(data, Transform(size=24, color="rgb"))

    expected = normalise_pixels(reduced, Transform(size=24, color="rgb"))
    np.testing.assert_array_equal(result.pixels, expected)
    assert (result.source_width, result.source_height) == (side + 40, side)
    whole = normalise_pixels(decode(data).pixels, Transform(size=24, color="rgb"))
    # The middle of the reduced picture may lie half a pixel beside that of the whole one.
    assert np.abs(whole.astype(int) - result.pixels).mean() < 4


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_size_of_the_source_is_that_of_the_upright_picture(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = packed(scene(403, 801), kind, exif=exif)

    result = normalise(data, SMALL)

    expected = (801, 403) if orientation in {1, 3} else (403, 801)
    assert (result.source_width, result.source_height) == expected


def test_a_turned_jpeg_is_padded_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    transform = Transform(size=24, fit="pad")
    plain = normalise(packed(scene(400, 800), "JPEG"), transform)

    turned = normalise(packed(scene(400, 800), "JPEG", exif=exif), transform)

    np.testing.assert_allclose(
        turned.pixels.astype(int), np.rot90(plain.pixels, -1).astype(int), atol=2
    )


def test_sources_below_the_least_size_are_refused_from_the_header() -> None:
    data = packed(noise(30, 40))

    assert normalise(data, Transform(size=24, min_size=30)).source_height == 30
    with pytest.raises(InputError, match="40 x 30") as caught:
        normalise(data[:60], Transform(size=24, min_size=31))
    assert caught.value.failure is Failure.TOO_SMALL


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": 99_999}, {"min_size": -1}, {"max_pixels": 0}]
)
def test_a_transform_out_of_range_is_a_usage_error(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Transform(**wrong)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
@pytest.mark.parametrize("transform", [SMALL, Transform(size=24, color="rgb", fit="pad")])
def test_hostile_images_end_in_the_right_class_or_pixels(
    case: HostileImage, transform: Transform
) -> None:
    limited = Transform(
        size=transform.size, color=transform.color, fit=transform.fit, max_pixels=MAX_PIXELS
    )
    if case.failure:
        for read in (
            lambda: normalise(case.data, limited),
            lambda: decode(case.data, max_pixels=MAX_PIXELS),
        ):
            with pytest.raises(InputError) as caught:
                read()
            assert caught.value.failure is case.failure
            assert caught.value.detail
            assert "\n" not in caught.value.detail
        return
    assert case.expected is not None
    decoded = decode(case.data, max_pixels=MAX_PIXELS).pixels
    np.testing.assert_allclose(decoded.astype(int), case.expected, atol=case.tolerance)
    result = normalise(case.data, limited)
    assert (result.source_height, result.source_width) == case.expected.shape[:2]
    expected = normalise_pixels(case.expected, limited)
    np.testing.assert_allclose(result.pixels.astype(int), expected, atol=2 * case.tolerance)


def test_pixel_bombs_take_no_memory() -> None:
    tracemalloc.start()
    for case in HOSTILE:
        if case.failure is Failure.TOO_MANY_PIXELS:
            with pytest.raises(InputError):
                normalise(case.data, SMALL)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_nothing_is_written_about_odd_tags() -> None:
    code = (
        "from tests.hostile_images import make\n"
        "from redaction_core.images import decode\n"
        "from redaction_core.errors import InputError\n"
        "for case in make():\n"
        "    try: decode(case.data, max_pixels=2**20)\n"
        "    except InputError: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True
    )
    assert "PIL" not in done.stderr


def test_many_threads_give_what_one_gives() -> None:
    sources = [packed(scene(60 + 7 * n, 90), "JPEG") for n in range(8)]
    alone = [normalise(data, SMALL).pixels for data in sources]
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        start.wait()
        return all(
            np.array_equal(normalise(data, SMALL).pixels, expected)
            for _ in range(5)
            for data, expected in zip(
                sources[number:] + sources, alone[number:] + alone, strict=False
            )
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_the_hash_is_that_of_its_description() -> None:
    cells = noise(8, 9)
    bits = "".join(
        "01"[int(cells[row, column + 1] > cells[row, column])]
        for row in range(8)
        for column in range(8)
    )

    assert difference_hash(cells.repeat(25, 0).repeat(25, 1)) == int(bits, 2)
    assert difference_hash(np.full((224, 224), 9, np.uint8)) == 0
    assert difference_hash(np.tile(np.arange(216, dtype=np.uint8), (216, 1))) == 2**64 - 1


def test_near_pictures_have_near_hashes_and_others_do_not() -> None:
    first = normalise(packed(scene(300, 300), "PNG"), Transform()).pixels
    again = normalise(packed(scene(410, 410), "JPEG", quality=60), Transform()).pixels
    other = normalise(packed(scene(300, 300)[::-1, ::-1].copy(), "PNG"), Transform()).pixels

    assert (difference_hash(first) ^ difference_hash(again)).bit_count() <= 4
    assert (difference_hash(first) ^ difference_hash(other)).bit_count() > 16
    assert difference_hash(np.dstack([first] * 3)) == difference_hash(first)


def test_starting_needs_no_torch() -> None:
    code = "import sys, redaction_core.images; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize("shape", [(16, 24, 3), (24, 16, 3), (16, 24), (16, 16, 3)])
def test_what_is_only_cropped_is_contiguous_too(shape: tuple[int, ...], color: Color) -> None:
    """A shorter side that has the size already: nothing is resized, and so nothing copied."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    found = normalise_pixels(pixels, Transform(size=16, color=color, fit="crop"))

    assert found.flags.c_contiguous
    assert found.shape[:2] == (16, 16)
