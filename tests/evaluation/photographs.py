"""Holes in the photographs of scikit-image, filled by redacto and by what people use today.

    python -m tests.evaluation.photographs --data DIR --work DIR

200 holes of 2 % of the area at random places, as many of free form, at native size, in colour;
then gray photographs, whose results must be gray. Rivals are OpenCV's Telea and Navier-Stokes
(radius 3) and scikit-image's biharmonic; they get the hole and 16 pixels around it, where they give
what they give on the whole image (biharmonic limits its values to those it sees, so to nearer ones)
at a time that can be afforded. Every metric is recomputed from the written files. Exits with 1
where a figure misses its mark, a known pixel changed, or a metric does not agree.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.restoration import inpaint_biharmonic

from redaction_core.checkpoints import load_model, shipped
from tests.evaluation.independent import (
    Mask,
    Pixels,
    Row,
    Verdicts,
    errors,
    fresh,
    hole_row,
    mean,
    options,
    print_table,
    random_box,
    read,
    recompute,
    reconstruct,
    result_path,
)
from tests.evaluation.research_data import colour_photographs, gray_photographs

HOLES = 200
FRACTION = 0.02
MARGIN = 16
RIVALS = ("telea", "navier-stokes", "biharmonic")


def free_form(shape: tuple[int, ...], seed: int) -> Mask:
    """Hide about 2 % of the area under one to three strokes of a pen that wanders."""
    height, width = shape[:2]
    rng = np.random.default_rng(seed)
    hidden = np.zeros((height, width), np.uint8)
    strokes = int(rng.integers(1, 4))
    thick = rng.uniform(0.01, 0.04) * min(height, width)
    for _ in range(strokes):
        place, angle = rng.uniform((0, 0), (width, height)), rng.uniform(0, 2 * math.pi)
        before = int(hidden.sum())
        while hidden.sum() - before < FRACTION * height * width / strokes:
            step = place + thick * np.array((math.cos(angle), math.sin(angle)))
            step = step.clip(0, (width - 1, height - 1))
            start, end = (np.rint(point).astype(int).tolist() for point in (place, step))
            cv2.line(hidden, start, end, color=1, thickness=max(2, round(thick)))
            place, angle = step, angle + rng.normal(0, 0.6)
    return hidden.astype(bool)


def fill(rival: str, image: Pixels, hidden: Mask) -> Pixels:
    """Fill a hole by another method; only it and what surrounds it is looked at."""
    rows, columns = (np.flatnonzero(hidden.any(axis)) for axis in (1, 0))
    near = tuple(slice(max(0, v[0] - MARGIN), v[-1] + 1 + MARGIN) for v in (rows, columns))
    piece, hole = np.ascontiguousarray(image[near]), np.ascontiguousarray(hidden[near])
    if rival == "biharmonic":
        values = inpaint_biharmonic(
            piece, hole, split_into_regions=True, channel_axis=-1 if piece.ndim == 3 else None
        )
        filled = np.rint(values * 255).clip(0, 255).astype(np.uint8)
    else:
        method = cv2.INPAINT_TELEA if rival == "telea" else cv2.INPAINT_NS
        filled = cv2.inpaint(piece, hole.astype(np.uint8), 3, method)
    result = image.copy()
    result[near][hole] = filled[hole]
    return result


def blinded(image: Pixels, hidden: Mask) -> Pixels:
    """Black out what is hidden."""
    image = image.copy()
    image[hidden] = 0
    return image


@dataclass(frozen=True, kw_only=True)
class Holes:
    """A run of the command: clean images below a folder, and what is hidden of each."""

    originals: Path
    hidden_of: Callable[[str, Pixels], Mask]
    touched: list[str] = field(default_factory=list)
    """Keys of results whose known pixels changed."""

    def row(self, key: str, result: Pixels) -> Row:
        """Recompute the metrics of a result."""
        original, hidden = self.open(key)
        if not np.array_equal(result[~hidden], original[~hidden]):
            self.touched.append(key)
        return hole_row(result, original, hidden)

    def rival(self, key: str, method: str) -> Row:
        """Measure another method on the same hole."""
        original, hidden = self.open(key)
        return errors(fill(method, blinded(original, hidden), hidden), original, hidden)

    def open(self, key: str) -> tuple[Pixels, Mask]:
        """Read the clean image, and give what is hidden of it."""
        original = read(self.originals / key)
        return original, self.hidden_of(key, original)


def write_masks(images: Path, masks: Path, inputs: Path) -> None:
    """Write a free-form mask for every image, and the image with those pixels black."""
    for seed, path in enumerate(sorted(images.rglob("*.png"))):
        pixels = read(path)
        hidden = free_form(pixels.shape, seed)
        for folder, content in ((masks, np.uint8(255) * hidden), (inputs, blinded(pixels, hidden))):
            there = folder / path.relative_to(images)
            there.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(there)


def write_copies(photographs: dict[str, Pixels], count: int, folder: Path) -> Path:
    """Write each photograph, and links to it under further names: a name gives a random place."""
    fresh(folder)
    share = -(-count // len(photographs))
    for name, pixels in photographs.items():
        (folder / name).mkdir()
        Image.fromarray(pixels).save(folder / name / "000.png")
        for copy in range(1, share):
            (folder / name / f"{copy:03}.png").symlink_to("000.png")
    return folder


def compare(title: str, holes: Holes, rows: dict[str, Row], verdicts: Verdicts) -> None:
    """Print PSNR by photograph and method, and judge the mean over all holes."""
    methods = {"redacto": rows} | {
        rival: {key: holes.rival(key, rival) for key in rows} for rival in RIVALS
    }
    keys = {
        name: [key for key in rows if key.startswith(f"{name}/")]
        for name in sorted({key.split("/")[0] for key in rows})
    } | {"all": list(rows)}
    means = {
        name: [mean([found[key] for key in group], "psnr") for found in methods.values()]
        for name, group in keys.items()
    }
    print_table((title, "n", *methods), [(name, len(keys[name]), *m) for name, m in means.items()])
    ours, *theirs = means["all"]
    for rival, psnr in zip(RIVALS, theirs, strict=True):
        text = f"{title}: {ours:.2f} dB over {len(rows)} holes, above {rival} with {psnr:.2f}"
        verdicts.add(text, ours > psnr)


def raw_chroma(images: Path, keys: list[str], seed: int, model: str) -> tuple[float, float]:
    """Give mean Cb and Cr over hidden pixels of gray images, of the network before gray is kept."""
    network = load_model(model).network.eval()
    values = []
    for key in keys:
        gray = read(images / key)
        hidden = random_box(gray.shape, FRACTION, key=key, seed=seed)
        image = torch.from_numpy(gray).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            filled = network(image, torch.from_numpy(hidden)[None, None]).image[0].numpy()
        red, green, blue = filled[:, hidden].mean(1)
        light = 0.299 * red + 0.587 * green + 0.114 * blue
        values.append(((blue - light) / 1.772, (red - light) / 1.402))
    cb, cr = np.mean(values, 0)
    return float(cb), float(cr)


def main() -> int:
    """Give the exit code."""
    parser = options(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the boxes' places")
    flags = parser.parse_args()
    work, verdicts = flags.work / "photographs", Verdicts()
    torch.set_num_threads(1)
    count = flags.limit or HOLES

    def place(key: str, image: Pixels) -> Mask:
        return random_box(image.shape, FRACTION, key=key, seed=flags.seed)

    colour = write_copies(colour_photographs(), count, work / "colour")
    masks, blind = fresh(work / "masks"), fresh(work / "blinded")
    write_masks(colour, masks, blind)
    gray = write_copies(
        {name: np.repeat(image[..., None], 3, 2) for name, image in gray_photographs().items()}
        | {f"{name}-one-plane": image for name, image in gray_photographs().items()},
        min(count, 28),
        work / "gray",
    )
    free = Holes(originals=colour, hidden_of=lambda key, _: read(masks / key) > 0)
    boxes = {"redact": f"box:{FRACTION}@random", "seed": flags.seed}
    runs: tuple[tuple[str, Path, Holes, dict[str, object]], ...] = (
        ("box", colour, Holes(originals=colour, hidden_of=place), boxes),
        ("free-form", blind, free, {"masks": masks, "originals": colour}),
        ("gray-box", gray, Holes(originals=gray, hidden_of=place), boxes),
    )
    for title, inputs, holes, how in runs:
        output = fresh(work / title)
        # Small shards, as some of these images are large.
        found = reconstruct(inputs, output, model=flags.model, shard_size=25, **how)
        rows = dict(zip(found, recompute(found, inputs, output, holes.row, verdicts), strict=True))
        verdicts.add(f"{title}: known pixels come back bit for bit", not holes.touched)
        if holes.originals is colour:
            compare(title, holes, rows, verdicts)
    results = {key: read(result_path(output, key)) for key in rows}
    tinted = [key for key, r in results.items() if r.ndim == 3 and np.ptp(r, axis=2).any()]
    verdicts.add(f"no chroma in any of {len(results)} results on gray photographs", not tinted)
    planes = [key for key, result in results.items() if result.ndim == 3]
    cb, cr = raw_chroma(gray, planes, flags.seed, flags.model or shipped("redacto"))
    print(f"mean chroma of the raw network there: Cb {cb:+.5f}, Cr {cr:+.5f} (0-1 scale)")
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
