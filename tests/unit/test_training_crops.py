"""What a sample shows: crops of any scale, on the grid of JPEG where asked for, mirrored, gray."""

from itertools import product

import numpy as np
import pytest
from PIL import Image

from redaction_core.images import Pixels
from redaction_core.training.crops import Crops
from tests.unit.training_sets import noise_images, smooth_images


def draw(  # noqa: PLR0913 - all by name
    *,
    n: int = 300,
    side: int = 64,
    crop: int = 32,
    scales: tuple[float, float] = (0.3, 1.0),
    on_grid: bool = False,
    gray_share: float = 0.0,
    seed: int = 0,
) -> Crops:
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(*scales, n)
    return Crops.draw(rng, drawn, side=side, crop=crop, on_grid=on_grid, gray_share=gray_share)


@pytest.mark.parametrize(
    ("side", "crop", "on_grid"), list(product((32, 33, 61, 64), (1, 8, 28, 32), (False, True)))
)
def test_regions_lie_within_the_image(side: int, crop: int, *, on_grid: bool) -> None:
    crops = draw(side=side, crop=crop, on_grid=on_grid)
    assert (crops.regions >= crop).all()
    for begin in (crops.tops, crops.lefts):
        assert (begin >= 0).all()
        assert (begin + crops.regions <= side).all()


def test_every_place_is_drawn_about_as_often() -> None:
    crops = draw(n=20_000, side=12, crop=8, scales=(1, 1))
    for begin in (crops.tops, crops.lefts):
        assert np.abs(np.bincount(begin) / 20_000 - 0.2).max() < 0.02
    assert abs(crops.mirrored.mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("side", "crop"), [(64, 32), (32, 32), (100, 44), (101, 30), (30, 30), (40, 36)]
)
def test_the_grid_of_jpeg_stays_where_nothing_is_shrunk(side: int, crop: int) -> None:
    crops = draw(n=500, side=side, crop=crop, scales=(1, 1), on_grid=True)
    assert (crops.tops % 8 == 0).all()
    assert (crops.lefts[~crops.mirrored] % 8 == 0).all()
    assert ((crops.lefts + crop)[crops.mirrored] % 8 == 0).all()
    assert crops.mirrored.any() == (-crop % 8 <= side - crop)
    assert not crops.mirrored.all()
    # All places of the grid are used.
    assert len(np.unique(crops.tops)) == (side - crop) // 8 + 1


def test_shrunk_crops_lie_anywhere() -> None:
    crops = draw(n=2000, scales=(0.5, 0.9), on_grid=True)
    assert len(np.unique(crops.lefts % 8)) == 8


def shown(crops: Crops, number: int, image: Pixels, *, channels: int, crop: int) -> Pixels:
    out = np.full((channels, crop, crop), 77, np.uint8)
    crops.cut(number, image, out)
    return out


@pytest.mark.parametrize(("colour", "channels"), [(False, 1), (False, 3), (True, 3)])
def test_crops_are_the_images_pixels(*, colour: bool, channels: int) -> None:
    image = noise_images(1, 64, colour=colour)[0]
    image.flags.writeable = False
    crops = draw(n=40, scales=(1, 1))
    for number in range(40):
        top, left = crops.tops[number], crops.lefts[number]
        seen = image[top : top + 32, left : left + 32]
        if crops.mirrored[number]:
            seen = seen[:, ::-1]
        wanted = np.moveaxis(seen, -1, 0) if colour else np.stack([seen] * channels)
        assert np.array_equal(shown(crops, number, image, channels=channels, crop=32), wanted)
    assert crops.mirrored.any()


@pytest.mark.parametrize("colour", [False, True])
def test_regions_are_shrunk_as_by_pillow(*, colour: bool) -> None:
    image = smooth_images(1, 90, colour=colour)[0]
    crops = draw(n=40, side=90, scales=(0.3, 0.9))
    for number in range(40):
        top, left, region = crops.tops[number], crops.lefts[number], crops.regions[number]
        seen = Image.fromarray(image[top : top + region, left : left + region])
        small = np.asarray(seen.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
        if crops.mirrored[number]:
            small = small[:, ::-1]
        wanted = np.moveaxis(small, -1, 0) if colour else small[None]
        found = shown(crops, number, image, channels=len(wanted), crop=32)
        # Both round between their two passes, torch with coarser weights.
        assert np.abs(found - wanted).max() <= 2
        assert np.abs(found - wanted).mean() < 0.1


def test_a_region_larger_than_the_image_is_the_image() -> None:
    crops = draw(n=5, side=40, crop=32, scales=(0.1, 0.2))
    assert (crops.regions == 40).all()
    assert (crops.tops == 0).all()


def test_colours_are_left_out_of_a_share() -> None:
    image = noise_images(1, 64, colour=True)[0]
    crops = draw(n=2000, scales=(1, 1), gray_share=0.25)
    assert abs(crops.gray.mean() - 0.25) < 0.05
    number = int(np.flatnonzero(crops.gray & ~crops.mirrored)[0])
    top, left = crops.tops[number], crops.lefts[number]
    seen = Image.fromarray(image[top : top + 32, left : left + 32])
    wanted = np.stack([np.asarray(seen.convert("L"))] * 3)
    assert np.array_equal(shown(crops, number, image, channels=3, crop=32), wanted)
    number = int(np.flatnonzero(~crops.gray)[0])
    found = shown(crops, number, image, channels=3, crop=32)
    assert not np.array_equal(found[0], found[1])


def test_some_of_the_crops_are_the_same_crops() -> None:
    crops = draw(n=20, gray_share=0.5)
    some = crops[5:9]
    assert len(some.regions) == 4
    for name in ("regions", "tops", "lefts", "mirrored", "gray"):
        assert np.array_equal(getattr(some, name), getattr(crops, name)[5:9])
