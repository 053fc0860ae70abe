"""Tiny finished data sets to train on, made in this process as `jobs.ingest` makes them."""

from collections.abc import Sequence

from redaction_core.images import Pixels, Transform
from redaction_core.splits import Splits
from redaction_core.storage import open_store
from tests.unit.small_data_set import Given, do_run, finish, noise, task


def write_data_set(
    location: str,
    images: Sequence[Pixels],
    *,
    splits: Sequence[str] | None = None,
    shard_size: int = 5,
    prefix: str = "",
) -> None:
    """Write uint8 images of one size, SxS (gray) or SxSx3, one split an image.

    Left out: each fourth is in `val`, the others are in `train`. Equal images become duplicates.
    The key (`url`) of image 7 is "0007" after the prefix; parts hold `shard_size` rows, in the
    order of images.
    """
    given = splits or ["val" if number % 4 == 3 else "train" for number in range(len(images))]
    inputs = {
        f"{prefix}{number:04}": Given(data=image.tobytes(), pixels=image, split=split)
        for number, (image, split) in enumerate(zip(images, given, strict=True))
    }
    color = "gray" if images[0].ndim == 2 else "rgb"
    transform = Transform(size=len(images[0]), color=color)
    made = task(inputs, transform=transform, splits=Splits())
    finish(do_run(open_store(location), made, shard_size=shard_size), made)


def noise_images(count: int, side: int, *, colour: bool = False) -> list[Pixels]:
    """Give images of noise, uint8 SxS or SxSx3, no two alike."""
    shape = (side, side, 3) if colour else (side, side)
    return [noise(seed, *shape) for seed in range(count)]


def smooth_images(count: int, side: int, *, colour: bool = False) -> list[Pixels]:
    """Give images that a network can learn to restore: noise of a few pixels, enlarged."""
    import cv2

    few = noise_images(count, max(2, side // 8), colour=colour)
    return [cv2.resize(each, (side, side), interpolation=cv2.INTER_CUBIC) for each in few]
