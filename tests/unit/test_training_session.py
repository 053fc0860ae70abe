"""A worker's whole training: order, kills, groups, what is left in the output."""

import json
import math
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from redaction_core.checkpoints import load_model
from redaction_core.errors import CheckpointError, RedactionCoreError, StorageError
from redaction_core.storage import DiskStore
from redaction_core.storage.disk import _TEMPORARY
from redaction_core.training.batches import Batch, BatchLoader
from redaction_core.training.group import Group
from redaction_core.training.history import History
from redaction_core.training.output import remove_training
from redaction_core.training.publishing import Publisher
from redaction_core.training.samples import read_samples
from redaction_core.training.session import Session, run_session
from tests.unit.training_group import (
    REDACTIONS,
    Killed,
    Told,
    model_bytes,
    note_run,
    run,
    run_group,
    session_of,
    weights,
)
from tests.unit.training_sets import smooth_images, write_data_set

STEPS = 8  # of two epochs: 24 images in batches of 7


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a data set of 24 gray images to learn from and 8 to validate on."""
    location = str(tmp_path_factory.mktemp("data") / "set")
    write_data_set(location, smooth_images(32, 16))
    return location


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """Train once; disturbs it."""
    output = tmp_path_factory.mktemp("whole") / "out"
    return output, run(session_of(data, output))


def files(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


def history_of(output: Path) -> History:
    return History.of_json(json.loads((output / "history.json").read_bytes()))


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return (
        model_bytes(one) == model_bytes(other)
        and first.keys() == second.keys()
        and all(torch.equal(first[key], second[key]) for key in first)
    )


def expected_samples(session: Session) -> list[tuple[int, str]]:
    samples = [read_samples(source.location) for source in session.recipe.sources]
    with BatchLoader(session.recipe, samples) as loader:
        return [(batch.step, key) for batch in loader.batches() for key in batch.keys]


def test_it_leaves_all_that_is_promised(whole: tuple[Path, Told], data: str) -> None:
    output, told = whole
    model = load_model(str(output / "model"), expected="enhancer")
    history = history_of(output)

    assert files(output) >= {
        *("_SUCCESS", "curves.png", "history.json", "model/README.md", "model/config.json"),
        *("samples/epoch-0001.png", "samples/epoch-0002.png", "model/model.safetensors"),
        "checkpoints/step-00000008.json",
    }
    assert [epoch.step for epoch in history.epochs] == [4, 8]
    assert all(epoch.train_loss is not None for epoch in history.epochs)
    assert set(history.redactions) == set(REDACTIONS["enhancer"])
    assert model.config["training"]["batch_size"] == 7
    assert history.best is not None
    assert model.config["epoch"] == history.best.epoch
    # Where the data lay is nothing for those whom the model is given to.
    assert model.config["data"][0]["location"] == Path(data).name
    assert model.config["training"]["sources"] == [{"location": Path(data).name, "repeats": 1}]
    assert data not in (output / "model/README.md").read_text()
    averages = {key: value for key, value in weights(output).items() if "average." in key}
    if history.best.epoch == 2:
        for key, value in model.network.state_dict().items():
            assert torch.equal(value, averages[f"average.{key}"].half().float())
    assert told.news[-1] == {"finished": True}
    assert told.seen == expected_samples(session_of(data, output))


def test_a_finished_training_is_left_alone(whole: tuple[Path, Told], data: str) -> None:
    output, _ = whole
    before = {name: (output / name).stat().st_mtime_ns for name in files(output)}

    told = run(session_of(data, output))

    # Said once more: whoever was told may have died of it.
    assert (told.news, told.seen) == ([{"finished": True}], [])
    assert before == {name: (output / name).stat().st_mtime_ns for name in files(output)}


@pytest.mark.parametrize("kills", [(3,), (4,), (5,), (2, 6, 8), (1, 2)])
def test_kills_change_no_bit(
    kills: tuple[int, ...], whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    session = session_of(data, output, checkpoint_every_s=0.0)
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


def test_a_kill_costs_what_came_after_the_last_checkpoint_alone(data: str, tmp_path: Path) -> None:
    session = session_of(data, tmp_path / "out", checkpoint_every_s=1000.0)
    run(session, kill_at=6, saved=4)

    told = run(session)

    assert told.lines == ["going on after step 4 of 8"]
    assert {step for step, _ in told.seen} == {4, 5, 6, 7}


def test_a_damaged_checkpoint_costs_no_more_than_the_one_before(
    whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    session = session_of(data, output)
    run(session, kill_at=8, saved=4)
    *_, last = sorted((output / "checkpoints").glob("*.safetensors"))
    last.write_bytes(last.read_bytes()[:-7])

    told = run(session)

    assert told.lines[0].startswith("passing over checkpoints/step-00000004.json")
    assert same(output, whole[0])


def test_a_run_that_goes_on_writes_the_model_that_was_not_stored(
    whole: tuple[Path, Told], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    session = session_of(data, output, checkpoint_every_s=0.0)
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
    step: int, whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    """Killed right after it was stored, before its checkpoint: it may never be seen again."""
    output = tmp_path / "out"
    session = session_of(data, output, checkpoint_every_s=0.0)
    run(session, kill_at=step)
    shutil.rmtree(output / "model", ignore_errors=True)
    (output / "model").mkdir()
    (output / "model/model.safetensors").write_bytes(b"of another attempt")

    run(session)

    assert same(output, whole[0])


def test_storage_that_stays_away_at_the_end_is_said_so(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("away for good")

    monkeypatch.setattr(Publisher, "card", refuse)
    with pytest.raises(StorageError, match="away for good"):
        run(session_of(data, tmp_path / "out", patience_s=0.1))


def test_a_run_that_another_overtook_changes_nothing(
    whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"

    def note(batch: Batch) -> None:
        if batch.step == 2:
            shutil.copytree(whole[0], output, dirs_exist_ok=True)

    with pytest.raises(RedactionCoreError, match="another run has finished"):
        run_session(session_of(data, output), Group(), tell=lambda _: None, seen=note)

    assert same(output, whole[0])
    assert history_of(output) == history_of(whole[0])


def test_a_rerun_makes_good_what_a_kill_near_the_end_left_undone(
    whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    output = shutil.copytree(whole[0], tmp_path / "out")
    for name in ("_SUCCESS", "history.json", "curves.png", "model/README.md"):
        (output / name).unlink()
    half = output / "checkpoints" / f"{_TEMPORARY}0123"
    half.write_bytes(b"half of a checkpoint")

    told = run(session_of(data, output))

    assert told.seen == []
    assert files(output) >= files(whole[0]) - {"run.json"}
    assert not half.exists()
    assert history_of(output) == history_of(whole[0])


@pytest.mark.parametrize(
    "network", ["enhancer", "redacto", "enhancer-baseline", "redacto-baseline"]
)
def test_all_networks_learn(network: str, data: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    changes = {"learning_rate": 3e-3, "epochs": 2 if network == "enhancer-baseline" else 6}
    if network == "enhancer":
        # Stripes, which no interpolation of blocks brings back: that is where it begins.
        row = (np.arange(16) % 4 * 60).astype(np.uint8)
        stripes = [np.roll(row, phase)[None].repeat(16, 0) for phase in range(4)]
        data = str(tmp_path / "set")
        write_data_set(data, [*stripes, *(each.T.copy() for each in stripes)])
        changes = {"learning_rate": 1e-3, "epochs": 12}
    told = run(session_of(data, output, network, **changes))

    history = history_of(output)
    first, *_, last = (epoch.train_loss for epoch in history.epochs)
    assert first is not None
    assert last is not None
    assert last < first
    assert told.news[-1] == {"finished": True}
    assert load_model(str(output / "model")).name == network


def test_two_workers_follow_one(data: str, tmp_path: Path) -> None:
    """With a network of which every weight counts: AdamW makes steps of the others' roundings."""
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run(session_of(data, one, "redacto"))

    first, second = run_group(session_of(data, two, "redacto"), 2, tmp_path / "group")

    assert sorted(first.seen + second.seen) == sorted(alone.seen)
    assert {step for step, _ in first.seen} == {step for step, _ in second.seen}
    for ours, theirs in zip(history_of(one).epochs, history_of(two).epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)
        assert ours.val_loss == pytest.approx(theirs.val_loss, rel=1e-3)
        assert ours.val["images"] == theirs.val["images"]
    assert second.news == []


def test_a_worker_without_samples_joins_in(data: str, tmp_path: Path) -> None:
    """Batches of one: in each step one of two workers has nothing."""
    one, two = tmp_path / "one", tmp_path / "two"
    changes = {"batch_size": 1, "epochs": 1, "ema_decay": 0.0}
    alone = run(session_of(data, one, **changes))

    members = run_group(session_of(data, two, **changes), 2, tmp_path / "group")

    assert sorted(seen for told in members for seen in told.seen) == sorted(alone.seen)
    first, second = weights(one), weights(two)
    for key in first:
        assert torch.allclose(first[key], second[key], atol=1e-4), key


def test_another_number_of_workers_goes_on(
    whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    session = session_of(data, output, checkpoint_every_s=0.0)
    before = run(session, kill_at=3, saved=1)

    members = run_group(session, 2, tmp_path / "group")

    resumed = min(step for told in members for step, _ in told.seen)
    kept = [pair for pair in before.seen if pair[0] < resumed]
    assert sorted([*kept, *(pair for told in members for pair in told.seen)]) == sorted(
        whole[1].seen
    )


def test_patience_ends_a_training_that_gets_no_better(data: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    # A rate that moves nothing: the first epoch stays the best.
    session = session_of(data, output, epochs=9, patience=2, learning_rate=1e-30, weight_decay=0.0)

    told = run(session)

    history = history_of(output)
    assert len(history.epochs) == 3
    assert load_model(str(output / "model")).config["epoch"] == 1
    assert told.news[-1] == {"finished": True}


def test_without_validation_the_last_is_the_best(tmp_path: Path) -> None:
    location = str(tmp_path / "set")
    write_data_set(location, smooth_images(8, 16), splits=["train"] * 8)
    output = tmp_path / "out"

    run(session_of(location, output, patience=1))

    assert load_model(str(output / "model")).config["epoch"] == 2


def test_a_training_that_diverges_says_so(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redaction_core.training.loop._HOPELESS_STEPS", 3)
    monkeypatch.setattr(
        "redaction_core.training.session.losses_of",
        lambda network, images, *_, **__: (
            sum(p.sum() for p in network.parameters()) * torch.full((len(images),), math.nan)
        ),
    )
    with pytest.raises(RedactionCoreError, match="diverged"):
        run(session_of(data, tmp_path / "out"))


def test_weights_beyond_all_measure_are_not_given_away(data: str, tmp_path: Path) -> None:
    session = session_of(data, tmp_path / "out", learning_rate=1e9, optimiser="adamw")

    with pytest.raises(RedactionCoreError, match="diverged"):
        run(session)

    assert not (tmp_path / "out/model/model.safetensors").exists()


def test_a_training_that_lost_its_checkpoints_begins_anew_and_says_so(
    whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(whole[0], output)
    (output / "_SUCCESS").unlink()
    shutil.rmtree(output / "checkpoints")

    told = run(session_of(data, output))

    assert {"say": "no whole checkpoint is left: starting from the beginning"} in told.news
    assert same(output, whole[0])


def test_it_starts_from_the_weights_of_a_model(
    whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    place = str(whole[0] / "model")
    still = {"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1}

    run(session_of(data, tmp_path / "out", starts_from=place, **still))

    assert model_bytes(tmp_path / "out") == model_bytes(whole[0])


def test_a_model_that_changed_is_refused(
    whole: tuple[Path, Told], data: str, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(whole[0] / "model", place)
    session = session_of(data, tmp_path / "out", starts_from=str(place))
    with (place / "config.json").open("a") as file:
        file.write("\n")

    with pytest.raises(CheckpointError, match="changed"):
        run(session)


def test_data_that_changed_is_refused(data: str, tmp_path: Path) -> None:
    place = tmp_path / "data"
    shutil.copytree(data, place)
    session = session_of(str(place), tmp_path / "out")
    shutil.rmtree(place)
    write_data_set(str(place), smooth_images(28, 16))

    with pytest.raises(StorageError, match="changed"):
        run(session)


def test_only_what_a_training_wrote_is_removed(data: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    session = session_of(data, output, epochs=1)
    note_run(session)
    run(session)
    others = {"notes.txt", "model/mine.txt", "samples/me.png", "checkpoints/step-1.bin"}
    for name in others:
        (output / name).write_text("mine")

    remove_training(DiskStore(str(output)))

    assert files(output) == others
