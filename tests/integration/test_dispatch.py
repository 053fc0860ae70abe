"""Shards through Ray in more than one batch: a verb that does nothing, until none is left."""

import re
import subprocess
import sys

from tests.command import LIMIT_S, ROOT


def test_batches_one_after_the_other() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.dispatch"]
    command += ["--shards", "5", "--batch", "3", "--workers", "2"]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search("^PASS 0 of 5 left, in 2 batches", ended.stderr, re.MULTILINE), ended.stderr
