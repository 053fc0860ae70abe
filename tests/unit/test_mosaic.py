"""Blocks found without being told: size, offset, after JPEG, of a part alone, and none at all."""

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from PIL import Image

from redaction_core.mosaic import Mosaic, find_mosaic
from tests.blocks import jpeg, pixelated

Pixels = npt.NDArray[np.uint8]

PHOTO: Pixels = skimage.data.astronaut()[:256, 128:384]
GRAY: Pixels = np.asarray(Image.fromarray(PHOTO).convert("L"))


@pytest.mark.parametrize("image", [PHOTO, GRAY], ids=["colour", "gray"])
@pytest.mark.parametrize(
    ("block", "top", "left"), [(2, 0, 0), (2, 1, 0), (3, 2, 1), (4, 0, 3), (8, 5, 7), (16, 9, 0)]
)
def test_exact_blocks_are_found_with_their_offset(
    image: Pixels, block: int, top: int, left: int
) -> None:
    found = find_mosaic(pixelated(image, block, top, left))

    assert found == Mosaic(block=block, top=top, left=left)


@pytest.mark.parametrize("quality", [75, 90])
@pytest.mark.parametrize(("block", "top", "left"), [(4, 1, 3), (5, 0, 0), (8, 3, 1), (12, 7, 11)])
def test_blocks_are_found_after_jpeg(quality: int, block: int, top: int, left: int) -> None:
    found = find_mosaic(jpeg(pixelated(GRAY, block, top, left), quality))

    assert found is not None
    assert (found.block, found.top, found.left) == (block, top, left)
    assert found.region is None
    assert not found.exact
    assert 0.13 < found.confidence < 1


@pytest.mark.parametrize(
    "name", ["astronaut", "camera", "coffee", "chelsea", "rocket", "brick", "grass", "gravel"]
)
@pytest.mark.parametrize("quality", [None, 95, 75])
def test_photographs_are_not_pixelated(name: str, quality: int | None) -> None:
    photo = np.ascontiguousarray(getattr(skimage.data, name)()[:300, :300])

    assert find_mosaic(photo if quality is None else jpeg(photo, quality)) is None


@pytest.mark.parametrize("quality", [None, 90])
@pytest.mark.parametrize(("block", "top", "left"), [(6, 50, 70), (8, 64, 32), (16, 33, 41)])
def test_a_pixelated_part_is_found(quality: int | None, block: int, top: int, left: int) -> None:
    side = 128 // block * block
    part = np.s_[top : top + side, left : left + side]
    seen = PHOTO.copy()
    seen[part] = pixelated(PHOTO[part], block)

    found = find_mosaic(seen if quality is None else jpeg(seen, quality))

    assert found is not None
    assert found.region is not None
    assert (found.block, found.top, found.left) == (block, top % block, left % block)
    inside = np.zeros(PHOTO.shape[:2], bool)
    inside[part] = True
    assert found.region[inside].mean() > 0.8
    assert (found.region & ~inside).sum() < 0.25 * inside.sum()


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (9, 14), (3, 300, 3)])
def test_one_value_is_taken_for_blocks_of_4(shape: tuple[int, ...]) -> None:
    assert find_mosaic(np.full(shape, 7, np.uint8)) == Mosaic(block=4)


def test_one_changed_pixel_is_no_exact_grid() -> None:
    pixels = pixelated(GRAY, 4)
    pixels[1, 250] ^= 1

    found = find_mosaic(pixels)

    assert found is not None
    assert (found.block, found.exact) == (4, False)


def test_a_single_line_is_taken_for_the_end_of_the_first_block() -> None:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[12:] = 200

    assert find_mosaic(pixels) == Mosaic(block=12)


@pytest.mark.parametrize("block", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("size", [(40, 50), (17, 33), (600, 34)])
def test_images_that_end_within_a_block(size: tuple[int, int], block: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)

    assert find_mosaic(pixelated(noise, block)) == Mosaic(block=block)


def test_edges_along_one_side_are_enough() -> None:
    rows = np.repeat(np.arange(6, dtype=np.uint8), 5)

    assert find_mosaic(np.tile(rows, (30, 1))) == Mosaic(block=5)
    assert find_mosaic(np.tile(rows[:, None], (1, 30))) == Mosaic(block=5)


@pytest.mark.parametrize("image", [PHOTO[:50, :61], GRAY[:50, :61]], ids=["colour", "gray"])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 0), (2, 6)])
def test_what_the_network_gets_is_whole_blocks_and_comes_back(
    image: Pixels, top: int, left: int
) -> None:
    seen = pixelated(image, 7, top, left)
    mosaic = Mosaic(block=7, top=top, left=left)

    whole = mosaic.for_network(seen)

    assert find_mosaic(whole) == Mosaic(block=7)
    assert np.array_equal(mosaic.cut(whole, seen), seen)
    assert np.array_equal(mosaic.from_network(whole, seen, of_means=True), seen)
    assert np.array_equal(mosaic.means(image).round().astype(np.uint8), seen)


def test_cut_blocks_keep_their_means() -> None:
    seen = pixelated(GRAY, 8, 3, 5)
    mosaic = Mosaic(block=8, top=3, left=5)
    rng = np.random.default_rng(0)
    noisy = np.clip(mosaic.for_network(seen) + rng.integers(-9, 9, (261, 259)), 30, 220)

    kept = mosaic.from_network(noisy.astype(np.uint8), seen, of_means=True)

    off = np.abs(mosaic.means(kept) - seen)
    assert off[(seen > 45) & (seen < 205)].max() <= 0.5


def test_samples_are_the_middles_of_the_blocks() -> None:
    mosaic = Mosaic(block=4, top=1, left=3)
    rows, columns = np.indices((10, 9))

    # Of the first blocks, that are cut off, row -1 is not there, and column 1 is.
    assert mosaic.samples(rows)[:, 0].tolist() == [3, 7]
    assert mosaic.samples(columns)[0].tolist() == [1, 5]


def test_what_is_not_pixelated_is_left_alone() -> None:
    region = np.zeros(GRAY.shape, bool)
    region[64:128, 64:128] = True
    mosaic = Mosaic(block=8, exact=False, confidence=0.5, region=region)
    result = np.zeros_like(GRAY)

    kept = mosaic.from_network(result, GRAY, of_means=False)

    assert np.array_equal(kept[~region], GRAY[~region])
    assert not kept[region].any()
