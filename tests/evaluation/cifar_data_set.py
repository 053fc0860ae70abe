"""CIFAR-10 from a zip file of JPEGs as a data set: every image, its label, its split, its pixels.

    python -m tests.evaluation.cifar_data_set cifar10.zip --work DIR

Runs the real command, and compares what it wrote with what Pillow decodes. The zip file has members
such as cifar10/train/airplane/0001.jpg. Exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.evaluation.independent import Pixels, Verdicts, fresh

ROOT = Path(__file__).resolve().parents[2]
IMAGES, TEST_IMAGES, CLASSES, SIDE = 60_000, 10_000, 10, 32
VAL_FRACTION, MARGIN = 0.0333, 0.005


def ingest(archive: Path, output: Path) -> dict[str, Any]:
    """Run the real command in a process of its own; give its closing line."""
    flags = ("--images", archive, "--output", output, "--size", SIDE, "--color", "rgb")
    command = [sys.executable, "-m", "jobs.ingest", *map(str, flags)]
    print("$ python", *command[1:], flush=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
    closing: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(closing), flush=True)
    return closing


def rows(output: Path) -> Iterator[dict[str, Any]]:
    """Give all rows, a part at a time."""
    for part in sorted((output / "images").glob("*.parquet")):
        yield from pq.read_table(part).to_pylist()


def decoded(data: bytes) -> Pixels:
    """Decode with Pillow alone."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def main() -> int:
    """Give the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="path of cifar10.zip")
    parser.add_argument("--work", type=Path, required=True, help="the output goes below it")
    flags = parser.parse_args()
    output, verdicts = fresh(flags.work / "cifar-data-set"), Verdicts()
    closing = ingest(flags.archive.resolve(), output)
    names: set[str] = set()
    labels: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    contents: dict[bytes, set[str]] = {}
    with zipfile.ZipFile(flags.archive) as archive:
        members = {name for name in archive.namelist() if name.endswith(".jpg")}
        for row in rows(output):
            name, found = row["url"], decoded(row["image"]["bytes"])
            *_, part, label, _ = name.split("/")
            names.add(name)
            labels[row["label"]] += 1
            splits[row["split"]] += 1
            wrong["label"] += row["label"] != label
            # A copy of a test image moves there from train, and nothing moves out.
            moved = row["split"] == "test" and part == "train"
            splits["moved"] += moved
            wrong["split"] += part == "test" and row["split"] != "test"
            wrong["pixels"] += not np.array_equal(found, decoded(archive.read(name)))
            contents.setdefault(hashlib.sha256(found.tobytes()).digest(), set()).add(row["split"])
    leaks = sum(len(each) > 1 for each in contents.values())
    copies = len(names) - len(contents)
    share = splits["val"] / (splits["val"] + splits["train"])
    ok = closing["inputs"] == closing["ok"] == len(names) == IMAGES and names == members
    verdicts.add(f"{len(names)} images of {IMAGES}, each member once", ok)
    verdicts.add(
        f"{len(labels)} labels, {wrong['label']} not those of the folders", _even(labels, wrong)
    )
    verdicts.add(
        f"{splits['test'] - splits['moved']} of {TEST_IMAGES} test images are in test, and "
        f"{splits['moved']} copies of them from train",
        splits["test"] - splits["moved"] == TEST_IMAGES and not wrong["split"],
    )
    verdicts.add(f"{share:.4f} of the others are in val", abs(share - VAL_FRACTION) < MARGIN)
    verdicts.add(f"{wrong['pixels']} images differ from Pillow's decoding", not wrong["pixels"])
    verdicts.add(f"{leaks} contents are in two splits", not leaks)
    verdicts.add(
        f"{copies} copies, {closing['duplicates']} marked", copies == closing["duplicates"]
    )
    return int(verdicts.missed)


def _even(labels: Counter[str], wrong: Counter[str]) -> bool:
    """Say whether every class has as many images, and every image its own class."""
    return (
        len(labels) == CLASSES
        and set(labels.values()) == {IMAGES // CLASSES}
        and not wrong["label"]
    )


if __name__ == "__main__":
    sys.exit(main())
