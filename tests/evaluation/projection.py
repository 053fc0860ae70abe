"""Does it pay to put back what the input fixes? Published network, with and without projection.

    python -m tests.evaluation.projection --data DIR --model DIR

`enhancer` projects its estimate onto what explains the input by itself; `enhancer-baseline`, as
published, does not, and `jobs.reconstruct --project` does it for it. 1,000 held-back faces at
112x112, in the redaction that the model in --model was trained for: mean squared error of each
image, before and after. Exits with 1 where one gets worse by more than rounding to 8 bits
may make it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from redaction_core.checkpoints import load_model
from redaction_core.inference import planes_of
from redaction_core.models.starts import explain
from redaction_core.redaction import Pixelate, parse, redact
from tests.evaluation.independent import Verdicts
from tests.evaluation.research_data import held_out_faces, some

FACES, SIDE, AT_ONCE = 1000, 112, 20
ROUNDING = (0.5 / 255) ** 2
"""Mean squared error that rounding of blocks and of results may add."""


def main() -> int:
    """Give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the research data")
    parser.add_argument("--model", required=True, help="model directory of enhancer-baseline")
    parser.add_argument("--redact", default="pixelate:4", help="what the model undoes")
    parser.add_argument("--limit", type=int, default=FACES, help="faces")
    flags = parser.parse_args()
    network = load_model(flags.model, expected="enhancer-baseline").network
    how = parse(flags.redact)
    assert isinstance(how, Pixelate), "projection is for blocks"
    size = (SIDE, SIDE)
    faces = [
        np.asarray(face.resize(size, Image.Resampling.BICUBIC))
        for _, face in some(held_out_faces(flags.data), flags.limit)
    ]
    before, after = [], []
    absolute = {"as it is": 0.0, "projected": 0.0}
    for start in range(0, len(faces), AT_ONCE):
        clean = torch.stack([planes_of(face) for face in faces[start : start + AT_ONCE]])
        seen = redact(how, clean, [""] * len(clean)).images_u8.float() / 255
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            estimate = network(seen, how).image.float()
        for name, image, errors in (
            ("as it is", estimate, before),
            ("projected", explain(estimate, seen, how), after),
        ):
            off = (image * 255).round().clamp(0, 255) / 255 - clean / 255
            errors.extend(off.square().flatten(1).mean(1).tolist())
            absolute[name] += float(off.abs().flatten(1).mean(1).sum())
    verdicts = Verdicts()
    one, other = np.array(before), np.array(after)
    for name, total in absolute.items():
        print(f"{name}: MAE {total / len(faces):.5f}")
    text = f"MSE {other.mean():.6f} projected, {one.mean():.6f} as it is"
    verdicts.add(text, bool(other.mean() < one.mean()))
    worse = int((other > one + ROUNDING).sum())
    better = int((other < one).sum())
    text = f"{worse} of {len(faces)} images worse by more than rounding, {better} better"
    verdicts.add(text, worse == 0)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
