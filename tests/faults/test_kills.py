"""SIGKILL of the driver, of a worker, of the storage server: a rerun makes good what is missing.

A sample; `python -m tests.benchmarks.kills` does as many as asked for.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from redaction_core.commits import begin_attempt
from redaction_core.commits.rounds import read_round
from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import open_store
from tests import poison
from tests.command import WITHOUT_RAY, Output, run
from tests.data_sets import Ingestion, Retries
from tests.fault_origin import FaultOrigin
from tests.faults.harness import BUCKET, Kill, Scene, differences
from tests.poison import aborting, packed, picture

DEATHS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    folder = tmp_path_factory.mktemp("server")
    with EmbeddedS3(folder, [BUCKET]) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def origin() -> Iterator[FaultOrigin]:
    with FaultOrigin() as origin:
        yield origin


@pytest.fixture(scope="module")
def ingest_scene(
    server: EmbeddedS3, origin: FaultOrigin, tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    return Scene.prepare(tmp_path_factory.mktemp("ingest"), server, Ingestion(origin))


@pytest.fixture(scope="module")
def retry_scene(
    ingest_scene: Scene, origin: FaultOrigin, tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    retries = Retries(origin, str(ingest_scene.folder))
    return Scene.prepare(tmp_path_factory.mktemp("retries"), ingest_scene.server, retries)


@pytest.mark.parametrize(
    "kill",
    [
        Kill(victim="worker", place="disk", clock="files", moment=0.4, pause_s=0, returns=False),
        Kill(victim="server", place="bucket", clock="files", moment=0.5, pause_s=0, returns=False),
    ],
    ids=lambda kill: kill.victim,
)
def test_a_killed_ingest_ends_like_one_in_peace(ingest_scene: Scene, kill: Kill) -> None:
    report = ingest_scene.disturb(kill)
    assert report.hit
    assert report.problems == []


def test_killed_retries_end_like_those_in_peace(retry_scene: Scene) -> None:
    kill = Kill(victim="driver", place="disk", clock="files", moment=0.6, pause_s=0, returns=False)
    report = retry_scene.disturb(kill)
    assert report.hit
    assert report.problems == []


def test_retries_that_lack_their_end_alone_begin_no_others(
    retry_scene: Scene, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(retry_scene.folder / "out", output)
    (output / "_SUCCESS").unlink()
    flags = (*retry_scene.subject.flags(""), "--output", str(output))
    ended = run(tmp_path / "log", *flags, verb="ingest")
    assert ended.code == 0, ended.stderr
    assert differences(retry_scene.subject.read(str(output)), retry_scene.expected) == []


def test_deaths_by_chance_alone_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        (tmp_path / "input" / name).write_bytes(packed(picture(64, 64)))
    # Kills its process with all the shard, and once alone.
    kills = tmp_path / "kills"
    (tmp_path / "input" / names[1]).write_bytes(aborting(f"2 {kills}", picture(64, 64)))
    output = f"{tmp_path}/out"
    flags = ("--input", f"{tmp_path}/input", "--output", output, "--redact", "pixelate:8")
    flags += ("--shard-size", "2", "--format", "png")
    assert run(tmp_path / "planned", *flags, environment=WITHOUT_RAY).code == 2
    store = open_store(output)
    planned = read_round(store, 0)
    assert planned is not None
    shard = next(planned.shards())
    for _ in range(DEATHS):
        begin_attempt(store, shard)
    ended = run(tmp_path / "done", *flags, environment={"PYTHONPATH": str(poison.ABORTING_PATH)})
    assert ended.code == 0, ended.stderr
    assert kills.stat().st_size == 2
    found = Output.read(output)
    assert [(row["key"], row["status"]) for row in found.rows] == [(name, "ok") for name in names]
    # The same picture, in a process apart and in its worker.
    assert len(found.images) == len(names)
    assert len(set(found.images.values())) == 1
    assert not any(name.startswith("attempts/") for name in found.names)


def test_an_image_that_aborts_its_process_is_one_row(tmp_path: Path) -> None:
    (case,) = (each for each in poison.runs() if each.name == "aborts")
    poison.make(tmp_path, case)
    ended = run(
        tmp_path / "log",
        *("--input", f"{tmp_path}/input", "--output", f"{tmp_path}/output"),
        *("--max-failure-rate", "1", *case.flags),
        environment={"PYTHONPATH": str(poison.ABORTING_PATH)},
    )
    assert ended.code == 0, ended.stderr
    assert ended.result["failures"] == {"worker_crash": 1}
    output = Output.read(f"{tmp_path}/output")
    assert {row["key"]: row["failure"] for row in output.rows} == {
        each.key: each.failure and str(each.failure) for each in case.cases
    }
    assert len(output.rows) == len(case.cases)
    good = {f"images/{each.key}" for each in case.cases if each.failure is None}
    assert output.images.keys() == good
    assert not any(name.startswith("attempts/") for name in output.names)
