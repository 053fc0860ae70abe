"""Whole commands while S3 misbehaves: one request in ten, and all of them past the bound.

A sample; `python -m tests.benchmarks.storage_faults` takes longer storms, and all jobs.
"""

import math
from collections.abc import Iterator

import pytest

from redaction_core.embedded_s3 import EmbeddedS3
from tests.faults.harness import BUCKET, Scene
from tests.faults.storms import RATE, Pictures, Voyage
from tests.integration.faulty_proxy import FaultyProxy

SHORT = {"REDACTION_STORAGE_TIMEOUT_S": "1"}
"""Stalls cost so long."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    folder = tmp_path_factory.mktemp("server")
    with EmbeddedS3(folder, [BUCKET]) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def proxy(server: EmbeddedS3) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.endpoint, rate=RATE, seed=1) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def scene(server: EmbeddedS3, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene.prepare(tmp_path_factory.mktemp("ingest"), server, Pictures())


def test_an_ingest_takes_no_notice(scene: Scene, proxy: FaultyProxy) -> None:
    voyage = Voyage.of(scene, proxy, "notice")
    assert voyage.problems(voyage.run(SHORT)) == []
    assert proxy.spoilt.total() > proxy.requests / 20 > 3


def test_past_the_bound_is_one_line_and_a_rerun_finishes(scene: Scene, proxy: FaultyProxy) -> None:
    voyage = Voyage.of(scene, proxy, "bound")
    proxy.storm(math.inf, after=100)
    ended = voyage.run({**SHORT, "REDACTION_STORAGE_RETRY_S": "1"})
    assert voyage.refusal(ended) == []
    proxy.calm()
    assert voyage.problems(voyage.run(SHORT)) == []
