"""What a shard finds in its output, and what ends it or one of its images."""

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from redaction_core.checkpoints import load_model, shipped
from redaction_core.errors import CheckpointError, Failure, InputError, StorageError
from redaction_core.images import SUFFIXES, Format, decode, encode
from redaction_core.metrics import measure
from redaction_core.plan import PlannedInput
from redaction_core.reconstruction import Reconstruction, open_reconstruction
from redaction_core.redaction import Pixelate
from redaction_core.schemas import METRICS
from tests.unit.networks import restorer
from tests.unit.shards import (
    SHAPES,
    fill_folder,
    picture,
    put,
    run,
    task,
)

FOUR = Pixelate(block=4)
NO_TIMES = {"seconds": None}


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_running_again_adopts_what_is_there(tmp_path: Path, image_format: str) -> None:
    fill_folder(tmp_path / "in")
    given = task(tmp_path, redaction=FOUR, format=image_format)

    first = run(given)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    second = run(given)

    assert [row | NO_TIMES for row in first.rows] == [row | NO_TIMES for row in second.rows]
    assert len(times) == len(SHAPES)
    assert times == {path: path.stat().st_mtime_ns for path in times}


@pytest.mark.parametrize("image_format", SUFFIXES)
def test_an_image_of_other_bytes_is_kept_and_measured_as_it_is(
    tmp_path: Path, image_format: Format
) -> None:
    original = picture(20, 24)
    put(tmp_path / "in", "a.bmp", original)
    name = "a.bmp" + SUFFIXES[image_format]
    there = encode(picture(20, 24, seed=8), image_format)
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / name).write_bytes(there)

    (row,) = run(task(tmp_path, redaction=FOUR, format=image_format)).rows

    assert (tmp_path / "out" / "images" / name).read_bytes() == there
    assert row["output_sha256"] == hashlib.sha256(there).hexdigest()
    kept = decode(there).pixels
    kept = kept if kept.ndim == 2 else np.ascontiguousarray(kept[..., 0])
    assert row["mae"] == measure(kept, original).mae
    assert row["status"] == "ok"


def png(*shape: int) -> bytes:
    return encode(picture(*shape), "png")


@pytest.mark.parametrize(
    "there",
    [b"no image", b"", png(20, 25), png(20, 24, 3), png(20, 24)[:-30], None],
    ids=["text", "empty", "another size", "colour", "truncated", "folder"],
)
def test_an_output_that_cannot_be_ours_is_left_alone(tmp_path: Path, there: bytes | None) -> None:
    put(tmp_path / "in", "a.png", picture(20, 24))
    put(tmp_path / "in", "b.png", picture(20, 24))
    place = tmp_path / "out" / "images" / "a.png"
    place.parent.mkdir(parents=True)
    if there is None:
        place.mkdir()
    else:
        place.write_bytes(there)

    rows = run(task(tmp_path, redaction=FOUR)).rows

    assert [row["failure"] for row in rows] == ["output_conflict", None]
    assert rows[0]["output_sha256"] is None
    assert place.is_dir() if there is None else place.read_bytes() == there


def test_a_tint_shows(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", np.dstack([picture(8, 8)] * 3))
    tinted = np.zeros((8, 8, 3), np.uint8)
    tinted[..., 2] = 255
    put(tmp_path / "out" / "images", "a.png", tinted)

    outcome = run(task(tmp_path, redaction=FOUR))

    assert outcome.totals.means()["gray_cb"] == pytest.approx(0.5)


def test_broken_storage_ends_the_shard(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path / "in", f"{number}.png", picture(8, 8))
    (tmp_path / "out").mkdir()
    # A file where the folder of the images should be.
    (tmp_path / "out" / "images").write_bytes(b"")

    with pytest.raises(StorageError):
        run(task(tmp_path, redaction=FOUR))


def test_memory_that_is_refused_to_one_image_fails_it_alone(starved: dict[str, Any]) -> None:
    assert starved["rows"] == ["None: None", "out_of_memory: no memory to redact it"]


def test_an_input_that_could_not_be_tried_is_a_row(tmp_path: Path) -> None:
    work = Reconstruction(task(tmp_path), restorer("enhancer"))
    item = PlannedInput(key="a.png", size=1, version="1", output="a.png")

    outcome = work.failure(item, InputError(Failure.WORKER_CRASH, "it died"))

    (row,) = outcome.rows
    assert list(row) == METRICS.names
    assert (row["key"], row["failure"], row["network"]) == ("a.png", "worker_crash", "enhancer")
    assert (outcome.totals.inputs, outcome.totals.failed) == (1, 1)


@pytest.mark.parametrize("network", ["enhancer", "redacto"])
def test_the_network_can_be_timed(tmp_path: Path, network: str) -> None:
    assert Reconstruction(task(tmp_path), restorer(network)).seconds_of_one() > 0


@pytest.mark.parametrize("by_location", [False, True])
def test_a_worker_opens_the_model(tmp_path: Path, *, by_location: bool) -> None:
    given = task(
        tmp_path,
        network="redacto-baseline",
        model=shipped("redacto-baseline") if by_location else None,
    )
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        work = open_reconstruction(gpu=False, task=given, precision="bfloat16", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])

    assert work.restorer.precision == torch.bfloat16
    assert work.restorer.fills_holes
    assert work.restorer.model.sha256 == load_model(shipped("redacto-baseline")).sha256


def test_a_worker_refuses_a_model_of_another_network(tmp_path: Path) -> None:
    given = task(tmp_path, network="redacto", model=shipped("enhancer"))

    with pytest.raises(CheckpointError, match="holds enhancer, not redacto"):
        open_reconstruction(gpu=False, task=given, precision="auto", threads=1)
