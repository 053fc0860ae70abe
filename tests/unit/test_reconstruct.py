"""Flags of reconstruct: what is refused, what is chosen, and what a run is known by."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jobs._run import Job
from jobs.reconstruct import Reconstruct, reconstruct
from redaction_core.checkpoints import save_model
from redaction_core.errors import CheckpointError, UsageError
from redaction_core.redaction import Blur
from tests.unit.networks import small

# These may differ from one start to the next of the same run.
FREE = {
    *("output", "shard_size", "workers", "cpus_per_worker", "gpus_per_worker"),
    "stuck_after_s",
    *("worker_rate", "worker_price", "max_failure_rate", "extend", "overwrite", "dry_run"),
}


def save_other() -> None:
    architecture = {"width": 8, "blocks": 2}
    config = {"network": "enhancer", "architecture": architecture}
    save_model("other", small("enhancer"), config)


def config(**values: Any) -> Reconstruct:  # noqa: ANN401 - flags of every kind
    return Reconstruct(**({"input": "in", "output": "out"} | values))


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Job]:
    """Collect the jobs that would be run."""
    found: list[Job] = []
    monkeypatch.setattr("jobs._run.execute", lambda job, _: found.append(job) or 0)
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "elsewhere", "clean", "masks"):
        Path(folder).mkdir()
    return found


@pytest.mark.parametrize(
    "values",
    [
        *({"redact": "pixelate:4", name: "somewhere"} for name in ("masks", "originals")),
        {"redact": "pixelate:4", "block_size": 8},
        {"masks": "masks", "block_value": "nearest"},
        {"blur_sigma": 2, "block_size": 4},
        {"blur_sigma": 2, "block_value": "nearest"},
        {"blur_sigma": 2, "redact": "blur:2"},
        {"blur_sigma": 2, "masks": "masks"},
        *({name: 0} for name in ("max_pixels", "max_bytes")),
        {"max_failure_rate": 2},
    ],
)
def test_flags_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"\A--[^\n]+\Z"):
        config(**values)


@pytest.mark.parametrize(
    "values",
    [
        *({"block_size": value} for value in (0, 1, -4, 17)),
        *({"blur_sigma": value} for value in (0, 0.4, 8.1, -2, float("nan"), float("inf"))),
        {"redact": "pixelate:17"},
        {"redact": "blur:0.4"},
        {"redact": "blur:8.1"},
        {"redact": "freeform:0.2"},
        {"redact": "pixelate"},
        {"network": "redacto"},
        {"network": "redacto-baseline", "redact": "pixelate:4"},
        {"network": "enhancer", "redact": "box:4x4@center"},
        {"network": "enhancer", "masks": "masks"},
        {"network": "enhancer", "redact": "freeform:0.2@random"},
        {"network": "redacto", "redact": "blur:2"},
        {"network": "redacto", "blur_sigma": 2},
        {"self_ensemble": True},
        {"self_ensemble": True, "redact": "blur:2"},
        {"input": "http://somewhere"},
        {"input": "s3:/bucket/one/slash"},
        {"masks": "nowhere"},
        {"originals": "nowhere"},
    ],
)
def test_what_no_network_does_is_refused(jobs: list[Job], values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"\A[^\n]+\Z"):
        reconstruct(config(**values))
    assert jobs == []


def test_a_model_that_is_not_there_is_refused(jobs: list[Job]) -> None:
    with pytest.raises(CheckpointError, match="no weights come with enhancer-baseline"):
        reconstruct(config(network="enhancer-baseline"))
    with pytest.raises(CheckpointError, match="is no model directory"):
        reconstruct(config(model="nowhere"))
    assert jobs == []


@pytest.mark.parametrize("network", ["enhancer", "enhancer-baseline"])
@pytest.mark.parametrize("values", [{"redact": "blur:2"}, {"blur_sigma": 2}])
def test_weights_that_know_no_blur_are_refused(
    jobs: list[Job], values: dict[str, Any], network: str
) -> None:
    architecture = {"width": 8, "blocks": 2} if network == "enhancer" else {}
    trained = {"redactions": ["pixelate:4"]}
    save_model(
        "sharp",
        small(network),
        {"network": network, "architecture": architecture, "training": trained},
    )

    with pytest.raises(UsageError, match=r"\Athe weights of [^\n]+ that undoes blur\Z"):
        reconstruct(config(model="sharp", network=network, **values))
    assert reconstruct(config(model="sharp", network=network)) == 0
    assert len(jobs) == 1


@pytest.mark.parametrize(
    ("values", "redaction", "blur"),
    [
        ({"redact": "blur:1.5"}, Blur(sigma=1.5), Blur(sigma=1.5)),
        ({"blur_sigma": 0.5}, None, Blur(sigma=0.5)),
        ({"blur_sigma": 8, "originals": "clean"}, None, Blur(sigma=8)),
    ],
)
def test_blur_reaches_the_workers(
    jobs: list[Job], values: dict[str, Any], redaction: Blur | None, blur: Blur
) -> None:
    save_other()

    assert reconstruct(config(model="other", **values)) == 0

    task = jobs[0].shards.open_work.keywords["task"]  # type: ignore[attr-defined]  # a partial
    assert (task.redaction, task.blur, task.network) == (redaction, blur, "enhancer")


@pytest.mark.parametrize(
    ("values", "network"),
    [
        ({}, "enhancer"),
        ({"originals": "clean"}, "enhancer"),
        ({"redact": "pixelate:8:nearest"}, "enhancer"),
        ({"masks": "masks"}, "redacto"),
        ({"redact": "box:0.1@random"}, "redacto"),
        ({"redact": "freeform:0.1@random"}, "redacto"),
        ({"redact": "pixels:0.1@random"}, "redacto"),
        ({"redact": "box:4x4@center", "network": "redacto-baseline"}, "redacto-baseline"),
    ],
)
def test_the_network_follows_from_the_redaction(
    jobs: list[Job], values: dict[str, Any], network: str
) -> None:
    assert reconstruct(config(**values)) == 0
    assert jobs[0].config["network"] == network


def test_a_run_is_known_by_everything_that_changes_its_bytes(jobs: list[Job]) -> None:
    """A flag that is added later belongs to one of the two kinds."""
    save_other()
    published = {"network": "enhancer-baseline", "architecture": {}}
    save_model("published", small("enhancer-baseline"), published)
    save_model(
        "holes", small("redacto-baseline"), {"network": "redacto-baseline", "architecture": {}}
    )
    changes: dict[str, dict[str, Any]] = {
        "input": {"input": "elsewhere"},
        "network": {"masks": "masks", "network": "redacto-baseline"},
        "model": {"model": "other"},
        "originals": {"originals": "clean"},
        "masks": {"masks": "masks"},
        "redact": {"redact": "pixelate:4"},
        "block_size": {"block_size": 4},
        "block_value": {"block_value": "nearest"},
        "blur_sigma": {"blur_sigma": 2},
        "self_ensemble": {"masks": "masks", "self_ensemble": True},
        "project": {"network": "enhancer-baseline", "model": "published", "project": True},
        "uncertainty": {"uncertainty": True},
        "format": {"format": "webp"},
        "precision": {"precision": "float32"},
        "seed": {"seed": 1},
        "max_pixels": {"max_pixels": 10},
        "max_bytes": {"max_bytes": 10},
    }
    assert {field.name for field in dataclasses.fields(Reconstruct)} == FREE | set(changes)

    for values in ({}, *changes.values()):
        reconstruct(config(**values))
    free: dict[str, Any] = {"output": "else", "shard_size": 3, "workers": 9, "cpus_per_worker": 2}
    free |= {"worker_rate": 9.5, "worker_price": 0.4}
    reconstruct(config(**free, max_failure_rate=1, extend=True, dry_run=True))

    first, *others, last = (dict(job.config) for job in jobs)
    assert last == first
    assert all(other != first for other in others)
    known = [tuple(sorted(map(str, other.items()))) for other in others]
    assert len(set(known)) == len(known)


def test_what_the_flags_say_reaches_the_workers(jobs: list[Job], tmp_path: Path) -> None:
    save_other()
    reconstruct(
        config(
            model="other",
            originals="clean",
            block_size=5,
            block_value="nearest",
            format="jpeg",
            seed=3,
            max_pixels=77,
            max_bytes=99,
            precision="float32",
            cpus_per_worker=1.5,
        )
    )

    (job,) = jobs
    given = job.shards.open_work.keywords  # type: ignore[attr-defined]  # a partial
    task = given["task"]
    assert (task.block_size, task.nearest, task.format, task.seed) == (5, True, "jpeg", 3)
    assert (task.max_pixels, task.max_bytes) == (77, 99)
    assert task.originals.location == str(tmp_path / "clean")
    # Workers may start in another folder.
    assert task.model == str(tmp_path / "other")
    assert (task.inputs.location, task.masks, task.redaction) == (str(tmp_path / "in"), None, None)
    assert (given["precision"], given["threads"]) == ("float32", 1)
    (tmp_path / "in" / "a.png").touch()
    assert [item.output for item in job.listed(())] == ["a.png.jpg"]
