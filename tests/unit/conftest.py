"""What several unit tests share."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.openverse_server import OpenverseServer, image
from tests.unit.starved import ENVIRONMENT
from tests.unit.training_group import Told, run, session_of
from tests.unit.training_sets import smooth_images, write_data_set

ROOT = Path(__file__).resolve().parents[2]

# On the small tensors of these tests, threads lose more by waiting for each other than they gain.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def starved() -> dict[str, Any]:
    """Tell what became of batches, images and a shard in a process that is refused memory."""
    if sys.platform != "linux":
        pytest.skip("only Linux limits the memory of a process")
    command = [sys.executable, "-m", "tests.unit.starved"]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def server() -> Iterator[OpenverseServer]:
    """Serve, as Openverse does, what the tests of discovery search for."""
    found = {
        "cats": [image("cats", number) for number in range(45)],
        "dogs": [image("dogs", 0), image("cats", 3), image("dogs", 1)],
        "many": [image("many", number) for number in range(300)],
    }
    with OpenverseServer(found) as running:
        yield running


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a data set of 24 gray images to learn from and 8 to validate on."""
    location = str(tmp_path_factory.mktemp("data") / "set")
    write_data_set(location, smooth_images(32, 16))
    return location


@pytest.fixture(scope="module")
def whole(faces: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """Train a worker on it once, and disturb nothing."""
    output = tmp_path_factory.mktemp("whole") / "out"
    return output, run(session_of(faces, output))
