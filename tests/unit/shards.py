"""Folders of small pictures, and whole shards run on them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from redaction_core.images import SUFFIXES, decode
from redaction_core.loading import Task
from redaction_core.plan import planned
from redaction_core.reconstruction import Outcome, Reconstruction
from redaction_core.redaction import Redaction, redact
from redaction_core.storage import open_store
from tests.unit.networks import noise, restorer

Pixels = npt.NDArray[np.uint8]


def picture(*shape: int, seed: int = 0) -> Pixels:
    smooth: Pixels = noise(*shape, seed=seed).numpy() // 6 + 100
    return smooth


def put(folder: Path, key: str, pixels: Pixels) -> None:
    (folder / key).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / key)


def get(folder: Path, key: str) -> Pixels:
    return decode((folder / "images" / key).read_bytes()).pixels


def task(folder: Path, **changes: object) -> Task:
    given: dict[str, Any] = {
        "inputs": open_store(str(folder / "in")),
        "outputs": open_store(str(folder / "out")),
    }
    return Task(**(given | changes))


def run(given: Task, network: str = "enhancer") -> Outcome:
    inputs = list(planned(given.inputs.list(), SUFFIXES[given.format]))
    return Reconstruction(given, restorer(network)).run(inputs)


def as_tensor(pixels: Pixels) -> torch.Tensor:
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))[None]


def as_pixels(images: torch.Tensor) -> Pixels:
    planes: Pixels = images[0].numpy()
    return planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def redacted(redaction: Redaction, pixels: Pixels, key: str) -> Pixels:
    return as_pixels(redact(redaction, as_tensor(pixels), [key]).images_u8)


SHAPES = {
    "a.png": (20, 24),
    "b b/c#%.png": (20, 24, 3),
    "d.bmp": (1, 1),
    "e.png": (20, 24),
    "f.png": (5, 37, 3),
    "ü.tif": (20, 24),
}


def fill_folder(folder: Path) -> dict[str, Pixels]:
    pictures = {}
    for number, (key, shape) in enumerate(SHAPES.items()):
        pictures[key] = picture(*shape, seed=number)
        put(folder, key, pictures[key])
    return pictures


def output(key: str, suffix: str = ".png") -> str:
    return key if key.endswith(suffix) else key + suffix
