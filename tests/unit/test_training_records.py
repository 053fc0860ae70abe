"""What a training leaves for people: history, curves, sheets, event files."""

import itertools
import json
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from redaction_core.errors import UsageError
from redaction_core.images import decode
from redaction_core.storage import Store, open_store
from redaction_core.training.curves import curves_png
from redaction_core.training.history import Epoch, History, judged_by
from redaction_core.training.recipe import Recipe, Source
from redaction_core.training.records import Records
from redaction_core.training.sheets import Restored, samples_png
from redaction_core.training.tensorboard import EventFiles
from tests.unit.epochs import FOUR, Said, epoch, figures
from tests.unit.shards import picture

TWELVE = (
    *("pixelate:2", "pixelate:4", "pixelate:8", "pixelate:16", "pixelate:4:nearest"),
    *("pixelate:8:nearest", "blur:1", "blur:2", "box:4x4@center", "box:0.05@random"),
    *("freeform:0.25@random", "pixels:0.1@random"),
)


def history(*epochs: Epoch) -> History:
    return History(epochs=epochs)


def recipe() -> Recipe:
    return Recipe(network="enhancer", sources=(Source(location="s3://a/b"),), redactions=(FOUR,))


def restored(redaction: str = FOUR, seed: int = 0) -> Restored:
    shown = [picture(20, 20, seed=seed + number) for number in range(3)]
    return Restored(
        redaction=redaction,
        redacted=shown[0],
        result=shown[1],
        original=shown[2],
        figures=figures(),
    )


def test_a_history_comes_back_from_its_json() -> None:
    there = history(epoch(1, train_loss=None), epoch(2, val_loss=None), epoch(3))
    assert History.of_json(json.loads(there.to_bytes())) == there
    assert History.of_json(there.to_json()) == there


def test_a_history_is_json_whatever_the_numbers() -> None:
    there = history(epoch(1, train_loss=math.nan, redactions={FOUR: figures(math.inf)}))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    (found,) = json.loads(there.to_bytes(), parse_constant=refuse)
    assert found["train_loss"] is None
    assert found["val"]["redactions"][FOUR]["mae"] is None


def test_the_best_epoch_has_the_lowest_validation_loss() -> None:
    assert History().best is None
    assert history(epoch(1, val_loss=None)).best is None
    losses = (None, 0.5, 0.2, 0.2, 0.3)
    there = history(*(epoch(place, val_loss=loss) for place, loss in enumerate(losses, 1)))
    assert there.best == there.epochs[2]


def test_holes_are_judged_by_the_squared_error() -> None:
    found = [judged_by(text) for text in TWELVE]
    assert found == ["mae"] * 8 + ["mse"] * 4
    with pytest.raises(UsageError, match="mosaic"):
        judged_by("mosaic:4")


def drawn(*epochs: Epoch) -> np.ndarray:
    return decode(curves_png(history(*epochs), "enhancer")).pixels


def pixels_of(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour) < 40).all(axis=2).sum())


ORANGE, BLUE = (213, 94, 0), (0, 114, 178)


def test_curves_show_training_and_validation_and_what_needs_no_network() -> None:
    epochs = [epoch(number, redactions={FOUR: figures()}) for number in range(1, 4)]
    blank = [epoch(n, train_loss=None, val_loss=None, redactions={}) for n in range(1, 4)]
    plain = drawn(*epochs)
    assert pixels_of(plain, BLUE) > 200
    assert pixels_of(plain, ORANGE) > 100
    # But for the two lines in the legend.
    assert pixels_of(drawn(*blank), BLUE) < 100
    bicubic = [epoch(n, redactions={FOUR: figures(bicubic_mae=0.03)}) for n in range(1, 4)]
    assert pixels_of(drawn(*bicubic), ORANGE) > pixels_of(plain, ORANGE) + 100


def test_curves_grow_with_the_redactions() -> None:
    many = dict.fromkeys(TWELVE, figures())
    sizes = [
        drawn(epoch(1, redactions=dict(itertools.islice(many.items(), count)))).shape
        for count in (1, 3, 12)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1][0] > sizes[0][0]
    assert sizes[-1][1] == sizes[1][1]


def test_a_first_loss_out_of_all_proportion_does_not_flatten_the_others() -> None:
    losses = [1000.0, *(0.03 - 0.001 * number for number in range(10))]
    steep = drawn(*(epoch(n, train_loss=loss) for n, loss in enumerate(losses, 1)))
    height, width = steep.shape[:2]
    # Right of the fall from the first loss, and left of the legend.
    panel = steep[: height // 2, width // 8 : width * 3 // 8]
    rows = np.nonzero((panel == BLUE).all(axis=2))[0]
    assert np.ptp(rows) > 40


@pytest.mark.parametrize(
    "odd",
    [
        {"train_loss": None},
        {"val_loss": None},
        {"redactions": {}},
        {"redactions": {FOUR: figures(0.0)}},
        {"redactions": {FOUR: dict.fromkeys(figures())}},
        {"redactions": {FOUR: figures(baseline_mae=0.0, bicubic_mae=0.0)}},
        {"train_loss": -2.0},
        {"learning_rate": 0.0},
    ],
)
def test_curves_are_drawn_of_any_figures(odd: dict[str, Any]) -> None:
    assert drawn(epoch(1, **odd)).ndim == 3
    assert drawn(epoch(1), epoch(2, **odd), epoch(3)).ndim == 3


def test_no_curves_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        curves_png(History(), "enhancer")


def found_at(sheet: np.ndarray, panel: np.ndarray) -> tuple[int, int]:
    """Row and column of a gray panel in a sheet, enlarged by a whole factor."""
    factor = 240 // max(panel.shape)
    large = panel.repeat(factor, 0).repeat(factor, 1)
    gray = sheet[..., 0]
    for row, column in np.argwhere(gray == large[0, 0]):
        part = gray[row : row + large.shape[0], column : column + large.shape[1]]
        if part.shape == large.shape and (part == large).all():
            return int(row), int(column)
    raise AssertionError("not in the sheet")


def test_a_sheet_shows_redacted_restored_and_original_by_redaction() -> None:
    shown = [restored("pixelate:4", 0), restored("box:4x4@center", 10), restored("pixelate:4", 20)]
    sheet = decode(samples_png("enhancer", shown)).pixels
    tops = []
    for each in shown:
        places = [found_at(sheet, panel) for panel in (each.redacted, each.result, each.original)]
        assert [column for _, column in places] == sorted({column for _, column in places})
        assert len({row for row, _ in places}) == 1
        tops.append(places[0][0])
    # Those of one redaction stand together.
    assert tops[0] < tops[2] < tops[1]
    with pytest.raises(ValueError, match="at least one row"):
        samples_png("enhancer", [])


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(each.step, each.value) for each in events.Scalars(name)]


def tell_steps(events: EventFiles, first: int, last: int, loss: float) -> None:
    for step in range(first, last + 1):
        events.step(step, loss=loss, learning_rate=1e-3, images_per_s=10.0)


def copied(events: EventFiles, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in events.contents().items():
        (folder / name).write_bytes(data)


def test_steps_that_a_resumed_run_repeats_are_seen_once(tmp_path: Path) -> None:
    with closing(EventFiles(first_step=1)) as events:
        tell_steps(events, 1, 5, 1.0)
        copied(events, tmp_path / "all")
    with closing(EventFiles(first_step=4)) as events:
        tell_steps(events, 4, 6, 2.0)
        copied(events, tmp_path / "all")
    assert len(list((tmp_path / "all").iterdir())) == 2
    found = scalars(tmp_path / "all", "train/loss")
    assert found == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def test_event_files_can_be_read_while_they_grow(tmp_path: Path) -> None:
    with closing(EventFiles(first_step=1)) as events:
        tell_steps(events, 1, 2, 1.0)
        copied(events, tmp_path / "a")
        events.epoch(epoch(1, step=2))
        tell_steps(events, 3, 3, 1.0)
        copied(events, tmp_path / "b")
        names = {path.name for path in (tmp_path / "a").iterdir()}
    assert len(scalars(tmp_path / "a", "train/loss")) == 2
    assert {path.name for path in (tmp_path / "b").iterdir()} == names
    assert len(scalars(tmp_path / "b", "train/loss")) == 3
    assert scalars(tmp_path / "b", "val/pixelate_4/mae") == [(2, pytest.approx(0.02))]
    assert scalars(tmp_path / "b", "val/loss") == [(2, pytest.approx(0.02))]


def at_once(_name: str, write: Callable[[], None]) -> None:
    write()


def keys(store: Store) -> set[str]:
    return {entry.key for entry in store.list()}


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.usefixtures("no_mlflow")
def test_records_of_epochs_lie_below_the_output(tmp_path: Path) -> None:
    store, said = open_store(str(tmp_path / "out")), Said()
    records = Records(store, recipe(), first_step=1, send=at_once, say=said)
    there = History()
    for number in (1, 2):
        records.step(10 * number, loss=0.1, learning_rate=1e-3, images_per_s=5.0)
        there = there.followed_by(epoch(number))
        records.epoch(there, [restored()])
    records.close(finished=True)

    events = {key for key in keys(store) if key.startswith("tensorboard/events.out.tfevents.")}
    assert len(events) == 1
    pictures = {"curves.png", "samples/epoch-0001.png", "samples/epoch-0002.png"}
    assert keys(store) == {"history.json", *pictures, *events}
    assert History.of_json(json.loads(store.read("history.json").data)) == there
    for key in pictures:
        assert decode(store.read(key).data).pixels.ndim == 3
    found = scalars(tmp_path / "out" / "tensorboard", "train/loss")
    assert [step for step, _ in found] == [10, 20]
    assert not said.lines


@pytest.mark.usefixtures("no_mlflow")
def test_pictures_are_drawn_where_writes_are_done(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    waiting: dict[str, Callable[[], None]] = {}
    records = Records(store, recipe(), first_step=1, send=waiting.__setitem__, say=Said())
    records.epoch(history(epoch(1)), [restored()])
    records.epoch(history(epoch(1), epoch(2)), [])
    records.close(finished=True)
    assert not (tmp_path / "out").exists()
    for write in waiting.values():
        write()
        write()  # storage may have failed in between
    assert "samples/epoch-0001.png" in keys(store)
    assert "samples/epoch-0002.png" not in keys(store)
    assert len(json.loads(store.read("history.json").data)) == 2
    assert len(scalars(tmp_path / "out" / "tensorboard", "val/loss")) == 2


@pytest.mark.usefixtures("no_mlflow")
def test_without_a_temporary_folder_there_are_no_event_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    store, said = open_store(str(tmp_path / "out")), Said()
    records = Records(store, recipe(), first_step=1, send=at_once, say=said)
    records.step(1, loss=0.1, learning_rate=1e-3, images_per_s=5.0)
    records.epoch(history(epoch(1)), [])
    records.close(finished=True)
    assert keys(store) == {"history.json", "curves.png"}
    assert len(said.lines) == 1
    assert "TensorBoard" in said.lines[0]
