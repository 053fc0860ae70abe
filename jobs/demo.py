"""Bring back photographs from bucket to bucket on this machine, and make a picture of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs._command import run_command, say
from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from redaction_core.images import Pixels

    Photographs = dict[str, Pixels]

FOLDER = Path("demo-output")
PLACES = {
    "astronaut": (60, 165),
    "camera": (70, 170),
    "chelsea": (65, 110),
    "coffee": (70, 250),
    "coins": (20, 20),
    "rocket": (210, 260),
}
"""Photographs that come inside the package of scikit-image: row and column of what is shown."""
BUCKET = "s3://demo"
CROP = 120
"""Pixels a side of what is shown of each photograph."""
ESTIMATE = "What is restored is an estimate made by a network, not what was really there."


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Redact photographs, bring them back from bucket to bucket, and show both in a picture.

    An S3 server runs on this machine meanwhile. What comes out lies in ./demo-output.
    """


def demo(_config: Demo) -> int:
    """Run the demo; gives 0, or the exit code of the first job that failed."""
    from redaction_core.embedded_s3 import EmbeddedS3

    # However the demo is ended, the server ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="redaction-demo-") as folder:
        say("starting an S3 server (SeaweedFS) on this machine")
        with EmbeddedS3(Path(folder), [BUCKET.removeprefix("s3://")]) as server:
            # What leads to other buckets or to another cluster must not count here.
            for name in [name for name in os.environ if name.startswith(("AWS_", "RAY_ADDRESS"))]:
                del os.environ[name]
            os.environ.update(server.environment)
            return _bucket_to_bucket()


def _bucket_to_bucket() -> int:
    import numpy as np

    from redaction_core.images import encode

    originals = _photographs()
    masks = {name: _scratches(pixels, PLACES[name]) for name, pixels in originals.items()}
    pixelated = {name: _pixelated(pixels) for name, pixels in originals.items()}
    scratched = {name: _hidden(pixels, masks[name]) for name, pixels in originals.items()}
    say(f"writing {len(originals)} photographs to {BUCKET}, clean and redacted")
    _upload("originals", originals)
    _upload("masks", masks)
    _upload("pixelated", pixelated)
    _upload("scratched", scratched)
    sheets = []
    for prefix, redacted, flags in (
        ("pixelated", pixelated, ()),
        ("scratched", scratched, ("--masks", f"{BUCKET}/masks")),
    ):
        if code := _reconstruct(prefix, *flags):
            return code
        rows = _fetch(prefix)
        _print_table(prefix, rows)
        sheets.append(_sheet(prefix, rows, redacted, originals))
    picture = FOLDER / "comparison.png"
    picture.write_bytes(encode(np.hstack(sheets), "png"))
    print(f"\n{ESTIMATE}\n\nOpen {picture.resolve()} to compare by eye.")
    print(f"Images, errors and summaries of both runs: {FOLDER.resolve()}")
    return 0


def _photographs() -> Photographs:
    try:
        import skimage.data
    except ImportError as error:
        raise UsageError("the demo needs its extra: pip install -e '.[demo]'") from error
    return {name: getattr(skimage.data, name)() for name in PLACES}


def _pixelated(pixels: Pixels) -> Pixels:
    import numpy as np
    import torch

    from redaction_core.redaction import Pixelate, redact

    planes = torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)[None]
    blocks = redact(Pixelate(block=4), planes, [""]).images_u8[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(blocks).reshape(pixels.shape)


def _scratches(pixels: Pixels, place: tuple[int, int]) -> Pixels:
    """Draw a mask, HxW, 255 where a pixel is hidden: the same strokes over and over."""
    import cv2
    import numpy as np

    strokes = np.zeros((CROP + 40, CROP + 40), np.uint8)
    cv2.polylines(strokes, [np.array([(15, 95), (50, 30), (75, 80), (105, 20)])], False, 255, 6)  # noqa: FBT003 - OpenCV's
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height) - place[0], np.arange(width) - place[1]
    return np.asarray(strokes[np.ix_(rows % len(strokes), columns % len(strokes))])


def _hidden(pixels: Pixels, mask: Pixels) -> Pixels:
    from redaction_core.redaction import HIDDEN_U8

    redacted = pixels.copy()
    redacted[mask > 0] = HIDDEN_U8
    return redacted


def _upload(prefix: str, images: Photographs) -> None:
    from redaction_core.images import encode
    from redaction_core.storage import open_store

    store = open_store(f"{BUCKET}/{prefix}")
    for name, pixels in images.items():
        store.put(f"{name}.png", encode(pixels, "png"))


def _reconstruct(prefix: str, *flags: str) -> int:
    places = ("--input", f"{BUCKET}/{prefix}", "--output", f"{BUCKET}/restored-{prefix}")
    command = ["-m", "jobs.reconstruct", *places, "--originals", f"{BUCKET}/originals", *flags]
    say("\n$ " + " ".join(["python", *command]))
    # Two shards, so that two workers have something to do.
    command += ["--shard-size", str(len(PLACES) // 2)]
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *command], stdout=subprocess.DEVNULL, check=False
    ).returncode


def _fetch(prefix: str) -> list[dict[str, Any]]:
    """Copy a run's output here in place of an earlier copy; gives its metrics."""
    import pyarrow.parquet as pq

    from redaction_core.commits import remove_run
    from redaction_core.storage import open_store

    folder = FOLDER / f"restored-{prefix}"
    here, there = open_store(str(folder)), open_store(f"{BUCKET}/{folder.name}")
    remove_run(here)
    for entry in there.list():
        here.put(entry.key, there.read(entry.key).data)
    rows: list[dict[str, Any]] = pq.read_table(folder / "metrics").to_pylist()
    return rows


def _print_table(prefix: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{prefix:16} {'recovered':>9} {'error':>8} {'without a network':>18}")
    for row in rows:
        plain = row["bicubic_mae"] or row["baseline_mae"]
        print(f"{row['key']:16} {row['recovered']:9.0%} {row['mae']:8.4f} {plain:18.4f}")


def _sheet(
    prefix: str, rows: list[dict[str, Any]], redacted: Photographs, originals: Photographs
) -> Pixels:
    from redaction_core.contact_sheet import Row, contact_sheet
    from redaction_core.images import decode

    shown = []
    for row in rows:
        name = row["key"].removesuffix(".png")
        restored = decode((FOLDER / f"restored-{prefix}/images" / row["key"]).read_bytes()).pixels
        top, left = PLACES[name]
        crop = slice(top, top + CROP), slice(left, left + CROP)
        panels = (redacted[name][crop], restored[crop], originals[name][crop])
        note = f"recovered {row['recovered']:.0%}, error {row['mae']:.4f}"
        shown.append(Row(title=name, note=note, panels=panels))
    columns = (prefix, "restored (an estimate)", "original")
    return contact_sheet(f"Photographs, {prefix}", columns, shown, ESTIMATE)


if __name__ == "__main__":
    run_command(Demo, demo)
