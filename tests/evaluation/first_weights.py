"""Train the weights that ship, from the research data; resumable.

    python -m tests.evaluation.first_weights enhancer --data DIR --work DIR --minutes 60

DIR holds faces.tar, cifar10.zip and photos.zip. Faces are split by identity: only those with
sha256(name stem) mod 100 < 28 are learnt from. CIFAR-10 is learnt from its training images only.
The model directory is `<work>/<network>/model`; a rerun goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from redaction_core.checkpoints import save_model
from redaction_core.models import BUILDERS, FILLS_HOLES
from redaction_core.redaction import Pixelate
from redaction_core.training import Optimisation, Trainer, enhance_objective, fill_objective
from tests.evaluation.research_data import Pixels, cifar_train, learnt_faces, photos

MINUTES_BETWEEN_SAVES = 5
ARCHITECTURES: dict[str, dict[str, int]] = {
    "enhancer": {"width": 32, "blocks": 8},
    "redacto": {"width": 64, "blocks": 5},
}


def channels_first(images: Pixels) -> Tensor:
    """(..., H, W, C) to (..., C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3)))


def luma(images_u8: Tensor) -> Tensor:
    """Gray copies: uint8 (N, 3, H, W) to (N, 1, H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (images_u8.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)


def crops(
    images: list[Tensor] | Tensor, n: int, size: int, scale: float, rng: np.random.Generator
) -> Tensor:
    """Random crops, flipped at random, shrunk by `scale` to `size`: uint8 (n, C, size, size)."""
    region = max(size, round(size / scale))
    out = []
    for i in rng.integers(len(images), size=n):
        image = images[int(i)]
        image = image if image.dim() == 3 else image[None]
        side = min(region, *image.shape[-2:])
        top, left = (int(rng.integers(d - side + 1)) for d in image.shape[-2:])
        crop = image[:, top : top + side, left : left + side]
        out.append(
            F.interpolate(crop[None], (size, size), mode="bicubic", antialias=True)
            if side != size
            else crop[None]
        )
    batch = torch.cat(out)
    return batch.flip(-1) if rng.random() < 0.5 else batch


def enhancer_batches(data: Path, rng: np.random.Generator) -> Iterator[tuple[Tensor, Pixelate]]:
    """Gray crops with the pixelation to undo; most of them blocks of 4, then 8, then all others."""
    faces = torch.from_numpy(learnt_faces(data))
    scenery = [luma(channels_first(photo)[None])[0, 0] for photo in photos(data)]
    while True:
        block = int(
            rng.choice(
                [4, 8, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16],
                p=[0.7, 0.14, 0.04] + [0.12 / 12] * 12,
            )
        )
        size, n = (96, 16) if block <= 8 else (128, 8)
        if rng.random() < 0.88:
            scale = float(rng.choice([0.64, 0.32, rng.uniform(0.3, 1.0)], p=[0.45, 0.35, 0.2]))
            batch = crops(faces, n, size, max(scale, size / 350), rng)
        else:
            batch = crops(scenery, n, size, float(rng.uniform(0.4, 1.0)), rng)
        yield batch, Pixelate(block=block, nearest=bool(rng.random() < 0.5))


def random_holes(n: int, size: int, largest: int, rng: np.random.Generator) -> Tensor:
    """Hidden pixels, bool (n, 1, size, size): boxes, strokes and scattered pixels."""
    hidden = np.zeros((n, size, size), bool)
    for mask in hidden:
        kind = rng.random()
        if kind < 0.7:
            for _ in range(1 if rng.random() < 0.7 else 3):
                height, width = np.exp(rng.uniform(np.log(2), np.log(largest + 1), 2)).astype(int)
                if rng.random() < 0.6:
                    width = height
                top, left = (int(rng.integers(0, size - side + 1)) for side in (height, width))
                mask[top : top + height, left : left + width] = True
        elif kind < 0.92:
            for _ in range(int(rng.integers(1, 4))):
                y, x = rng.uniform(0, size, 2)
                angle, thick = rng.uniform(0, 6.28), float(rng.uniform(0.7, max(1.0, largest / 8)))
                rows, columns = np.mgrid[:size, :size]
                for _ in range(int(rng.integers(4, 14))):
                    mask[(rows - y) ** 2 + (columns - x) ** 2 <= thick**2] = True
                    angle += rng.normal(0, 0.5)
                    y, x = y + thick * np.sin(angle), x + thick * np.cos(angle)
        else:
            mask[rng.random((size, size)) < rng.uniform(0.05, 0.6)] = True
        if not mask.any() or mask.mean() > 0.7:
            mask[:] = False
            mask[size // 2 : size // 2 + 2, size // 2 : size // 2 + 2] = True
    return torch.from_numpy(hidden)[:, None]


def small_holes(small: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """CIFAR-10 crops with one small hole each, most often the published 4x4 in the centre."""
    # Crops start on the JPEG grid, so that the network can learn to use it.
    size, n = ((16, 64), (24, 32), (32, 16))[int(rng.choice(3, p=[0.6, 0.2, 0.2]))]
    start = 8 if size == 16 else 0
    picked = small[torch.from_numpy(rng.integers(len(small), size=n))]
    batch = picked[..., start : start + size, start : start + size]
    hidden = torch.zeros(n, 1, size, size, dtype=torch.bool)
    for mask in hidden:
        side = 4 if rng.random() < 0.65 else int(rng.integers(1, 11))
        y, x = (int(v) for v in rng.integers(0, size - side + 1, 2))
        if rng.random() < 0.6:
            y = x = 16 - start - side // 2
        mask[:, y : y + side, x : x + side] = True
    if rng.random() < 0.5:
        batch, hidden = batch.flip(-1), hidden.flip(-1)
    if rng.random() < 0.5:
        batch, hidden = batch.transpose(-1, -2), hidden.transpose(-1, -2)
    return batch, hidden


def redacto_batches(data: Path, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Colour crops with the pixels to fill in; a fifth of them turned gray."""
    small, faces = channels_first(cifar_train(data)), torch.from_numpy(learnt_faces(data))
    scenery = [channels_first(photo) for photo in photos(data)]
    while True:
        kind = rng.random()
        if kind < 0.66:
            batch, hidden = small_holes(small, rng)
        elif kind < 0.94:
            size, n = ((48, 8), (64, 5), (96, 2))[int(rng.integers(3))]
            scale = float(np.exp(rng.uniform(np.log(0.25), 0)))
            batch = crops(scenery, n, size, scale, rng)
            hidden = random_holes(n, size, size // 2, rng)
        else:
            batch = crops(faces, 8, 64, float(rng.uniform(0.3, 1)), rng).expand(-1, 3, -1, -1)
            hidden = random_holes(8, 64, 32, rng)
        if rng.random() < 0.15:
            batch = luma(batch).expand(-1, 3, -1, -1)
        yield batch.contiguous(), hidden


def baseline_batches(data: Path, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Repeat the published setting: the 4x4 hole in the centre of CIFAR-10 images, nothing else.

    The network sees 3 pixels around the hole, so the middle 12x12 pixels train it just as well.
    """
    small = channels_first(cifar_train(data)[:, 10:22, 10:22])
    hidden = torch.zeros(128, 1, 12, 12, dtype=torch.bool)
    hidden[..., 4:8, 4:8] = True
    while True:
        batch = small[torch.from_numpy(rng.integers(len(small), size=128))]
        yield batch.flip(-1) if rng.random() < 0.5 else batch, hidden


BATCHES: dict[str, Callable[[Path, np.random.Generator], Iterator[tuple[Tensor, object]]]] = {
    "enhancer": enhancer_batches,
    "redacto": redacto_batches,
    "redacto-baseline": baseline_batches,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=sorted(BATCHES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="length of the whole training")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    work = options.work / options.network
    work.mkdir(parents=True, exist_ok=True)
    network = BUILDERS[options.network](**ARCHITECTURES.get(options.network, {}))
    if options.network != "redacto-baseline":
        network = network.to(memory_format=torch.channels_last)
    optimisation = Optimisation(
        learning_rate=options.learning_rate, mixed=not options.network.endswith("-baseline")
    )
    trainer = Trainer(network, optimisation)
    spent_s, last = 0.0, work / "last.ckpt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        network.load_state_dict(state["network"])
        trainer.average.load_state_dict(state["average"])
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.steps, spent_s = state["steps"], state["spent_s"]
    rng = np.random.default_rng((options.seed, trainer.steps))
    batches = BATCHES[options.network](options.data, rng)
    objective = fill_objective if options.network in FILLS_HOLES else enhance_objective
    total_s = options.minutes * 60
    while spent_s < total_s:
        started, until = time.process_time(), min(60.0 * MINUTES_BETWEEN_SAVES, total_s - spent_s)

        def steps(
            started: float = started, until: float = until, spent_s: float = spent_s
        ) -> Iterator[tuple[Callable[[], Tensor], float]]:
            while (passed := time.process_time() - started) < until:
                images, how = next(batches)
                yield (
                    functools.partial(objective, network, images, how),
                    (spent_s + passed) / total_s,
                )

        loss = trainer.epoch(steps())
        spent_s += time.process_time() - started
        state = {
            "network": network.state_dict(),
            "average": trainer.average.state_dict(),
            "optimiser": trainer.optimiser.state_dict(),
            "steps": trainer.steps,
            "spent_s": spent_s,
        }
        torch.save(state, last.with_suffix(".new"))
        last.with_suffix(".new").replace(last)
        config = {
            "network": options.network,
            "architecture": ARCHITECTURES.get(options.network, {}),
            "training": {
                "minutes": options.minutes,
                "steps": trainer.steps,
                "seed": options.seed,
                "learning_rate": options.learning_rate,
            },
        }
        save_model(str(work / "model"), trainer.average, config)
        print(
            json.dumps({"minutes": round(spent_s / 60, 1), "steps": trainer.steps, "loss": loss}),
            flush=True,
        )


if __name__ == "__main__":
    main()
