"""One host, several workers on real Ray: its limits hold for all of them together."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKERS, EACH, CONNECTIONS, RATE = 3, 12, 2, 20.0
SLACK_S = 0.05


def test_a_host_has_its_limits_over_all_workers() -> None:
    numbers = map(str, (WORKERS, EACH, CONNECTIONS, RATE))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.hosts_on_ray", *numbers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    turns = sorted(map(tuple, json.loads(ended.stdout.splitlines()[-1])))
    assert len(turns) == WORKERS * EACH
    for begun, _ in turns:
        at_once = sum(start <= begun < end for start, end in turns)
        assert at_once <= CONNECTIONS
    # A burst of as many as may be there at once, then no more than the rate.
    begins = [begun for begun, _ in turns]
    least_s = (len(begins) - CONNECTIONS) / RATE
    assert begins[-1] - begins[0] >= least_s - SLACK_S
