"""Shards that are under way for too long are named, with who does them."""

import json
from functools import partial
from pathlib import Path

import pytest

from jobs._verb import Verb
from jobs._watch import Watch
from redaction_core.commits import (
    Commit,
    ShardRef,
    begin_attempt,
    begun_attempts,
    commit_shard,
    end_attempt,
)
from redaction_core.storage import Store, open_store
from tests.local_cluster import wait_until

PLAN = "0123456789abcdef"
SHARDS = [ShardRef(number=number, plan_id=PLAN, part=f"{number}") for number in range(8)]
NOTE = json.dumps({"machine": "10.0.0.7", "pid": 42, "started": "2026-01-01T00:00:00+00:00"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def watch(store: Store, after_s: float = 900) -> Watch:
    open_work = partial(int)
    verb = Verb(name="small", output=store, open_work=open_work, tables={})  # type: ignore[arg-type]  # never opened
    return Watch(verb, SHARDS, after_s=after_s)


class Said:
    """What is told by looks at chosen times."""

    def __init__(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        self._watch, self._capsys = watch(store), capsys

    def at(self, now: float) -> list[str]:
        self._watch.look(now)
        return self._capsys.readouterr().err.splitlines()


@pytest.fixture
def said(store: Store, capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(store, capsys)


def test_a_stuck_shard_is_named_with_its_last_attempt_each_quarter(
    store: Store, said: Said
) -> None:
    begin_attempt(store, SHARDS[3])  # died
    last = begin_attempt(store, SHARDS[3], note=NOTE.encode())
    assert said.at(1000) == said.at(1899) == []
    (line,) = said.at(1905)
    assert line == (
        "shard 3 has been under way for 15m05s "
        "(attempt 2 on 10.0.0.7, process 42, since 2026-01-01T00:00:00+00:00)"
    )
    assert said.at(2800) == []
    (line,) = said.at(2805)
    assert "30m05s" in line
    end_attempt(store, last, committed=False)
    assert [each.number for each in begun_attempts(store, PLAN)] == [1]


def test_of_many_stuck_shards_some_are_named_and_the_others_counted(
    store: Store, said: Said
) -> None:
    for shard in SHARDS:
        begin_attempt(store, shard, note=b"damaged")
    said.at(0)
    *lines, last = said.at(900)
    assert [line.split()[1] for line in lines] == ["0", "1", "2", "3", "4"]
    assert lines[0].endswith("(attempt 1)")
    assert last == "3 more shards have been under way for as long"


def test_shards_that_end_in_time_are_not_named(store: Store, said: Said) -> None:
    for number in range(3):
        attempt = begin_attempt(store, SHARDS[number])
        assert said.at(number * 800) == []
        end_attempt(store, attempt, committed=True)
    assert said.at(2400) == []


def test_what_is_committed_is_not_under_way_whoever_died_at_it(store: Store, said: Said) -> None:
    begin_attempt(store, SHARDS[0])
    begin_attempt(store, SHARDS[1], note=NOTE.encode())
    commit_shard(store, SHARDS[0], Commit(shard=0, parts=()))
    assert said.at(0) == []
    for now in (900, 1800, 2700):
        (line,) = said.at(now)
        assert line.startswith("shard 1 ")


def test_somebody_looks_while_shards_are_under_way(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_attempt(store, SHARDS[3])
    lines: list[str] = []

    def named() -> bool:
        lines.extend(capsys.readouterr().err.splitlines())
        return bool(lines)

    with watch(store, after_s=0.4):
        wait_until(named)
    assert lines[0].startswith("shard 3 has been under way for ")
