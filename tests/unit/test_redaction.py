"""Redactions against plain NumPy and SciPy, over grids of sizes."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

from redaction_core.errors import UsageError
from redaction_core.redaction import (
    HIDDEN_U8,
    Blur,
    Box,
    Pixelate,
    Redaction,
    find_block,
    parse,
    redact,
)

Pixels = npt.NDArray[np.uint8]

SIZES = [(1, 1), (1, 7), (5, 1), (2, 2), (7, 5), (16, 16), (17, 31), (33, 8)]
BLOCKS = [2, 3, 4, 7, 8, 16, 64]
TEXTS = [
    *("pixelate:2", "pixelate:16", "pixelate:3:nearest", "blur:2", "blur:0.5", "blur:0.00001"),
    *("box:4x6@center", "box:16x1@random", "box:0.02@random", "box:0.000001234567@random"),
]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return torch.from_numpy(pixels)


def redacted(redaction: Redaction, images: torch.Tensor) -> Pixels:
    keys = [str(place) for place in range(len(images))]
    result: Pixels = redact(redaction, images, keys).images_u8.numpy()
    return result


def pixelated_block_by_block(image: Pixels, block: int, *, nearest: bool) -> Pixels:
    result = image.copy()
    channels, height, width = image.shape
    for channel, top, left in itertools.product(
        range(channels), range(0, height, block), range(0, width, block)
    ):
        one = image[channel, top : top + block, left : left + block]
        row, column = (min(block // 2, side - 1) for side in one.shape)
        # NumPy's rint, like IEEE 754, rounds halves to even.
        value = one[row, column] if nearest else np.rint(one.mean(dtype=np.float64))
        result[channel, top : top + block, left : left + block] = value
    return result


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("block", BLOCKS)
def test_pixelation_is_exact(block: int, size: tuple[int, int], *, nearest: bool) -> None:
    images = noise(2, 3, *size)

    result = redacted(Pixelate(block=block, nearest=nearest), images)

    for image, found in zip(images.numpy(), result, strict=True):
        assert np.array_equal(found, pixelated_block_by_block(image, block, nearest=nearest))


@pytest.mark.parametrize("nearest", [False, True])
def test_pixelating_again_changes_nothing(*, nearest: bool) -> None:
    redaction = Pixelate(block=4, nearest=nearest)
    once = redacted(redaction, noise(1, 1, 30, 23))

    assert np.array_equal(redacted(redaction, torch.from_numpy(once)), once)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 2.5, 9.0])
def test_blur_is_that_of_scipy(sigma: float, size: tuple[int, int]) -> None:
    images = noise(1, 2, *size)

    result = redacted(Blur(sigma=sigma), images)[0]

    for plane, found in zip(images[0].numpy(), result, strict=True):
        exact = ndimage.gaussian_filter(plane.astype(np.float64), sigma, mode="nearest")
        assert np.abs(found - np.rint(exact)).max() <= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "box",
    [
        Box(width=3, height=2),
        Box(width=100, height=1, random=True),
        Box(width=4, height=4, random=True),
        Box(fraction=0.1, random=True),
        Box(fraction=0.9, random=True),
    ],
)
def test_a_box_hides_its_pixels_and_no_other(box: Box, size: tuple[int, int]) -> None:
    images = noise(5, 3, *size)
    height, width = size
    expected = (min(box.height, height), min(box.width, width))
    if box.fraction:
        side = max(1, round((box.fraction * height * width) ** 0.5))
        expected = (min(side, height), min(side, width))

    result, hidden = redact(box, images, list("abcde"))

    assert hidden is not None
    for image, found, mask in zip(images, result, hidden, strict=True):
        rows, columns = (torch.where(mask[0].any(1 - axis))[0] for axis in (0, 1))
        assert (len(rows), len(columns)) == expected
        assert int(mask.sum()) == expected[0] * expected[1]
        assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == expected
        assert bool((found == torch.where(mask, HIDDEN_U8, image)).all())
        if not box.random:
            assert (rows[0], columns[0]) == (
                (height - expected[0]) // 2,
                (width - expected[1]) // 2,
            )


def test_random_places_reach_every_corner() -> None:
    box = Box(width=2, height=2, random=True)
    keys = [str(number) for number in range(300)]

    hidden = redact(box, torch.zeros(300, 1, 5, 6, dtype=torch.uint8), keys).hidden

    assert hidden is not None
    places = {tuple(int(where) for where in mask[0].nonzero()[0]) for mask in hidden}
    assert places == set(itertools.product(range(4), range(5)))


def test_random_places_depend_on_key_and_seed_alone() -> None:
    box = Box(width=3, height=3, random=True)
    keys = [f"folder/{number}.png" for number in range(20)]

    def places(images: torch.Tensor, order: list[str], seed: int) -> dict[str, torch.Tensor]:
        hidden = redact(box, images, order, seed).hidden
        assert hidden is not None
        return dict(zip(order, hidden, strict=True))

    first = places(noise(20, 1, 40, 40), keys, 1)
    turned = places(noise(20, 3, 40, 40, seed=5), keys[::-1], 1)
    other = places(noise(20, 1, 40, 40), keys, 2)

    assert all(torch.equal(first[key], turned[key]) for key in keys)
    assert not all(torch.equal(first[key], other[key]) for key in keys)
    assert not all(torch.equal(first[keys[0]], first[key]) for key in keys)


@pytest.mark.parametrize("text", TEXTS)
def test_order_and_batch_make_no_difference(text: str) -> None:
    images = noise(6, 3, 21, 18)
    keys = list("abcdef")

    whole = redact(parse(text), images, keys, 3)
    turned = redact(parse(text), images.flip(0), keys[::-1], 3)
    single = [
        redact(parse(text), image[None], [key], 3) for image, key in zip(images, keys, strict=True)
    ]

    assert torch.equal(whole.images_u8, turned.images_u8.flip(0))
    assert torch.equal(whole.images_u8, torch.cat([one.images_u8 for one in single]))


@pytest.mark.parametrize("text", TEXTS)
def test_the_precision_of_the_caller_makes_no_difference(text: str) -> None:
    images = noise(2, 1, 40, 40)
    expected = redact(parse(text), images, ["a", "b"]).images_u8

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = redact(parse(text), images, ["a", "b"]).images_u8

    assert torch.equal(found, expected)


@pytest.mark.parametrize("text", TEXTS)
def test_inputs_are_left_alone(text: str) -> None:
    images = noise(1, 3, 9, 9)
    before = images.clone()

    redact(parse(text), images, ["a"])

    assert torch.equal(images, before)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


def test_texts_mean_what_they_say() -> None:
    assert parse("pixelate:4") == Pixelate(block=4)
    assert parse("pixelate:4:nearest") == Pixelate(block=4, nearest=True)
    assert parse("blur:1.5") == Blur(sigma=1.5)
    assert parse("box:3x2@center") == Box(width=3, height=2)
    assert parse("box:3x2@random") == Box(width=3, height=2, random=True)
    assert parse("box:.5@random") == Box(fraction=0.5, random=True)


@pytest.mark.parametrize(
    "text",
    [
        *("", "pixelate", "pixelate:1", "pixelate:0", "pixelate:-4", "pixelate:4.5"),
        *("pixelate:4:Nearest", "pixelate:4 ", "blur:0", "blur:101", "blur:nan", "blur:1e1"),
        *("box:0x4@center", "box:4x4", "box:4x4@left", "box:0@random", "box:1.5@random"),
        *("box:0.5@center", "mask", "pixelate:4\n"),
    ],
)
def test_other_texts_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"\A.*not understood: write pixelate:B.*\Z"):
        parse(text)


def as_picture(planes: Pixels) -> Pixels:
    return np.ascontiguousarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("block", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("size", [(40, 50), (17, 33), (600, 34)])
def test_blocks_are_found(
    size: tuple[int, int], block: int, channels: int, *, nearest: bool
) -> None:
    images = redacted(Pixelate(block=block, nearest=nearest), noise(1, channels, *size))

    assert find_block(as_picture(images[0])) == block


def test_one_changed_pixel_is_no_grid() -> None:
    pixels = as_picture(redacted(Pixelate(block=4), noise(1, 1, 40, 600))[0])
    pixels[1, 590] ^= 1

    assert find_block(pixels) is None


def test_photographs_have_no_blocks() -> None:
    assert find_block(as_picture(noise(3, 37, 41).numpy())) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (9, 14), (3, 300, 3)])
def test_one_value_is_taken_for_blocks_of_4(shape: tuple[int, ...]) -> None:
    assert find_block(np.full(shape, 7, np.uint8)) == 4


def test_edges_along_one_side_are_enough() -> None:
    rows = np.repeat(np.arange(6, dtype=np.uint8), 5)

    assert find_block(np.tile(rows[:, None], (1, 30))) == 5
    assert find_block(np.tile(rows, (30, 1))) == 5
