"""Shards that are under way for too long are named, with who does them."""

import json
import time
from functools import partial
from pathlib import Path

import pytest

from jobs._verb import Verb
from jobs._watch import Watch
from redaction_core.commits import ShardRef, begin_attempt, begun_attempts, end_attempt
from redaction_core.storage import open_store

PLAN = "0123456789abcdef"
SHARDS = [ShardRef(number=number, plan_id=PLAN, part=f"{number}") for number in range(8)]
NOTE = json.dumps({"machine": "10.0.0.7", "pid": 42, "started": "2026-01-01T00:00:00+00:00"})


def watch(folder: Path, after_s: float) -> Watch:
    verb = Verb(
        name="small",
        output=open_store(str(folder)),
        open_work=partial(int),  # type: ignore[arg-type]  # never opened
        tables={},
    )
    return Watch(verb, SHARDS, after_s=after_s)


def said(capsys: pytest.CaptureFixture[str], lines: int) -> list[str]:
    ends, found = time.monotonic() + 30, ""
    while found.count("\n") < lines and time.monotonic() < ends:
        time.sleep(0.05)
        found += capsys.readouterr().err
    return found.splitlines()


def test_a_stuck_shard_is_named_with_its_last_attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path))
    begin_attempt(store, SHARDS[3])  # died
    last = begin_attempt(store, SHARDS[3], note=NOTE.encode())
    with watch(tmp_path, after_s=0.4):
        line, again = said(capsys, 2)[:2]
    assert line.startswith("shard 3 has been under way for ")
    assert "(attempt 2 on 10.0.0.7, process 42, since 2026-01-01T00:00:00+00:00)" in line
    assert again.startswith("shard 3 has been under way for ")
    end_attempt(store, last)
    assert [each.number for each in begun_attempts(store, PLAN)] == [1]


def test_of_many_stuck_shards_some_are_named_and_the_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path))
    for shard in SHARDS:
        begin_attempt(store, shard, note=b"damaged")
    with watch(tmp_path, after_s=0.4):
        lines = said(capsys, 6)
    assert [line.split()[1] for line in lines[:5]] == ["0", "1", "2", "3", "4"]
    assert lines[0].endswith("(attempt 1)")
    assert lines[5] == "and 3 more shards"


def test_a_shard_that_ends_in_time_is_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path))
    with watch(tmp_path, after_s=2.5):
        for shard in SHARDS[:3]:
            attempt = begin_attempt(store, shard)
            time.sleep(0.9)
            end_attempt(store, attempt)
    assert capsys.readouterr().err == ""
