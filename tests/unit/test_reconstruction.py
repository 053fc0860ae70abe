"""Whole shards on small folders: one row an input, in order, with what the files say."""

import hashlib
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from redaction_core.checkpoints import load_model, shipped
from redaction_core.errors import CheckpointError, Failure, InputError, StorageError
from redaction_core.images import SUFFIXES, Format, decode, encode
from redaction_core.loading import Task
from redaction_core.metrics import measure
from redaction_core.plan import PlannedInput, planned
from redaction_core.reconstruction import (
    MEASURES,
    Outcome,
    Reconstruction,
    open_reconstruction,
)
from redaction_core.redaction import Box, Pixelate, Redaction, parse, redact
from redaction_core.reference import bicubic, surroundings
from redaction_core.schemas import METRICS
from redaction_core.storage import open_store
from tests.unit.networks import noise, restorer

Pixels = npt.NDArray[np.uint8]

FOUR = Pixelate(block=4)
NO_TIMES = {"seconds": None}


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


@pytest.mark.parametrize("text", ["pixelate:4", "pixelate:3:nearest"])
@pytest.mark.parametrize("image_format", ["png", "webp", "jpeg"])
def test_rows_of_pixelated_images_are_what_the_files_say(
    tmp_path: Path, text: str, image_format: Format
) -> None:
    pictures = fill_folder(tmp_path / "in")
    redaction = parse(text)
    assert isinstance(redaction, Pixelate)

    outcome = run(task(tmp_path, redaction=redaction, format=image_format))

    assert [row["key"] for row in outcome.rows] == sorted(pictures, key=str.encode)
    for row in outcome.rows:
        original = pictures[row["key"]]
        written = output(row["key"], SUFFIXES[image_format])
        result = get(tmp_path / "out", written)
        if image_format == "webp" and original.ndim == 2:
            # WebP has no gray.
            assert (result == result[..., :1]).all()
            result = np.ascontiguousarray(result[..., 0])
        seen = redacted(redaction, original, row["key"])
        after, before = measure(result, original), measure(seen, original)
        smooth = as_pixels(bicubic(as_tensor(seen), redaction.block))
        again = redacted(redaction, result, row["key"])
        data = (tmp_path / "out" / "images" / written).read_bytes()
        source = (tmp_path / "in" / row["key"]).read_bytes()
        expected = dict.fromkeys(METRICS.names) | {
            "key": row["key"],
            "status": "ok",
            "network": "enhancer",
            "model_sha256": "0" * 64,
            "input_sha256": hashlib.sha256(source).hexdigest(),
            "output_sha256": hashlib.sha256(data).hexdigest(),
            "width": original.shape[1],
            "height": original.shape[0],
            "block_size": redaction.block,
            "mae": after.mae,
            "mse": after.mse,
            "psnr": after.psnr,
            "ssim": after.ssim,
            "error_p50": after.error_p50,
            "error_p95": after.error_p95,
            "error_p99": after.error_p99,
            "baseline_mae": before.mae,
            "baseline_psnr": before.psnr,
            "bicubic_mae": measure(smooth, original).mae,
            "recovered": 1 - after.mae / before.mae if before.mae else None,
            "consistency_mae": measure(again, seen).mae,
        }
        assert row["seconds"] > 0
        assert row | NO_TIMES == expected


@pytest.mark.parametrize("network", ["redacto", "redacto-baseline"])
def test_rows_of_filled_images_are_what_the_files_say(tmp_path: Path, network: str) -> None:
    pictures = fill_folder(tmp_path / "in")
    box = parse("box:4x3@random")

    outcome = run(task(tmp_path, redaction=box, seed=0), network)

    for row in outcome.rows:
        original = pictures[row["key"]]
        if original.size == 1:
            assert row["failure"] == "mask_full"
            continue
        result = get(tmp_path / "out", output(row["key"]))
        images, hidden = redact(box, as_tensor(original), [row["key"]])
        assert hidden is not None
        mask = hidden[0, 0].numpy()
        after = measure(result, original, mask)
        before = measure(surroundings(as_pixels(images), mask), original, mask)
        assert np.array_equal(result[~mask], original[~mask])
        assert row["hidden_fraction"] == mask.mean()
        assert [row["mae"], row["mse"], row["psnr"], row["ssim"], row["error_p95"]] == [
            *(after.mae, after.mse, after.psnr, after.ssim, after.error_p95)
        ]
        assert row["baseline_mae"] == before.mae
        assert row["baseline_psnr"] == before.psnr
        assert row["recovered"] == 1 - after.mae / before.mae
        assert (row["consistency_mae"], row["block_size"], row["bicubic_mae"]) == (0, None, None)


@pytest.mark.parametrize("text", ["pixelate:4", "box:4x3@center"])
def test_redacting_first_gives_the_same_images_and_errors(tmp_path: Path, text: str) -> None:
    pictures = {key: image for key, image in fill_folder(tmp_path / "in").items() if image.size > 1}
    (tmp_path / "in" / "d.bmp").unlink()
    redaction = parse(text)
    network = "redacto" if isinstance(redaction, Box) else "enhancer"
    at_once = run(task(tmp_path, redaction=redaction), network)
    other = tmp_path / "other"
    for key, image in pictures.items():
        images, hidden = redact(redaction, as_tensor(image), [key])
        put(other / "in", key, as_pixels(images))
        put(other / "clean", key, image)
        if hidden is not None:
            put(other / "masks", key, hidden[0, 0].numpy().astype(np.uint8))
    masks = open_store(str(other / "masks")) if network == "redacto" else None

    first = run(
        task(other, originals=open_store(str(other / "clean")), masks=masks, block_size=4), network
    )

    for one, two in zip(at_once.rows, first.rows, strict=True):
        assert one | NO_TIMES | {"input_sha256": ""} == two | NO_TIMES | {"input_sha256": ""}


def test_every_failure_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put(folder, "a.png", redacted(FOUR, picture(20, 24), ""))
    put(folder, "b.png", picture(20, 24))
    (folder / "c.png").write_bytes(b"")
    (folder / "d.txt").write_bytes(b"text")
    (folder / "e.png").write_bytes((folder / "a.png").read_bytes()[:-40])
    put(folder, "f.bmp", picture(4, 4))
    put(folder, "f.bmp.png", redacted(FOUR, picture(9, 9), ""))
    (folder / "g\n.png").write_bytes(b"")
    put(folder, "h.png", np.full((3, 1), 7, np.uint8))

    outcome = run(task(tmp_path))

    failures = {row["key"]: row["failure"] for row in outcome.rows}
    assert failures == {
        "a.png": None,
        "b.png": "not_pixelated",
        "c.png": "empty_file",
        "d.txt": "not_an_image",
        "e.png": "truncated",
        "f.bmp": "name_collision",
        "f.bmp.png": None,
        "g\\u000a.png": "bad_name",
        "h.png": None,
    }
    assert all(
        row["detail"] and "\n" not in row["detail"] for row in outcome.rows if row["failure"]
    )
    assert [row["key"] for row in outcome.rows] == sorted(failures, key=str.encode)
    assert (outcome.totals.inputs, outcome.totals.failed) == (9, 6)
    written = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert written == ["a.png", "f.bmp.png", "h.png"]


def test_without_originals_only_consistency_is_measured(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", redacted(FOUR, picture(20, 24), ""))

    (row,) = run(task(tmp_path)).rows

    measured = {name for name in MEASURES if row[name] is not None}
    assert measured == {"consistency_mae", "seconds"}
    assert row["block_size"] == 4


def test_batches_and_windows_make_no_difference(tmp_path: Path) -> None:
    for number in range(70):
        shape = (12, 12) if number % 3 else (9, 14, 3)
        put(tmp_path / "in", f"{number:02}.png", picture(*shape, seed=number))
    given = task(tmp_path, redaction=FOUR)
    inputs = list(planned(given.inputs.list(), ".png"))

    whole = Reconstruction(given, restorer("enhancer")).run(inputs)
    alone = Reconstruction(
        task(tmp_path, redaction=FOUR, outputs=open_store(str(tmp_path / "alone"))),
        restorer("enhancer"),
    )
    single = [alone.run([item]).rows[0] for item in inputs]

    assert [row["key"] for row in whole.rows] == [row["key"] for row in single]
    for one, two in zip(whole.rows, single, strict=True):
        assert one["mae"] == pytest.approx(two["mae"], abs=1e-4)
    assert whole.totals.inputs == 70


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


def test_results_of_gray_inputs_are_reported_as_gray(tmp_path: Path) -> None:
    gray = picture(20, 24)
    put(tmp_path / "in", "a.png", gray)
    put(tmp_path / "in", "b.png", np.dstack([gray] * 3))
    put(tmp_path / "in", "c.png", picture(20, 24, 3))

    outcome = run(task(tmp_path, redaction=Box(width=5, height=5)), "redacto")

    assert outcome.totals.sums["gray_cb"] == (0.0, 2)
    assert outcome.totals.sums["gray_cr"] == (0.0, 2)


def test_a_tint_shows(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", np.dstack([picture(8, 8)] * 3))
    tinted = np.zeros((8, 8, 3), np.uint8)
    tinted[..., 2] = 255
    put(tmp_path / "out" / "images", "a.png", tinted)

    outcome = run(task(tmp_path, redaction=FOUR))

    assert outcome.totals.means()["gray_cb"] == pytest.approx(0.5)


def test_totals_are_those_of_the_rows(tmp_path: Path) -> None:
    fill_folder(tmp_path / "in")

    outcome = run(task(tmp_path, redaction=FOUR))

    for name in MEASURES:
        values = [row[name] for row in outcome.rows if row[name] is not None]
        assert outcome.totals.means()[name] == pytest.approx(sum(values) / len(values))


def test_notes_on_the_input_are_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    frames = [Image.fromarray(picture(8, 8, seed=seed)) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "in" / "a.gif").write_bytes(buffer.getvalue())

    (row,) = run(task(tmp_path, redaction=FOUR)).rows

    assert row["status"] == "ok"
    assert row["detail"].startswith("first of 3 frames")


def test_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()

    outcome = run(task(tmp_path, redaction=FOUR))

    assert outcome.rows == []
    assert outcome.totals.inputs == 0


def test_broken_storage_ends_the_shard(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path / "in", f"{number}.png", picture(8, 8))
    (tmp_path / "out").mkdir()
    # A file where the folder of the images should be.
    (tmp_path / "out" / "images").write_bytes(b"")

    with pytest.raises(StorageError):
        run(task(tmp_path, redaction=FOUR))


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
