"""Retries, the last pass, and what --overwrite removes of a data set; shards are done here."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from jobs._command import RunFlags
from jobs._run import execute
from jobs._verb import Cluster, Finished, Job, Verb
from redaction_core.commits import Run, ShardRef, remove_run
from redaction_core.data_set import finish_data_set
from redaction_core.errors import Failure, StorageError, UsageError
from redaction_core.ingestion import Task, open_ingestion
from redaction_core.ledger import Ledger
from redaction_core.plan import PlannedInput
from redaction_core.storage import Store, open_store
from redaction_core.totals import Totals
from tests.data_sets import DataSet
from tests.unit.small_data_set import LAYOUT, Given, MemorySource, do_shard, lost, png, task

Inputs = dict[str, Given]


@dataclass
class LocalCluster:
    """Does shards in this process, until `left` of them are done: then storage fails."""

    job: Job
    flags: RunFlags
    left: ClassVar[int] = 1000
    images_per_s_per_worker: ClassVar[float | None] = None

    def run_shards(self, pending: Sequence[ShardRef]) -> Iterator[Totals]:
        for shard in pending:
            if not LocalCluster.left:
                raise StorageError("the disk is full")
            LocalCluster.left -= 1
            given: Task = self.job.shards.open_work.keywords["task"]  # type: ignore[attr-defined]
            do_shard(self.job.outputs, shard, given, apart=False)
            yield Totals()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs._run.Cluster", LocalCluster)
    monkeypatch.setattr(LocalCluster, "left", 1000)


def job(store: Store, inputs: Inputs, *retry: str, **changes: Any) -> Job:  # noqa: ANN401
    given = task(inputs)
    verb = Verb(
        name="ingest",
        output=store,
        open_work=partial(open_ingestion, task=given),
        tables=given.tables,
        at_once=1,
    )
    made = Job(
        source="memory",
        listed=lambda _: given.source.planned(),
        config={},
        shards=verb,
        guess_s=lambda: 1.0,
        layout=LAYOUT,
        retry=partial(failed, classes=retry) if retry else None,
        last_pass=partial(last_pass, task=given),
        failures_table="failures",
        note="a note",
    )
    return replace(made, **changes)


def failed(run: Run, classes: Sequence[str]) -> Iterator[PlannedInput]:
    with Ledger.open(run) as ledger:
        yield from ledger.failed_inputs(() if classes == ("all",) else classes)


def last_pass(run: Run, cluster: Cluster, *, task: Task) -> Finished:
    summary, parts = finish_data_set(task, run, cluster.map)
    return Finished(summary=summary, parts=parts)


def flags(**values: Any) -> RunFlags:  # noqa: ANN401 - any flag
    return RunFlags(output="out", **({"shard_size": 2, "max_failure_rate": 1} | values))


def asked(given: Job) -> list[str]:
    source: MemorySource = given.shards.open_work.keywords["task"].source  # type: ignore[attr-defined]
    return sorted(source.asked)


def some() -> Inputs:
    return {
        **{name: Given(data=png(ord(name))) for name in "ace"},
        **{name: lost(Failure.TIMEOUT) for name in "bd"},
        **{name: lost(Failure.DNS) for name in "fg"},
    }


def files(store: Store) -> dict[str, bytes]:
    return {entry.key: store.read(entry.key).data for entry in store.list(missing_ok=True)}


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_only_what_failed_so_is_asked_for_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    execute(job(store, inputs), flags())
    first = result(capsys)
    assert (first["inputs"], first["failures"]) == (7, {"dns": 2, "timeout": 2})
    inputs["b"] = Given(data=png(1))
    again = job(store, inputs, "timeout")
    assert execute(again, flags()) == 0
    told = capsys.readouterr()
    assert "planned 2 inputs to try again, 5 shards in all" in told.err
    last = json.loads(told.out.splitlines()[-1])
    assert (last["inputs"], last["ok"], last["failures"]) == (7, 4, {"dns": 2, "timeout": 1})
    assert asked(again) == ["b", "d"]
    assert DataSet.read(str(tmp_path)).failed == {"d": "timeout", "f": "dns", "g": "dns"}


def test_with_nothing_to_try_again_nothing_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    execute(job(store, inputs), flags())
    first, before = result(capsys), files(store)
    again = job(store, inputs, "server_error")
    assert execute(again, flags()) == 0
    told = capsys.readouterr()
    assert "planned 0 inputs to try again, 4 shards in all" in told.err
    assert json.loads(told.out.splitlines()[-1]) | {"seconds": 0} == first | {"seconds": 0}
    assert asked(again) == []
    assert files(store) == before


def test_a_first_run_may_try_again_at_once(tmp_path: Path) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    given = job(store, inputs, "all")
    execute(given, flags())
    assert asked(given) == sorted("abcdefgbdfg")
    assert DataSet.read(str(tmp_path)).summary["inputs"] == 7


@pytest.mark.parametrize("retry", [(), ("timeout",), ("all",)])
@pytest.mark.parametrize("left", [0, 1])
def test_interrupted_retries_are_ended_and_no_others_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retry: tuple[str, ...], left: int
) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    execute(job(store, inputs), flags())
    monkeypatch.setattr(LocalCluster, "left", left)
    with pytest.raises(StorageError, match="full"):
        execute(job(store, inputs, "timeout"), flags(shard_size=1))
    assert not store.exists("_SUCCESS")
    monkeypatch.setattr(LocalCluster, "left", 1000)
    inputs |= {name: Given(data=png(ord(name))) for name in "dfg"}
    given = job(store, inputs, *retry)
    execute(given, flags(shard_size=1))
    assert asked(given) == ["b", "d"][left:]
    found = DataSet.read(str(tmp_path))
    assert found.failed == {"b": "timeout", "f": "dns", "g": "dns"}
    assert len(Run(store, "ingest", {}, layout=LAYOUT).rounds) == 2


def test_retries_that_lack_nothing_but_their_end_are_not_begun_again(tmp_path: Path) -> None:
    def broken(*_: object) -> Finished:
        raise StorageError("the disk is full")

    store, inputs = open_store(str(tmp_path)), some()
    execute(job(store, inputs), flags())
    with pytest.raises(StorageError, match="full"):
        execute(job(store, inputs, "timeout", last_pass=broken), flags())
    given = job(store, inputs, "timeout")
    execute(given, flags())
    assert asked(given) == []
    assert DataSet.read(str(tmp_path)).summary["failures"] == {"dns": 2, "timeout": 2}


def test_an_interrupted_first_round_is_ended_before_anything_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    monkeypatch.setattr(LocalCluster, "left", 1)
    with pytest.raises(StorageError):
        execute(job(store, inputs), flags())
    monkeypatch.setattr(LocalCluster, "left", 1000)
    given = job(store, inputs, "timeout")
    execute(given, flags())
    assert asked(given) == sorted("cdefgbd")


def test_the_exit_code_follows_the_last_word(tmp_path: Path) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    assert execute(job(store, inputs), flags(max_failure_rate=0.5)) == 1
    inputs |= {name: Given(data=png(ord(name))) for name in "bdfg"}
    assert execute(job(store, inputs, "timeout"), flags(max_failure_rate=0.5)) == 0
    assert execute(job(store, inputs), flags(max_failure_rate=0)) == 1
    assert execute(job(store, inputs, "all"), flags(max_failure_rate=0)) == 0


def test_inputs_that_are_tried_again_are_no_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    execute(job(store, inputs), flags())
    execute(job(store, inputs, "dns"), flags())
    inputs["h"] = Given(data=png(8))
    capsys.readouterr()
    execute(job(store, inputs), flags(dry_run=True))
    shown = ("inputs", "shards", "shards_done", "new", "changed", "gone", "left")
    assert [result(capsys)[name] for name in shown[:1]] == [8]
    execute(job(store, inputs), flags(dry_run=True, extend=True))
    plan = result(capsys)
    assert [plan[name] for name in shown] == [8, 5, 5, 1, 0, 0, 1]
    execute(job(store, inputs), flags(extend=True))
    assert result(capsys)["inputs"] == 8


def test_the_last_pass_says_which_parts_stay(tmp_path: Path) -> None:
    store, inputs = open_store(str(tmp_path)), some()
    inputs["h"] = inputs["a"]
    execute(job(store, inputs), flags())
    found = DataSet.read(str(tmp_path))
    run = Run(store, "ingest", {}, layout=LAYOUT)
    committed = {part for commit in run.commits() for part in commit.parts}
    images = {name for name in found.names if name.startswith("images/")}
    assert len(images) == sum(part.startswith("images/") for part in committed)
    assert len(images - committed) == 1  # the marked copy, and not what it is a copy of
    assert {part for part in committed if part.startswith(("ledger/", "contents/"))} < set(
        found.names
    )
    assert found.summary["verb"] == "ingest"
    assert found.summary["note"] == "a note"


def foreign(store: Store) -> dict[str, bytes]:
    """Put files of others wherever a run writes."""
    names = [
        *(f"{folder}/notes.txt" for folder in (*LAYOUT.tables, "marks", "commits", "plan")),
        f"images/part-000099-{'0' * 16}.parquet",
        f"failures/part-000000-{'0' * 15}.parquet",
        f"marks/{'0' * 16}-000000.json",
        *("summary.json", "metrics/part.parquet", "near_duplicates.csv", "near_duplicates/a"),
        *("attempts/mine", "mine/dataset.json"),
    ]
    for name in names:
        store.put(name, name.encode())
    return {name: name.encode() for name in names}


def busy(store: Store, folder: Path) -> Inputs:
    """Make a run of three rounds, with marks, and with what killed attempts leave."""
    inputs = some()
    inputs["h"] = inputs["a"]
    execute(job(store, inputs), flags())
    inputs["i"] = inputs["a"]
    execute(job(store, inputs), flags(extend=True))
    execute(job(store, inputs, "all"), flags())
    plan = Run(store, "ingest", {}, layout=LAYOUT).plan_ids[0]
    store.put(f"attempts/{plan}-000000-3", b"")
    store.put(f"images/part-000000-{'1' * 16}.parquet", b"of an attempt that died")
    (folder / "images" / ".redaction-tmp-0123").write_bytes(b"half")
    return inputs


def test_overwrite_removes_exactly_what_the_run_wrote(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    busy(store, tmp_path)
    names = set(files(store))
    for start in ("images/", "ledger/", "contents/", "failures/", "marks/", "commits/", "plan/"):
        assert any(name.startswith(start) for name in names), start
    assert names >= {"dataset.json", "near_duplicates.parquet", "run.json", "_SUCCESS"}
    others = foreign(store)
    assert remove_run(store)
    assert files(store) == others
    assert not any(path.name.startswith(".redaction-tmp") for path in tmp_path.rglob("*"))
    assert remove_run(store) is False


def test_overwrite_starts_over_and_leaves_others_alone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    inputs = busy(store, tmp_path)
    others = foreign(store)
    given = job(store, inputs, config={"size": 9})
    with pytest.raises(UsageError, match="size"):
        execute(given, flags())
    assert execute(given, flags(overwrite=True)) == 0
    after = files(store)
    assert {name: after[name] for name in others} == others
    assert asked(given) == sorted(inputs)
    assert len(Run(store, "ingest", {"size": 9}, layout=LAYOUT).rounds) == 1


@pytest.mark.parametrize(
    "name", ["images/a.png", "failures/a", "contents/a", "dataset.json", "near_duplicates.parquet"]
)
def test_what_no_run_wrote_is_in_the_way(tmp_path: Path, name: str) -> None:
    store = open_store(str(tmp_path))
    store.put(name, b"mine")
    for values in ({}, {"overwrite": True}, {"dry_run": True}):
        with pytest.raises(UsageError, match=r"but no plan\.json"):
            execute(job(store, some()), flags(**values))
    assert files(store) == {name: b"mine"}
