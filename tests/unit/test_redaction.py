"""Redactions against plain NumPy and SciPy, over grids of sizes."""

import hashlib
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
    Freeform,
    Pixelate,
    Redaction,
    Scattered,
    parse,
    redact,
)

Pixels = npt.NDArray[np.uint8]

SIZES = [(1, 1), (1, 7), (5, 1), (2, 2), (7, 5), (16, 16), (17, 31), (33, 8)]
BLOCKS = [2, 3, 4, 7, 8, 16, 64]
TEXTS = [
    *("pixelate:2", "pixelate:16", "pixelate:3:nearest", "blur:2", "blur:0.5", "blur:0.00001"),
    *("box:4x6@center", "box:16x1@random", "box:0.02@random", "box:0.000001234567@random"),
    "box:0.25@center",
    *("freeform:0.3@random", "freeform:0.000001@random", "pixels:0.5@random", "pixels:.01@random"),
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
        assert np.array_equal(found, np.rint(exact))


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4])
def test_a_blur_is_the_same_in_any_batch_and_exact(sigma: float) -> None:
    # Over enough pixels that some lie next to a half.
    images = noise(24, 3, 120, 120)

    whole = redacted(Blur(sigma=sigma), images)

    single = [redacted(Blur(sigma=sigma), image[None])[0] for image in images]
    around = (0, 0, sigma, sigma)
    exact = ndimage.gaussian_filter(images.numpy().astype(np.float64), around, mode="nearest")
    assert np.array_equal(whole, np.stack(single))
    assert np.array_equal(whole, np.rint(exact))


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


SHAPELESS = [
    *(Freeform(fraction=share) for share in (0.0001, 0.01, 0.1, 0.4, 0.75, 0.99)),
    *(Scattered(fraction=share) for share in (0.0001, 0.3, 0.99)),
]


@pytest.mark.parametrize("size", [*SIZES, (96, 96), (31, 300)])
@pytest.mark.parametrize("how", SHAPELESS, ids=str)
def test_the_share_is_hidden_exactly(how: Freeform | Scattered, size: tuple[int, int]) -> None:
    images = noise(4, 3, *size)

    result, hidden = redact(how, images, list("abcd"))

    assert hidden is not None
    expected = max(1, round(how.fraction * size[0] * size[1]))
    assert hidden.sum((1, 2, 3)).tolist() == [expected] * 4
    assert torch.equal(result, torch.where(hidden, HIDDEN_U8, images))


def test_strokes_hang_together_and_pixels_do_not() -> None:
    images = torch.zeros(20, 1, 128, 128, dtype=torch.uint8)
    keys = [str(number) for number in range(20)]
    pieces = []

    for how in (Freeform(fraction=0.25), Scattered(fraction=0.25)):
        hidden = redact(how, images, keys).hidden
        assert hidden is not None
        pieces.append([ndimage.label(mask[0].numpy())[1] for mask in hidden])

    strokes, pixels = pieces
    assert max(strokes) <= 8
    assert min(pixels) > 1000


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_strokes_are_thin_and_long(share: float) -> None:
    keys = [str(number) for number in range(20)]
    hidden = redact(
        Freeform(fraction=share), torch.zeros(20, 1, 128, 128, dtype=torch.uint8), keys
    ).hidden

    assert hidden is not None
    for mask in hidden[:, 0].numpy():
        # A disc of the same area is deeper than this.
        deepest = ndimage.distance_transform_edt(np.pad(mask, 1)).max()
        assert deepest < 0.8 * (mask.sum() / np.pi) ** 0.5
        assert deepest > 1


@pytest.mark.parametrize("how", [Freeform(fraction=0.1), Scattered(fraction=0.1)], ids=str)
def test_every_pixel_is_hidden_about_as_often(how: Freeform | Scattered) -> None:
    keys = [str(number) for number in range(3000)]

    hidden = redact(how, torch.zeros(3000, 1, 12, 12, dtype=torch.uint8), keys).hidden

    assert hidden is not None
    often = hidden.float().mean((0, 1))
    assert float(often.min()) > 0.03
    assert float(often.max()) < 0.3
    assert len({mask.numpy().tobytes() for mask in hidden}) > 2000


@pytest.mark.parametrize(
    "box",
    [Box(width=3, height=3, random=True), Freeform(fraction=0.02), Scattered(fraction=0.02)],
    ids=str,
)
def test_random_places_depend_on_key_and_seed_alone(box: Redaction) -> None:
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


@pytest.mark.parametrize(
    ("text", "digest"),
    [("freeform:0.3@random", "c9a008e4b962fc8b"), ("pixels:0.3@random", "3a72675306e61387")],
)
def test_places_stay_what_they_were(text: str, digest: str) -> None:
    hidden = redact(parse(text), noise(2, 1, 40, 50), ["a", "b"], 7).hidden

    assert hidden is not None
    assert hashlib.sha256(hidden.numpy().tobytes()).hexdigest()[:16] == digest


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
    assert parse("box:0.0625@center") == Box(fraction=0.0625)
    assert parse("freeform:0.25@random") == Freeform(fraction=0.25)
    assert parse("pixels:.25@random") == Scattered(fraction=0.25)


@pytest.mark.parametrize(
    "text",
    [
        *("", "pixelate", "pixelate:1", "pixelate:0", "pixelate:-4", "pixelate:4.5"),
        *("pixelate:4:Nearest", "pixelate:4 ", "blur:0", "blur:101", "blur:nan", "blur:1e1"),
        *("box:0x4@center", "box:4x4", "box:4x4@left", "box:0@random", "box:1.5@random"),
        *("box:0@center", "freeform:0.5@center", "mask"),
        *("pixelate:4\n", "freeform:0.3", "freeform:0@random"),
        *("freeform:1.5@random", "freeform:9x9@random", "pixels:0.3@center", "pixels:0.0@random"),
    ],
)
def test_other_texts_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"\A.*not understood: write pixelate:B.*\Z"):
        parse(text)
