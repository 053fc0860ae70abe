"""Encoding: lossless where promised, readable by other decoders, refused where it cannot fit."""

import io

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from redaction_core import images
from redaction_core.errors import Failure, InputError

Pixels = npt.NDArray[np.uint8]

GRAY: Pixels = np.random.default_rng(1).integers(0, 256, (13, 21), np.uint8)
RGB: Pixels = np.random.default_rng(2).integers(0, 256, (13, 21, 3), np.uint8)


@pytest.mark.parametrize("channels", [None, 3])
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99), flat=st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_png_comes_back_in_any_decoder(
    channels: int | None, height: int, width: int, seed: int, *, flat: bool
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    random_pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    pixels: Pixels = np.full(shape, seed, np.uint8) if flat else random_pixels

    data = images.encode(pixels, "png")

    assert images.encode(pixels, "png") == data
    np.testing.assert_array_equal(images.decode(data).pixels, pixels)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert other is not None
    np.testing.assert_array_equal(other if channels is None else other[..., ::-1], pixels)


def test_large_png_is_written_in_strips() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (700, 9000), np.uint8)

    data = images.encode(pixels, "png")

    assert data.count(b"IDAT") == 2
    np.testing.assert_array_equal(images.decode(data).pixels, pixels)
    colour = np.dstack([pixels[:600, :3000]] * 3)
    np.testing.assert_array_equal(images.decode(images.encode(colour, "png")).pixels, colour)


def test_png_of_views_is_that_of_their_pixels() -> None:
    view = RGB[::-2, 1::3]

    np.testing.assert_array_equal(images.decode(images.encode(view, "png")).pixels, view)


def test_webp_is_lossless() -> None:
    for pixels in (RGB, GRAY, RGB[:1, :1]):
        decoded = images.decode(images.encode(pixels, "webp")).pixels
        np.testing.assert_array_equal(
            decoded, pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
        )


def test_jpeg_is_close() -> None:
    smooth = cv2.GaussianBlur(np.tile(RGB, (4, 4, 1)), (31, 31), 9)

    decoded = images.decode(images.encode(smooth.astype(np.uint8), "jpeg")).pixels

    assert np.abs(decoded.astype(int) - smooth).mean() < 1


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_formats_refuse_what_they_cannot_hold(kind: images.Format) -> None:
    with pytest.raises(InputError) as caught:
        images.encode(np.zeros((1, 70_000), np.uint8), kind)

    assert caught.value.failure is Failure.UNSUPPORTED


def test_suffixes_name_the_formats() -> None:
    for kind, suffix in images.SUFFIXES.items():
        with Image.open(io.BytesIO(images.encode(RGB, kind))) as opened:
            assert Image.registered_extensions()[suffix] == opened.format == kind.upper()


def test_gray_planes() -> None:
    assert images.gray_planes(GRAY)
    assert images.gray_planes(np.dstack([GRAY] * 3))
    assert not images.gray_planes(RGB)
    for channel in range(3):
        one_off = np.dstack([GRAY] * 3)
        one_off[3, 4, channel] ^= 1
        assert not images.gray_planes(one_off)
