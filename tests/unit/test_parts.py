"""Parquet parts, on their own."""

import subprocess
import sys

import pyarrow as pa

from redaction_core.commits.parts import part_bytes, read_part
from tests.command import ROOT

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("rows", pa.int64())])
ROWS = [{"key": f"{number}", "rows": number} for number in range(1000)]

THREADS_STARTED = """
import os, sys
from redaction_core.commits.parts import read_part
data = sys.stdin.buffer.read()
before = len(os.listdir("/proc/self/task"))
read_part(data)
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_a_part_is_read_as_it_was_written() -> None:
    assert read_part(part_bytes(ROWS, SCHEMA)).to_pylist() == ROWS


def test_a_part_is_read_in_one_thread() -> None:
    # Others might abort a process that ends right afterwards.
    ended = subprocess.run(
        [sys.executable, "-c", THREADS_STARTED],
        input=part_bytes(ROWS, SCHEMA),
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    assert ended.stdout.strip() == b"0", ended.stderr
