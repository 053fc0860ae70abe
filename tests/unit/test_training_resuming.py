"""A worker's training that was killed, or whose storage failed, goes on."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from redaction_core.errors import RedactionCoreError, StorageError
from redaction_core.storage.disk import _TEMPORARY
from redaction_core.training.batches import Batch
from redaction_core.training.group import Group
from redaction_core.training.history import History
from redaction_core.training.publishing import Publisher
from redaction_core.training.session import run_session
from tests.unit.training_group import (
    Killed,
    Told,
    files,
    history_of,
    run,
    same,
    session_of,
)


@pytest.mark.parametrize("kills", [(3,), (4,), (5,), (2, 6, 8), (1, 2)])
def test_kills_change_no_bit(
    kills: tuple[int, ...], whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    session = session_of(faces, output, checkpoint_every_s=0.0)
    known = set()
    for kill in kills:
        told = run(session, kill_at=kill)
        known |= set(told.seen)
    last = run(session)

    assert same(output, whole[0])
    assert known | set(last.seen) == set(whole[1].seen)
    ours, theirs = (
        History.of_json(json.loads((each / "history.json").read_bytes()))
        for each in (output, whole[0])
    )
    assert [epoch.val for epoch in ours.epochs] == [epoch.val for epoch in theirs.epochs]
    for one, two in zip(ours.epochs, theirs.epochs, strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, rel=1e-9)


def test_a_kill_costs_what_came_after_the_last_checkpoint_alone(faces: str, tmp_path: Path) -> None:
    session = session_of(faces, tmp_path / "out", checkpoint_every_s=1000.0)
    run(session, kill_at=6, saved=4)

    told = run(session)

    assert told.lines == ["going on after step 4 of 8"]
    assert {step for step, _ in told.seen} == {4, 5, 6, 7}


def test_a_damaged_checkpoint_costs_no_more_than_the_one_before(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    session = session_of(faces, output)
    run(session, kill_at=8, saved=4)
    *_, last = sorted((output / "checkpoints").glob("*.safetensors"))
    last.write_bytes(last.read_bytes()[:-7])

    told = run(session)

    assert told.lines[0].startswith("passing over checkpoints/step-00000004.json")
    assert same(output, whole[0])


def test_a_run_that_goes_on_writes_the_model_that_was_not_stored(
    whole: tuple[Path, Told], faces: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    session = session_of(faces, output, checkpoint_every_s=0.0)
    tried = threading.Semaphore(0)

    def refuse(*_: object) -> None:
        tried.release()
        raise StorageError("away for a while")

    def note(batch: Batch) -> None:
        if batch.step == 4:  # the first of the second epoch
            assert tried.acquire(timeout=60)
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "model", refuse)
        with pytest.raises(Killed):
            run_session(session, Group(), tell=lambda _: None, seen=note)

    assert not (output / "model").exists()
    run(session)
    assert same(output, whole[0])


@pytest.mark.parametrize("step", [6, 8])
def test_a_model_of_a_run_that_was_not_kept_is_replaced(
    step: int, whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    """Killed right after it was stored, before its checkpoint: it may never be seen again."""
    output = tmp_path / "out"
    session = session_of(faces, output, checkpoint_every_s=0.0)
    run(session, kill_at=step)
    shutil.rmtree(output / "model", ignore_errors=True)
    (output / "model").mkdir()
    (output / "model/model.safetensors").write_bytes(b"of another attempt")

    run(session)

    assert same(output, whole[0])


def test_storage_that_stays_away_at_the_end_is_said_so(
    faces: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("away for good")

    monkeypatch.setattr(Publisher, "card", refuse)
    with pytest.raises(StorageError, match="away for good"):
        run(session_of(faces, tmp_path / "out", patience_s=0.1))


def test_a_run_that_another_overtook_changes_nothing(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"

    def note(batch: Batch) -> None:
        if batch.step == 2:
            shutil.copytree(whole[0], output, dirs_exist_ok=True)

    with pytest.raises(RedactionCoreError, match="another run has finished"):
        run_session(session_of(faces, output), Group(), tell=lambda _: None, seen=note)

    assert same(output, whole[0])
    assert history_of(output) == history_of(whole[0])


def test_a_rerun_makes_good_what_a_kill_near_the_end_left_undone(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    output = shutil.copytree(whole[0], tmp_path / "out")
    for name in ("_SUCCESS", "history.json", "curves.png", "model/README.md"):
        (output / name).unlink()
    half = output / "checkpoints" / f"{_TEMPORARY}0123"
    half.write_bytes(b"half of a checkpoint")

    told = run(session_of(faces, output))

    assert told.seen == []
    assert files(output) >= files(whole[0]) - {"run.json"}
    assert not half.exists()
    assert history_of(output) == history_of(whole[0])


def test_a_training_that_lost_its_checkpoints_begins_anew_and_says_so(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(whole[0], output)
    (output / "_SUCCESS").unlink()
    shutil.rmtree(output / "checkpoints")

    told = run(session_of(faces, output))

    assert {"say": "no whole checkpoint is left: starting from the beginning"} in told.news
    assert same(output, whole[0])
