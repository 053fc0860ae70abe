"""Pictures to measure with: cut from photographs, so that codecs see what they are made for."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "coins", "moon")
_QUALITY = 92


def gray_crops(count: int, side: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield different gray crops, uint8 side x side, half of them mirrored; always the same."""
    pictures = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    grays = [p if p.ndim == 2 else cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pictures]
    rng = np.random.default_rng(0)
    for number in range(count):
        gray = grays[number % len(grays)]
        cut = int(rng.integers(side // 2, min(gray.shape) + 1))
        top, left = (int(rng.integers(0, length - cut + 1)) for length in gray.shape)
        crop = gray[top : top + cut, left : left + cut]
        # Averages what shrinks; what grows would have no detail left without cubic weights.
        method = cv2.INTER_AREA if cut > side else cv2.INTER_CUBIC
        crop = cv2.resize(crop, (side, side), interpolation=method)
        yield np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def write_jpegs(folder: Path, count: int, side: int) -> None:
    """Write crops as 000000.jpg, 000001.jpg, ..."""
    folder.mkdir(parents=True)
    for number, crop in enumerate(gray_crops(count, side)):
        _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        (folder / f"{number:06d}.jpg").write_bytes(data.tobytes())
