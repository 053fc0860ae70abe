"""What the pipeline is measured against: the same network in a bare loop, and in plain Ray Data.

Neither measures errors, plans, commits or survives anything.
"""

import io
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from redaction_core.checkpoints import load_model, shipped
from redaction_core.images import decode, encode
from redaction_core.redaction import Pixelate, redact

BATCH = 16
SIDE = 224
BLOCK = 4
HOW = Pixelate(block=BLOCK)
Batch = npt.NDArray[np.uint8]


class Network:
    """The shipped enhancer as a script would run it: bfloat16 where the machine has it."""

    def __init__(self) -> None:
        self.network = load_model(shipped("enhancer")).network.to(memory_format=torch.channels_last)

    def __call__(self, pixelated: Batch) -> Batch:
        """Restore a batch, uint8 NxHxW."""
        images = torch.from_numpy(pixelated)[:, None].float() / 255
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            estimate = self.network(images, HOW).image
        restored: Batch = (estimate[:, 0] * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        return restored


def read_with_pillow(path: Path) -> Batch:
    image = Image.open(path).convert("L")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    small = image.resize((image.width // BLOCK, image.height // BLOCK), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.NEAREST))


def write_with_pillow(path: Path, pixels: Batch) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    path.write_bytes(buffer.getvalue())


def read_with_core(path: Path) -> Batch:
    clean = torch.from_numpy(decode(path.read_bytes()).pixels)
    pixelated: Batch = redact(HOW, clean[None, None], [path.name]).images_u8[0, 0].numpy()
    return pixelated


def write_with_core(path: Path, pixels: Batch) -> None:
    path.write_bytes(encode(pixels, "png"))


CODECS = {
    "pillow": (read_with_pillow, write_with_pillow),
    "core": (read_with_core, write_with_core),
}


def bare_loop(source: Path, target: Path, codecs: str, processes: int) -> float:
    """Images a second on all cores, without start-up."""
    target.mkdir(parents=True)
    paths = sorted(source.iterdir())
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(processes + 1)
    threads = max(1, (os.cpu_count() or 1) // processes)
    workers = [
        spawn.Process(target=_loop, args=(paths[n::processes], target, codecs, threads, start))
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    start.wait()
    started = time.monotonic()
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - started
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("a worker of the bare loop failed")
    return len(paths) / seconds


def _loop(paths: list[Path], target: Path, codecs: str, threads: int, start: Any) -> None:  # noqa: ANN401 - a Barrier of the spawn context has no public type
    torch.set_num_threads(threads)
    read, write = CODECS[codecs]
    network = Network()
    network(np.stack([read(path) for path in paths[:BATCH]]))
    start.wait()
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(paths), BATCH):
            batch = paths[first : first + BATCH]
            restored = network(np.stack(list(pool.map(read, batch))))
            list(pool.map(write, [target / f"{path.stem}.png" for path in batch], restored))


class RestoreBatch:
    """An actor as the documentation of `map_batches` shows it."""

    def __init__(self, begun: Path) -> None:
        torch.set_num_threads(1)
        self.network = Network()
        self.begun = begun

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if not self.begun.exists():
            self.begun.touch()
        small = [
            Image.fromarray(image).resize(
                (image.shape[1] // BLOCK, image.shape[0] // BLOCK), Image.Resampling.BOX
            )
            for image in batch["image"]
        ]
        side = BLOCK * small[0].width, BLOCK * small[0].height
        pixelated = [np.asarray(image.resize(side, Image.Resampling.NEAREST)) for image in small]
        return {"image": self.network(np.stack(pixelated))}


def documented(source: Path, target: Path, begun: Path) -> None:
    """Ray Data as its documentation shows it: read_images, map_batches, write_images.

    The file `begun` appears when the first batch is at the network.
    """
    import ray

    ray.init("local", include_dashboard=False, log_to_driver=False)
    ray.data.read_images(str(source), mode="L").map_batches(
        RestoreBatch,
        fn_constructor_args=(begun,),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=1),
    ).write_images(str(target), column="image")
    ray.shutdown()
