"""Calibrate the scales of a model on whole images, and write the factors into its config.

    python -m tests.evaluation.calibration --sets DIR --model DIR

A training calibrates on the crops of its validation, in which less is seen around a pixel than in
whole images. The weights that ship are calibrated on whole ones, of the validation split of what
`tests.evaluation.development_sets` wrote: faces at three sizes, and CIFAR-10. `intervals` measures,
on other people and CIFAR-10's test images, whether the intervals hold what they say.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from redaction_core.redaction import parse
from redaction_core.uncertainty import Ratios, calibrate
from tests.evaluation.independent import Pixels
from tests.evaluation.intervals import FACE_HOLES, FACES, HOLES, off, restorer_for

SIDES = (224, 160, 112)


def validation(sets: Path, name: str, *, color: str) -> list[Image.Image]:
    """Read the validation split of a data set."""
    table = ds.dataset(sets / name / "images", format="parquet").to_table(
        columns=["image"], filter=ds.field("split") == "val"
    )
    images = table.column("image").to_pylist()
    return [Image.open(io.BytesIO(each["bytes"])).convert(color) for each in images]


def main() -> int:
    """Give the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="its config is written anew")
    flags = parser.parse_args()
    place: Path = flags.model / "config.json"
    config = json.loads(place.read_text())
    faces = validation(flags.sets, "faces", color="L")
    shrunk: dict[int, list[Pixels]] = {
        side: [np.asarray(face.resize((side, side), Image.Resampling.BICUBIC)) for face in faces]
        for side in SIDES
    }
    if config["network"] == "enhancer":
        todo = [(text, images) for text in FACES for images in shrunk.values()]
    else:
        small = [np.asarray(each) for each in validation(flags.sets, "cifar", color="RGB")]
        todo = [(text, images) for text in FACE_HOLES for images in shrunk.values()]
        todo += [(text, small) for text in HOLES]
    counts: dict[str, Ratios] = {}
    for text, images in todo:
        how = parse(text)
        for errors, scales in off(images, how, restorer_for(how, str(flags.model))):
            counts.setdefault(text, Ratios()).add(errors, scales)
        print(text, len(images), flush=True)
    calibration = calibrate(counts)
    assert calibration is not None
    config["calibration"] = calibration.as_json()
    place.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
