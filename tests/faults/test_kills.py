"""SIGKILL of the driver, of a worker, of the storage server: a rerun makes good what is missing.

A sample; `python -m tests.benchmarks.kills` does as many as asked for.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from redaction_core.commits import begin_attempt
from redaction_core.commits.rounds import read_round
from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import open_store
from tests import poison
from tests.command import WITHOUT_RAY, Output, run
from tests.faults.harness import BUCKET, FLAGS, Kill, Scene, differences

DEATHS = 3


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    with EmbeddedS3(folder / "server", [BUCKET]) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield Scene.prepare(folder, server)


@pytest.mark.parametrize(
    "kill",
    [
        Kill(victim="driver", place="bucket", clock="files", moment=0.5, pause_s=0, returns=False),
        Kill(victim="worker", place="disk", clock="files", moment=0.4, pause_s=0, returns=False),
        Kill(victim="server", place="bucket", clock="files", moment=0.6, pause_s=0, returns=False),
        Kill(victim="server", place="bucket", clock="files", moment=0.3, pause_s=0, returns=True),
    ],
    ids=lambda kill: f"{kill.victim}{' returns' * kill.returns}",
)
def test_a_killed_run_ends_like_one_in_peace(scene: Scene, kill: Kill) -> None:
    report = scene.disturb(kill)
    assert report.hit
    assert report.problems == []


def test_deaths_by_chance_alone_change_nothing(scene: Scene, tmp_path: Path) -> None:
    output = f"{tmp_path}/out"
    flags = ("--input", f"{scene.folder}/input", "--output", output, *FLAGS)
    assert run(tmp_path / "planned", *flags, environment=WITHOUT_RAY).code == 2
    store = open_store(output)
    planned = read_round(store, 0)
    assert planned is not None
    for _ in range(DEATHS):
        for shard in planned.shards():
            begin_attempt(store, shard)
    ended = run(tmp_path / "done", *flags)
    assert ended.code == 0, ended.stderr
    assert differences(Output.read(output), scene.expected) == []


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
