"""From a planned input to pixels and what belongs to them, or to one class of failure."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from redaction_core.errors import Failure, InputError
from redaction_core.gate import Gate
from redaction_core.loading import Task, Work, check_hidden, load
from redaction_core.plan import PlannedInput, planned
from redaction_core.redaction import Blur, Box, Freeform, Pixelate, Scattered
from redaction_core.schemas import METRICS
from redaction_core.storage import open_store

Pixels = npt.NDArray[np.uint8]

BLOCKS = np.arange(16, dtype=np.uint8).reshape(4, 4).repeat(4, 0).repeat(4, 1)
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.dstack([RAMP, RAMP[::-1], RAMP.T])
MASK = np.pad(np.full((4, 4), 255, np.uint8), 6)


def task(folder: Path, **changes: object) -> Task:
    given = {"inputs": open_store(str(folder / "in")), "outputs": open_store(str(folder / "out"))}
    return Task(**(given | changes))  # type: ignore[arg-type]  # the tests' own values


def put(folder: Path, key: str, pixels: Pixels) -> None:
    (folder / key).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / key)


def load_one(given: Task, **changes: object) -> Work:
    (item,) = planned(given.inputs.list(), ".png")
    return load(given, replace(item, **changes), Gate(10**9), 0)  # type: ignore[arg-type]  # the same


def failure(work: Work) -> Failure | None:
    return work.error.failure if work.error else None


@pytest.mark.parametrize(
    ("block_size", "nearest", "expected"),
    [
        (None, False, Pixelate(block=4)),
        (None, True, Pixelate(block=4, nearest=True)),
        (8, False, Pixelate(block=8)),
    ],
)
def test_blocks_are_found_or_given(
    tmp_path: Path, block_size: int | None, expected: Pixelate, *, nearest: bool
) -> None:
    put(tmp_path / "in", "x/a.png", BLOCKS)

    work = load_one(task(tmp_path, block_size=block_size, nearest=nearest))

    assert work.error is None
    assert work.how == expected
    assert np.array_equal(work.pixels, BLOCKS)
    assert work.original is work.hidden is None
    assert (work.row["width"], work.row["height"]) == (16, 16)
    assert len(work.row["input_sha256"]) == 64
    assert work.cost == 3 * 16 * 16


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (1, 5, 3)])
def test_images_one_pixel_wide(tmp_path: Path, shape: tuple[int, ...]) -> None:
    put(tmp_path / "in", "a.png", np.full(shape, 3, np.uint8))

    assert load_one(task(tmp_path)).how == Pixelate(block=4)


def test_redactions_are_left_to_the_batch(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", RAMP)

    pixelate = load_one(task(tmp_path, redaction=Pixelate(block=8)))
    blur = load_one(task(tmp_path, redaction=Blur(sigma=2)))

    assert pixelate.how == Pixelate(block=8)
    assert blur.how == Blur(sigma=2)
    assert np.array_equal(pixelate.pixels, RAMP)
    assert np.array_equal(blur.pixels, RAMP)
    for hiding in (Box(width=2, height=2), Freeform(fraction=0.2), Scattered(fraction=0.2)):
        work = load_one(task(tmp_path, redaction=hiding))
        assert (work.how, work.hidden, work.error) == (None, None, None)


def test_no_blocks_are_looked_for_in_blurred_inputs(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", RAMP)
    put(tmp_path / "originals", "a.png", RAMP.T.copy())

    work = load_one(
        task(tmp_path, blur_sigma=1.5, originals=open_store(str(tmp_path / "originals")))
    )

    assert work.error is None
    assert work.how == Blur(sigma=1.5)
    assert work.original is not None
    assert np.array_equal(work.pixels, RAMP)


def test_the_blur_of_a_task(tmp_path: Path) -> None:
    assert task(tmp_path).blur is None
    assert task(tmp_path, redaction=Pixelate(block=4)).blur is None
    assert task(tmp_path, redaction=Blur(sigma=3)).blur == Blur(sigma=3)
    assert task(tmp_path, blur_sigma=0.5).blur == Blur(sigma=0.5)


def test_failures_of_the_plan_are_passed_on(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", BLOCKS)

    work = load_one(task(tmp_path), failure=Failure.NAME_COLLISION, detail="why")

    assert failure(work) == Failure.NAME_COLLISION
    assert work.error is not None
    assert work.error.detail == "why"
    assert work.cost == 0


@pytest.mark.parametrize(
    ("content", "changes", "expected"),
    [
        (b"", {}, Failure.EMPTY_FILE),
        (b"no image", {}, Failure.NOT_AN_IMAGE),
        (b"no image", {"max_bytes": 3}, Failure.TOO_MANY_BYTES),
        (BLOCKS, {"max_pixels": 255}, Failure.TOO_MANY_PIXELS),
        (RAMP, {}, Failure.NOT_PIXELATED),
        (
            np.zeros((17, 40), np.uint8) + (np.arange(40) >= 17).astype(np.uint8),
            {},
            Failure.UNSUPPORTED,
        ),
    ],
)
def test_what_is_wrong_with_the_input(
    tmp_path: Path, content: bytes | Pixels, changes: dict[str, int], expected: Failure
) -> None:
    put(tmp_path / "in", "a.png", BLOCKS)
    if isinstance(content, bytes):
        (tmp_path / "in" / "a.png").write_bytes(content)
    else:
        put(tmp_path / "in", "a.png", content)

    assert failure(load_one(task(tmp_path, **changes))) == expected


def test_inputs_that_changed_since_the_plan(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", BLOCKS)

    assert failure(load_one(task(tmp_path), version="1")) == Failure.INPUT_CHANGED
    assert failure(load_one(task(tmp_path), key="b.png")) == Failure.NOT_FOUND


@pytest.mark.parametrize(
    ("pixels", "original", "expected", "note"),
    [
        (BLOCKS, RAMP, RAMP, None),
        (np.dstack([BLOCKS] * 3), COLOUR, COLOUR, None),
        (np.dstack([BLOCKS] * 3), RAMP, np.dstack([RAMP] * 3), None),
        (BLOCKS, np.dstack([RAMP] * 3), RAMP, "colour original compared in gray"),
    ],
)
def test_originals_are_brought_to_the_channels_of_the_input(
    tmp_path: Path, pixels: Pixels, original: Pixels, expected: Pixels, note: str | None
) -> None:
    put(tmp_path / "in", "x/a.png", pixels)
    put(tmp_path / "originals", "x/a.bmp", original)

    work = load_one(task(tmp_path, originals=open_store(str(tmp_path / "originals"))))

    assert work.error is None
    assert work.original is not None
    assert np.array_equal(work.original, expected)
    assert work.notes == ([note] if note else [])


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (None, Failure.ORIGINAL_MISSING),
        (b"no image", Failure.ORIGINAL_UNREADABLE),
        (RAMP[:8], Failure.ORIGINAL_SIZE),
    ],
)
def test_what_is_wrong_with_the_original(
    tmp_path: Path, original: bytes | Pixels | None, expected: Failure
) -> None:
    put(tmp_path / "in", "a.png", BLOCKS)
    put(tmp_path / "originals", "b.png", RAMP)
    if isinstance(original, bytes):
        (tmp_path / "originals" / "a.png").write_bytes(original)
    elif original is not None:
        put(tmp_path / "originals", "a.png", original)

    work = load_one(task(tmp_path, originals=open_store(str(tmp_path / "originals"))))

    assert failure(work) == expected


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (MASK, None),
        (None, Failure.MASK_MISSING),
        (b"no image", Failure.MASK_UNREADABLE),
        (MASK[:, :8], Failure.MASK_SIZE),
        (MASK * 0, Failure.MASK_EMPTY),
        (MASK * 0 + 1, Failure.MASK_FULL),
    ],
)
def test_masks(tmp_path: Path, mask: bytes | Pixels | None, expected: Failure | None) -> None:
    put(tmp_path / "in", "a.png", RAMP)
    put(tmp_path / "masks", "b.png", MASK)
    if isinstance(mask, bytes):
        (tmp_path / "masks" / "a.png").write_bytes(mask)
    elif mask is not None:
        put(tmp_path / "masks", "a.png", mask)

    work = load_one(task(tmp_path, masks=open_store(str(tmp_path / "masks"))))

    assert failure(work) == expected
    if expected is None:
        assert work.hidden is not None
        assert np.array_equal(work.hidden, MASK > 0)


def test_a_failed_row_says_what_was_known(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", RAMP)
    work = load_one(task(tmp_path))
    assert work.error is not None

    row = work.failed(work.error)

    assert list(row) == METRICS.names
    known = {name for name, value in row.items() if value is not None}
    assert known == {
        "key",
        "status",
        "failure",
        "detail",
        "input_sha256",
        "width",
        "height",
        "seconds",
    }
    assert (row["key"], row["status"], row["failure"]) == ("a.png", "failed", "not_pixelated")
    assert type(row["failure"]) is str


@pytest.mark.parametrize("key", ["a.png", "b.png"])
def test_whatever_happens_the_next_one_may_enter(tmp_path: Path, key: str) -> None:
    put(tmp_path / "in", "a.png", BLOCKS)
    gate = Gate(10**9)
    item = PlannedInput(key=key, size=1, version="")

    load(task(tmp_path), item, gate, 0)

    entered = threading.Event()
    following = threading.Thread(target=lambda: (gate.enter(1, 5), entered.set()), daemon=True)
    following.start()
    assert entered.wait(60)


def test_masks_that_hide_a_part_pass() -> None:
    check_hidden(MASK > 0)
    for everything, expected in ((False, Failure.MASK_EMPTY), (True, Failure.MASK_FULL)):
        with pytest.raises(InputError) as caught:
            check_hidden(np.full((3, 4), everything))
        assert caught.value.failure == expected
