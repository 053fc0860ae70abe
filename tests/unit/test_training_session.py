"""A worker's whole training: order, kills, groups, what is left in the output."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from redaction_core.checkpoints import load_model
from redaction_core.errors import CheckpointError, RedactionCoreError, StorageError
from redaction_core.storage import DiskStore
from redaction_core.training.output import remove_training
from tests.unit.training_group import (
    REDACTIONS,
    Told,
    expected_samples,
    files,
    history_of,
    model_bytes,
    note_run,
    run,
    run_group,
    same,
    session_of,
    weights,
)
from tests.unit.training_sets import smooth_images, write_data_set


def test_it_leaves_all_that_is_promised(whole: tuple[Path, Told], faces: str) -> None:
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
    assert model.config["data"][0]["location"] == Path(faces).name
    assert model.config["training"]["sources"] == [{"location": Path(faces).name, "repeats": 1}]
    assert faces not in (output / "model/README.md").read_text()
    averages = {key: value for key, value in weights(output).items() if "average." in key}
    if history.best.epoch == 2:
        for key, value in model.network.state_dict().items():
            assert torch.equal(value, averages[f"average.{key}"].half().float())
    assert told.news[-1] == {"finished": True}
    assert told.seen == expected_samples(session_of(faces, output))


def test_a_finished_training_is_left_alone(whole: tuple[Path, Told], faces: str) -> None:
    output, _ = whole
    before = {name: (output / name).stat().st_mtime_ns for name in files(output)}

    told = run(session_of(faces, output))

    # Said once more: whoever was told may have died of it.
    assert (told.news, told.seen) == ([{"finished": True}], [])
    assert before == {name: (output / name).stat().st_mtime_ns for name in files(output)}


@pytest.mark.parametrize(
    "network", ["enhancer", "redacto", "enhancer-baseline", "redacto-baseline"]
)
def test_all_networks_learn(network: str, faces: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    changes = {"learning_rate": 3e-3, "epochs": 2 if network == "enhancer-baseline" else 6}
    if network == "enhancer":
        # Stripes, which no interpolation of blocks brings back: that is where it begins.
        row = (np.arange(16) % 4 * 60).astype(np.uint8)
        stripes = [np.roll(row, phase)[None].repeat(16, 0) for phase in range(4)]
        faces = str(tmp_path / "set")
        write_data_set(faces, [*stripes, *(each.T.copy() for each in stripes)])
        changes = {"learning_rate": 1e-3, "epochs": 12}
    told = run(session_of(faces, output, network, **changes))

    history = history_of(output)
    first, *_, last = (epoch.train_loss for epoch in history.epochs)
    assert first is not None
    assert last is not None
    assert last < first
    assert told.news[-1] == {"finished": True}
    assert load_model(str(output / "model")).name == network


def test_two_workers_follow_one(faces: str, tmp_path: Path) -> None:
    """With a network of which every weight counts: AdamW makes steps of the others' roundings."""
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run(session_of(faces, one, "redacto"))

    first, second = run_group(session_of(faces, two, "redacto"), 2, tmp_path / "group")

    assert sorted(first.seen + second.seen) == sorted(alone.seen)
    assert {step for step, _ in first.seen} == {step for step, _ in second.seen}
    for ours, theirs in zip(history_of(one).epochs, history_of(two).epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)
        assert ours.val_loss == pytest.approx(theirs.val_loss, rel=1e-3)
        assert ours.val["images"] == theirs.val["images"]
    assert second.news == []


def test_a_worker_without_samples_joins_in(faces: str, tmp_path: Path) -> None:
    """Batches of one: in each step one of two workers has nothing."""
    one, two = tmp_path / "one", tmp_path / "two"
    changes = {"batch_size": 1, "epochs": 1, "ema_decay": 0.0}
    alone = run(session_of(faces, one, **changes))

    members = run_group(session_of(faces, two, **changes), 2, tmp_path / "group")

    assert sorted(seen for told in members for seen in told.seen) == sorted(alone.seen)
    first, second = weights(one), weights(two)
    for key in first:
        assert torch.allclose(first[key], second[key], atol=1e-4), key


def test_another_number_of_workers_goes_on(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    session = session_of(faces, output, checkpoint_every_s=0.0)
    before = run(session, kill_at=3, saved=1)

    members = run_group(session, 2, tmp_path / "group")

    resumed = min(step for told in members for step, _ in told.seen)
    kept = [pair for pair in before.seen if pair[0] < resumed]
    assert sorted([*kept, *(pair for told in members for pair in told.seen)]) == sorted(
        whole[1].seen
    )


def test_patience_ends_a_training_that_gets_no_better(faces: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    # A rate that moves nothing: the first epoch stays the best.
    session = session_of(faces, output, epochs=9, patience=2, learning_rate=1e-30, weight_decay=0.0)

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
    faces: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redaction_core.training.loop._HOPELESS_STEPS", 3)
    monkeypatch.setattr(
        "redaction_core.training.session.losses_of",
        lambda network, images, *_, **__: (
            sum(p.sum() for p in network.parameters()) * torch.full((len(images),), math.nan)
        ),
    )
    with pytest.raises(RedactionCoreError, match="diverged"):
        run(session_of(faces, tmp_path / "out"))


def test_weights_beyond_all_measure_are_not_given_away(faces: str, tmp_path: Path) -> None:
    session = session_of(faces, tmp_path / "out", learning_rate=1e9, optimiser="adamw")

    with pytest.raises(RedactionCoreError, match="diverged"):
        run(session)

    assert not (tmp_path / "out/model/model.safetensors").exists()


def test_it_starts_from_the_weights_of_a_model(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    place = str(whole[0] / "model")
    still = {"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1}

    run(session_of(faces, tmp_path / "out", starts_from=place, **still))

    assert model_bytes(tmp_path / "out") == model_bytes(whole[0])


def test_a_training_goes_on_without_the_model_that_it_started_from(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    place, one, two = tmp_path / "model", tmp_path / "one", tmp_path / "two"
    shutil.copytree(whole[0] / "model", place)
    there, gone = (
        session_of(faces, output, starts_from=str(place), checkpoint_every_s=0.0)
        for output in (one, two)
    )
    run(there)
    run(gone, kill_at=3, saved=1)
    shutil.rmtree(place)

    run(gone)

    assert same(one, two)
    shutil.rmtree(two)
    with pytest.raises(CheckpointError, match="no model directory"):
        run(gone)


def test_a_model_that_changed_is_refused(
    whole: tuple[Path, Told], faces: str, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(whole[0] / "model", place)
    session = session_of(faces, tmp_path / "out", starts_from=str(place))
    with (place / "config.json").open("a") as file:
        file.write("\n")

    with pytest.raises(CheckpointError, match="changed"):
        run(session)


def test_data_that_changed_is_refused(faces: str, tmp_path: Path) -> None:
    place = tmp_path / "data"
    shutil.copytree(faces, place)
    session = session_of(str(place), tmp_path / "out")
    shutil.rmtree(place)
    write_data_set(str(place), smooth_images(28, 16))

    with pytest.raises(StorageError, match="changed"):
        run(session)


def test_only_what_a_training_wrote_is_removed(faces: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    session = session_of(faces, output, epochs=1)
    note_run(session)
    run(session)
    others = {"notes.txt", "model/mine.txt", "samples/me.png", "checkpoints/step-1.bin"}
    for name in others:
        (output / name).write_text("mine")

    remove_training(DiskStore(str(output)))

    assert files(output) == others
