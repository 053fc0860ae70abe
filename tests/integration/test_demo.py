"""The demo as a person runs it, and ended by Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.demo import ESTIMATE, PLACES

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "jobs.demo"]
LIMIT_S = 600


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return own | {"PYTHONPATH": str(ROOT)}


def test_the_demo_brings_photographs_back(tmp_path: Path) -> None:
    result = subprocess.run(
        COMMAND,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, result.stderr
    assert ESTIMATE in result.stdout
    assert str(tmp_path / "demo-output" / "comparison.png") in result.stdout
    names = {f"{name}.png" for name in PLACES}
    for run in ("restored-pixelated", "restored-scratched"):
        folder = tmp_path / "demo-output" / run
        rows = pq.read_table(folder / "metrics").to_pylist()
        assert {row["key"] for row in rows} == names
        assert len(rows) == len(names)
        # Better than what went in, photograph by photograph.
        assert all(row["recovered"] > 0 for row in rows)
        assert {path.name for path in (folder / "images").iterdir()} == names
    with Image.open(tmp_path / "demo-output" / "comparison.png") as picture:
        assert min(picture.size) > 1000
        assert np.asarray(picture).std() > 30


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_nothing_runs_on_after_the_demo_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    log = tmp_path / "stderr"
    with log.open("wb") as stderr:
        demo = subprocess.Popen(
            COMMAND,
            cwd=tmp_path,
            env=environment() | {"TMPDIR": str(scratch)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            # What is started in the background ignores Ctrl-C, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )
    started: list[psutil.Process] = []
    deadline = time.monotonic() + LIMIT_S
    while not any("jobs.reconstruct" in line(process) for process in started):
        assert demo.poll() is None
        assert time.monotonic() < deadline
        started = psutil.Process(demo.pid).children(recursive=True)
        time.sleep(0.1)
    # As a terminal does: Ctrl-C goes to all of the group, SIGTERM to the one that was named.
    if end == signal.SIGINT:
        os.killpg(demo.pid, end)
    else:
        demo.send_signal(end)
    assert demo.wait(LIMIT_S) == 130, log.read_text()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert [line(process) for process in alive] == []
    assert list(scratch.iterdir()) == []


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
