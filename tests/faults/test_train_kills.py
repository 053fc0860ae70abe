"""SIGKILL of the driver, and storage that is away: a training loses no step.

A sample, as the loss of workers is tested with that of machines. Of all kinds, and as many as asked
for: `python -m tests.benchmarks.kills --verb train`.
"""

from pathlib import Path

import pytest

from redaction_core.embedded_s3 import EmbeddedS3
from tests.faults.harness import BUCKET
from tests.faults.training import Blow, TrainingScene


def test_a_struck_training_ends_like_one_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blows = (
        Blow(victim="driver", moment=0.4),
        Blow(victim="server", moment=0.7, down_s=4, frozen=True),
    )
    with EmbeddedS3(tmp_path / "server", [BUCKET]) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        scene = TrainingScene.prepare(tmp_path / "scene", server)

        struck = scene.strike("bucket", blows)

    assert struck.missed == []
    assert struck.problems == []
    assert struck.starts == 2
    assert "going on after step" in struck.said
