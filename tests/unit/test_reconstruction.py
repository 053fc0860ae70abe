"""Whole shards on small folders: one row an input, in order, with what the files say."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redaction_core.images import SUFFIXES, Format
from redaction_core.measuring import CONSISTENT
from redaction_core.metrics import measure
from redaction_core.plan import planned
from redaction_core.reconstruction import MEASURES, Reconstruction
from redaction_core.redaction import Blur, Box, Hiding, Pixelate, parse, redact
from redaction_core.reference import bicubic, surroundings
from redaction_core.schemas import METRICS
from redaction_core.storage import open_store
from tests.unit.networks import restorer
from tests.unit.shards import (
    as_pixels,
    as_tensor,
    fill_folder,
    get,
    output,
    picture,
    put,
    redacted,
    run,
    task,
)

FOUR = Pixelate(block=4)
NO_TIMES = {"seconds": None}


@pytest.mark.parametrize("text", ["pixelate:4", "pixelate:3:nearest", "blur:1.5"])
@pytest.mark.parametrize("image_format", ["png", "webp", "jpeg"])
def test_rows_of_enhanced_images_are_what_the_files_say(
    tmp_path: Path, text: str, image_format: Format
) -> None:
    pictures = fill_folder(tmp_path / "in")
    redaction = parse(text)
    block = redaction.block if isinstance(redaction, Pixelate) else None

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
        smooth = None if block is None else measure(bicubic(seen, block), original).mae
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
            "block_size": block,
            "mae": after.mae,
            "mse": after.mse,
            "psnr": after.psnr,
            "ssim": after.ssim,
            "error_p50": after.error_p50,
            "error_p95": after.error_p95,
            "error_p99": after.error_p99,
            "baseline_mae": before.mae,
            "baseline_psnr": before.psnr,
            "bicubic_mae": smooth,
            "recovered": 1 - after.mae / before.mae if before.mae else None,
            "consistency_mae": (consistency := measure(again, seen).mae),
            "consistent": consistency <= CONSISTENT,
            "detail": None
            if consistency <= CONSISTENT
            else "the result does not explain its input",
        }
        assert row["seconds"] > 0
        assert row | NO_TIMES == expected


@pytest.mark.parametrize("network", ["redacto", "redacto-baseline"])
@pytest.mark.parametrize("text", ["box:4x3@random", "freeform:0.2@random", "pixels:0.3@random"])
def test_rows_of_filled_images_are_what_the_files_say(
    tmp_path: Path, network: str, text: str
) -> None:
    pictures = fill_folder(tmp_path / "in")
    box = parse(text)

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


@pytest.mark.parametrize(
    "text", ["pixelate:4", "blur:1.5", "box:4x3@center", "freeform:0.2@random", "pixels:0.3@random"]
)
def test_redacting_first_gives_the_same_images_and_errors(tmp_path: Path, text: str) -> None:
    pictures = {key: image for key, image in fill_folder(tmp_path / "in").items() if image.size > 1}
    (tmp_path / "in" / "d.bmp").unlink()
    redaction = parse(text)
    network = "redacto" if isinstance(redaction, Hiding) else "enhancer"
    how = {"blur_sigma": redaction.sigma} if isinstance(redaction, Blur) else {"block_size": 4}
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
        task(other, originals=open_store(str(other / "clean")), masks=masks, **how), network
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


def test_of_blur_alone_consistency_is_measured_too(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", redacted(Blur(sigma=2), picture(20, 24), ""))

    (row,) = run(task(tmp_path, blur_sigma=2)).rows

    measured = {name for name in MEASURES if row[name] is not None}
    assert measured == {"consistency_mae", "seconds"}
    assert (row["status"], row["block_size"], row["hidden_fraction"]) == ("ok", None, None)


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


def test_results_of_gray_inputs_are_reported_as_gray(tmp_path: Path) -> None:
    gray = picture(20, 24)
    put(tmp_path / "in", "a.png", gray)
    put(tmp_path / "in", "b.png", np.dstack([gray] * 3))
    put(tmp_path / "in", "c.png", picture(20, 24, 3))

    outcome = run(task(tmp_path, redaction=Box(width=5, height=5)), "redacto")

    assert outcome.totals.sums["gray_cb"] == (0.0, 2)
    assert outcome.totals.sums["gray_cr"] == (0.0, 2)


def test_totals_are_those_of_the_rows(tmp_path: Path) -> None:
    fill_folder(tmp_path / "in")

    outcome = run(task(tmp_path, redaction=FOUR))

    for name in MEASURES:
        values = [row[name] for row in outcome.rows if row[name] is not None]
        mean = pytest.approx(sum(values) / len(values)) if values else None
        assert outcome.totals.means().get(name) == mean


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
