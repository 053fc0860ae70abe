"""Readers of the research data: faces.tar, cifar10.zip, photos.zip, and scikit-image's pictures.

The rule that splits faces by identity is here, for those who train and those who measure.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

Pixels = npt.NDArray[np.uint8]
_Item = TypeVar("_Item")

LEARNT_BELOW = 28


def identity(name: str) -> str:
    """Give who is on the face of a file: its name without the number."""
    return re.sub(r"_\d+(\.jpg)?$", "", Path(name).name)


def is_learnt_from(name: str) -> bool:
    """Split the faces by a hash of the identity."""
    return int(hashlib.sha256(identity(name).encode()).hexdigest(), 16) % 100 < LEARNT_BELOW


def _faces(data: Path, chosen: Callable[[str], bool]) -> Iterator[tuple[str, Image.Image]]:
    with tarfile.open(data / "faces.tar") as archive:
        for member in archive:
            if member.isfile() and member.name.startswith("faces/") and chosen(member.name):
                stream = archive.extractfile(member)
                assert stream is not None
                yield Path(member.name).stem, Image.open(stream).convert("L")


def learnt_faces(data: Path) -> list[tuple[str, Image.Image]]:
    """Name and gray picture, 350x350, of the faces to learn from."""
    return list(_faces(data, is_learnt_from))


def held_out_faces(data: Path) -> list[tuple[str, Image.Image]]:
    """Name and gray picture, 350x350, of the faces whose identities nothing was learnt from."""
    return list(_faces(data, lambda name: not is_learnt_from(name)))


def photos(data: Path) -> list[Pixels]:
    """Photographs to learn from, (H, W, 3) each."""
    with zipfile.ZipFile(data / "photos.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".png")))
        return [
            np.array(Image.open(io.BytesIO(archive.read(n))).convert("RGB"), np.uint8)
            for n in names
        ]


def cifar_train(data: Path) -> Pixels:
    """CIFAR-10's training images, (50000, 32, 32, 3)."""
    files = cifar_files(data, "train").values()
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])


def cifar_files(data: Path, part: str) -> dict[str, bytes]:
    """JPEG files of CIFAR-10's part `train` or `test`, by "class/number.jpg"."""
    with zipfile.ZipFile(data / "cifar10.zip") as archive:
        start = f"cifar10/{part}/"
        names = sorted(n for n in archive.namelist() if n.startswith(start) and n.endswith(".jpg"))
        return {name.removeprefix(start): archive.read(name) for name in names}


def colour_photographs() -> dict[str, Pixels]:
    """All colour photographs in scikit-image's package, at native size, (H, W, 3); never learnt."""
    return {
        "astronaut": skimage.data.astronaut(),
        "cat": skimage.data.cat(),
        "coffee": skimage.data.coffee(),
        "hubble": skimage.data.hubble_deep_field(),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
        "retina": skimage.data.retina(),
        "rocket": skimage.data.rocket(),
        "tissue": skimage.data.immunohistochemistry(),
    }


def gray_photographs() -> dict[str, Pixels]:
    """Gray photographs in scikit-image's package, at native size, (H, W); never learnt."""
    names = ("brick", "camera", "clock", "coins", "grass", "gravel", "moon")
    return {name: getattr(skimage.data, name)() for name in names}


def some(items: Sequence[_Item], limit: int | None) -> list[_Item]:
    """At most `limit` items, spread evenly over all."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[place * len(items) // limit] for place in range(limit)]
