"""The command's flags, and what it refuses before anything is started or written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.train import Train, _precision, _recipe, _start, train, worker_range
from redaction_core.checkpoints import save_model
from redaction_core.errors import CheckpointError, RedactionCoreError, UsageError
from redaction_core.mixture import RedactionMixture
from redaction_core.models import BUILDERS
from redaction_core.models.enhancer import Enhancer
from redaction_core.storage import open_store
from redaction_core.training.defaults import REDACTIONS
from redaction_core.training.output import Data, begin, describe, read_run
from redaction_core.training.samples import read_samples
from tests.unit.training_group import note_run, run, session_of
from tests.unit.training_sets import smooth_images, write_data_set


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    location = str(tmp_path_factory.mktemp("data") / "set")
    write_data_set(location, smooth_images(12, 16))
    return location


@pytest.fixture
def config(data: str, tmp_path: Path) -> Train:
    return Train(
        network="enhancer",
        data=(data,),
        output=str(tmp_path / "out"),
        architecture=("width=8", "blocks=1"),
        epochs=1,
    )


@pytest.mark.parametrize(
    ("text", "found"), [(None, None), ("3", (3, 3)), ("1:3", (1, 3)), ("2:2", (2, 2))]
)
def test_workers_are_a_number_or_a_range(text: str | None, found: tuple[int, int] | None) -> None:
    assert worker_range(text) == found


@pytest.mark.parametrize(
    "changes",
    [
        *({"workers": text} for text in ("0", "3:1", "a", "1:", ":2", "-1", "1:2:3", "")),
        *({"data": ()}, {"repeats": (1, 2)}, {"resume": True, "overwrite": True}),
        *({"cpus_per_worker": 0}, {"checkpoint_every_s": -1.0}, {"cache_gib": 0.0}),
        *({"checkpoint_every_s": float("nan")}, {"cache_gib": float("nan")}),
    ],
    ids=str,
)
def test_flags_that_make_no_sense_are_refused(config: Train, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refusal:
        replace(config, **changes)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"redact": ("box:4x4@center",)}, "enhancer undoes"),
        ({"redact": ("pixelate:2-40",)}, "blocks have 2 to"),
        ({"redact": ("blur:0.5-30",)}, "blur has a sigma of 0.5 to 8 pixels"),
        ({"network": "redacto", "architecture": (), "redact": ("box:16x99@center",)}, "hides all"),
        ({"redact": ("mosaic",)}, "not understood"),
        ({"seed": 1 << 63}, "--seed 9223372036854775808: 0 to"),
        ({"scale": ("2",)}, "scale"),
        ({"network": "redacto", "redact": ("pixelate:4",)}, "redacto fills"),
        ({"network": "enhancer-baseline"}, "--architecture blocks: enhancer-baseline has none; it"),
        ({"architecture": ("depth=3",)}, "--architecture depth: enhancer has none; it takes width"),
        ({"architecture": ("width=1",)}, "--architecture width=1: at least 2"),
        ({"architecture": ("width",)}, "--architecture width: write NAME=NUMBER"),
        ({"epochs": 0}, "--epochs 0"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"data": ("/nowhere/at/all",)}, "no such folder"),
        ({"init": "/nowhere/at/all"}, "no model directory"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused(
    config: Train, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises((UsageError, CheckpointError), match=says) as refusal:
        train(replace(config, **changes))

    assert "\n" not in str(refusal.value)
    assert not Path(config.output).exists()


@pytest.mark.parametrize("network", BUILDERS)
def test_the_mixture_of_a_network_suits_it(
    network: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert RedactionMixture.parse(REDACTIONS[network]).fixed
    output = str(tmp_path / "out")

    code = train(Train(network=network, data=(data,), output=output, dry_run=True))  # type: ignore[arg-type]  # a text of the Literal

    assert code == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["train_images"], plan["val_images"]) == (9, 3)
    assert plan["redactions"] == " ".join(REDACTIONS[network])
    assert not Path(output).exists()


def test_a_dry_run_counts_the_steps(config: Train, capsys: pytest.CaptureFixture[str]) -> None:
    both = config.data * 2
    train(replace(config, dry_run=True, data=both, repeats=(1, 3), batch_size=4, epochs=5))

    plan = json.loads(capsys.readouterr().out)
    assert plan["samples_per_epoch"] == 9 + 27
    assert plan["steps_per_epoch"] == 3 + 7
    assert plan["steps"] == 50
    assert "estimated_seconds" not in plan, "nothing is known of the rate"


def test_a_dry_run_tells_time_and_cost_of_a_cluster(
    config: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = replace(config, workers="1:2", worker_rate=0.01, worker_price=3.6)
    train(replace(cluster, dry_run=True, epochs=4))

    plan = json.loads(capsys.readouterr().out)
    assert plan["estimated_seconds"] == 9 * 4 / 0.02
    assert (plan["estimated_worker_hours"], plan["estimated_cost"]) == (1, 3.6)


@pytest.fixture
def finished(data: str, tmp_path: Path) -> Train:
    """Train to the end, with the defaults that the command has."""
    config = Train(
        network="redacto-baseline",
        data=(data,),
        output=str(tmp_path / "out"),
        epochs=1,
        crop=16,
        batch_size=7,
        ema_decay=0.5,
    )
    session = session_of(data, tmp_path / "out", "redacto-baseline", epochs=1, loss="mse")
    note_run(session)
    run(session)
    return config


def test_an_output_that_holds_a_training_is_refused(finished: Train) -> None:
    with pytest.raises(UsageError, match="--resume goes on with it, --overwrite replaces it"):
        train(finished)


def test_a_finished_training_tells_its_result_again(
    finished: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(replace(finished, resume=True, precision="float32")) == 0
    assert train(replace(finished, resume=True)) == 0  # auto: as it was

    told = capsys.readouterr()
    first, second = map(json.loads, told.out.splitlines())
    assert first == second
    assert (first["status"], first["epochs"], first["steps"]) == ("complete", 1, 2)
    assert first["best_epoch"] == 1
    assert first["validation"]["images"] == 3
    assert first["model"] == f"{finished.output}/model"
    assert "finished already" in told.err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 8}, "--batch-size was 7, and is 8"),
        ({"redact": ("box:5x5@center",)}, "--redact was box:4x4@center, and is box:5x5@center"),
        ({"precision": "bfloat16"}, "--precision was float32, and is bfloat16"),
        ({"network": "redacto"}, "--network was redacto-baseline, and is redacto"),
        ({"repeats": (2,)}, "--data was"),
    ],
    ids=str,
)
def test_another_training_does_not_go_on(
    finished: Train, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        train(replace(finished, resume=True, **changes))


def test_changed_data_are_told(finished: Train, data: str) -> None:
    store = open_store(finished.output)
    old = json.loads(store.read("run.json").data)
    old["data"][0]["fingerprint"] = "other"
    store.put("run.json", json.dumps(old | {"run": "other"}).encode())

    with pytest.raises(UsageError, match=f"the data set {data} has changed"):
        train(replace(finished, resume=True))


@pytest.mark.parametrize(
    ("key", "content", "says"),
    [
        ("run.json", b"{", "damaged"),
        ("run.json", b"[]", "damaged"),
        ("run.json", b'{"verb": "ingest"}', "another job"),
        ("run.json", b'{"verb": "train"}', "damaged"),
        ("run.json", b'{"verb": "train", "run": "a", "recipe": [], "data": []}', "damaged"),
        ("plan.json", b"{}", "holds plan.json, and no training"),
        ("curves.png", b"mine", "holds curves.png, and no training"),
        ("model/README.md", b"mine", "holds model/README.md, and no training"),
        ("samples/epoch-0001.png", b"mine", "holds samples/epoch-0001.png, and no training"),
    ],
)
def test_an_output_of_something_else_is_refused(
    config: Train, key: str, content: bytes, says: str
) -> None:
    open_store(config.output).put(key, content)

    for changes in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match=says):
            train(replace(config, **changes))
    assert open_store(config.output).read(key).data == content


@pytest.mark.parametrize("output", ["{}", "{}/images", "{}/new", "{}/.."])
def test_output_and_data_set_do_not_lie_in_each_other(config: Train, output: str) -> None:
    with pytest.raises(UsageError, match="lie in each other"):
        train(replace(config, output=output.format(config.data[0])))


def test_a_model_is_not_removed_to_start_from_it(finished: Train) -> None:
    model = f"{finished.output}/model"
    with pytest.raises(UsageError, match="would remove the model of --init"):
        train(replace(finished, overwrite=True, init=model))

    assert Path(model, "model.safetensors").exists()


def test_a_training_that_goes_on_needs_no_model_to_start_from(
    config: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, sizes = tmp_path / "model", {"width": 9, "blocks": 1}
    save_model(str(place), Enhancer(**sizes), {"network": "enhancer", "architecture": sizes})
    tuned = replace(config, init=str(place), architecture=(), dry_run=True, resume=True)
    recipe = _recipe(tuned, _start(tuned, None), _precision(tuned, None))
    found = [Data.of(read_samples(source.location)) for source in recipe.sources]
    begin(open_store(config.output), describe(recipe, found))
    shutil.rmtree(place)

    assert train(tuned) == 0

    assert "going on without the model of --init" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--architecture width=8: the model of --init has another"):
        train(replace(tuned, architecture=("width=8",)))
    with pytest.raises(CheckpointError, match="no model directory"):
        train(replace(tuned, output=str(tmp_path / "other")))


def test_patience_without_validation_is_refused(config: Train, tmp_path: Path) -> None:
    location = str(tmp_path / "set")
    write_data_set(location, smooth_images(4, 16), splits=["train"] * 4)
    with pytest.raises(UsageError, match="--patience needs images to validate on"):
        train(replace(config, data=(location,), patience=3))


@pytest.mark.parametrize("content", [b"{", b"[]", b"[{}]", b"{}", b"[1]"])
def test_a_damaged_history_is_one_line(finished: Train, content: bytes) -> None:
    Path(finished.output, "history.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"history\.json in .* is damaged"):
        train(replace(finished, resume=True))


def test_a_training_of_another_version_is_told(finished: Train) -> None:
    store = open_store(finished.output)
    store.put("run.json", b'{"verb": "train", "run": "a", "recipe": {}, "data": []}')
    with pytest.raises(UsageError, match="another version"):
        train(replace(finished, resume=True))


def test_two_trainings_do_not_begin_in_one_output(data: str, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    found = [Data.of(read_samples(data))]
    one, two = (session_of(data, tmp_path / "out", seed=seed).recipe for seed in (1, 2))
    begin(store, describe(one, found))
    begin(store, describe(one, found))  # the answer to the first may have been lost

    with pytest.raises(RedactionCoreError, match="another training has begun"):
        begin(store, describe(two, found))
    assert read_run(store) == describe(one, found)
