"""A run from its plan to `_SUCCESS`; shards are committed by hand, where Ray would do them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs._command import RunFlags
from jobs._run import execute
from jobs._verb import ESTIMATE, Job, Verb
from redaction_core.commits import Commit, Run, commit_shard, read_shard
from redaction_core.errors import StorageError, UsageError
from redaction_core.plan import PlannedInput, planned, shards
from redaction_core.schemas import METRICS
from redaction_core.storage import open_store
from redaction_core.totals import Totals


def job(folder: Path, **changes: Any) -> Job:  # noqa: ANN401 - any field
    outputs = open_store(str(folder / "out"))
    verb = Verb(name="small", output=outputs, open_work=partial(int), tables={"metrics": METRICS})  # type: ignore[arg-type]  # never opened
    given = Job(
        source=str(folder / "in"),
        listed=partial(listed, str(folder / "in")),
        config={"seed": 0},
        shards=verb,
        guess_s=lambda: 2.0,
    )
    return replace(given, **changes)


def listed(folder: str, earlier: Iterable[PlannedInput]) -> Iterator[PlannedInput]:
    return planned(open_store(folder).list(), ".png", earlier)


def flags(**values: Any) -> RunFlags:  # noqa: ANN401 - any flag
    return RunFlags(output="out", **({"shard_size": 2} | values))


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(name.encode())


def commit_all(given: Job, failures: int = 0) -> None:
    """Plan as the job would, and commit every shard; the first inputs of the run fail."""
    run = Run(given.outputs, given.verb, given.config)
    inputs = run.new_inputs(given.listed(run.planned()))
    run.add_round(shards(inputs, 2), shard_size=2)
    for shard in list(run.pending()):
        totals = Totals()
        for item in read_shard(given.outputs, shard):
            bad = totals.inputs + 2 * shard.number < failures
            row = {"failure": "truncated" if bad else None, "mae": 0.5, "key": item.key}
            totals.add(Totals.of_rows([row], ["mae"]))
        commit_shard(
            given.outputs, shard, Commit(shard=shard.number, parts=(), totals=totals.to_json())
        )


def finished(folder: Path, failures: int = 0) -> Job:
    """Run three inputs to the end, in two shards."""
    put(folder, "a", "b", "c")
    given = job(folder)
    commit_all(given, failures)
    assert execute(given, flags(max_failure_rate=1)) == 0
    return given


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("failures", "rate", "code"), [(0, 0, 0), (1, 0.2, 0), (2, 0.2, 1), (5, 1, 0), (1, 0, 1)]
)
def test_commits_add_up_and_decide_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], failures: int, rate: float, code: int
) -> None:
    put(tmp_path, "a", "b", "c", "d", "e")
    given = job(tmp_path)
    commit_all(given, failures)

    assert execute(given, flags(max_failure_rate=rate)) == code

    told = result(capsys)
    assert told.pop("seconds") >= 0
    assert told == {
        "verb": "small",
        "status": "too_many_failures" if code else "complete",
        "output": str(tmp_path / "out"),
        "inputs": 5,
        "ok": 5 - failures,
        "failed": failures,
        "failures": {"truncated": failures} if failures else {},
        "means": {"mae": 0.5},
        "images_per_s_per_worker": None,  # nothing was left to do
    }
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["note"] == ESTIMATE
    assert summary["means"] == told["means"]
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["config"] == {"seed": 0}


def test_a_finished_run_says_the_same_again_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = finished(tmp_path, failures=1)
    first, before = result(capsys), files(tmp_path)

    assert execute(given, flags()) == 1

    second = result(capsys)
    assert second | {"seconds": 0, "status": "complete"} == first | {"seconds": 0}
    assert files(tmp_path) == before


def test_a_finished_run_rids_itself_of_parts_that_come_too_late(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = finished(tmp_path)
    first, before = result(capsys), files(tmp_path)
    for number in (1, 2):
        given.outputs.put(f"metrics/part-000000-{number:016}.parquet", b"of late attempts")

    assert execute(given, flags()) == 0

    assert result(capsys) | {"seconds": 0} == first | {"seconds": 0}
    assert files(tmp_path).keys() == before.keys()


def test_the_whole_share_of_failures_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a", "b")
    commit_all(job(tmp_path), 1)

    assert execute(job(tmp_path), flags()) == 1

    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 2 inputs failed, more than --max-failure-rate 0.05")
    assert f"{tmp_path}/out/metrics" in error


def test_an_empty_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()

    for dry_run in (False, True):
        with pytest.raises(UsageError, match="holds no inputs"):
            execute(job(tmp_path), flags(dry_run=dry_run))
    assert files(tmp_path) == {}


def test_a_missing_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        execute(job(tmp_path), flags())
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "link"), ("link/b", "a"), (".", "a")],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_an_output_inside_the_input_is_refused(
    tmp_path: Path, inputs: str, outputs: str, *, dry_run: bool
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a")
    given = job(tmp_path)
    verb = replace(given.shards, output=open_store(str(tmp_path / outputs)))
    given = replace(given, source=str(tmp_path / inputs), shards=verb)
    before = files(tmp_path)

    with pytest.raises(UsageError, match="lie in each other"):
        execute(given, flags(dry_run=dry_run, overwrite=True))
    assert files(tmp_path) == before


def test_names_that_only_begin_alike_lie_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a")
    outputs = open_store(str(tmp_path / "inner"))
    given = job(tmp_path, shards=replace(job(tmp_path).shards, output=outputs))

    assert execute(given, flags(dry_run=True)) == 0
    assert result(capsys)["inputs"] == 1


def test_a_dry_run_tells_the_plan_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a", "a.png", "bb", "c", "d")
    (tmp_path / "in" / "e").symlink_to("nowhere")
    (tmp_path / "in" / "f\n").write_bytes(b"")
    before = files(tmp_path)

    assert execute(job(tmp_path), flags(dry_run=True, workers=2)) == 0

    assert result(capsys) == {
        "verb": "small",
        "dry_run": True,
        "inputs": 7,
        "bytes": 10,
        "shards": 4,
        "collisions": 1,
        "bad_names": 1,
        "unreadable": 1,
        "shards_done": 0,
        "replaces_run": False,
        "left": 7,
        "workers": 2,
        "estimated_seconds": 7.0,
        "estimated_worker_hours": 0.004,
        "estimated_cost": None,
        "estimated_puts": 4 + 4 * 3,
        "estimated_gets": 7 + 4 * 4 + 4 * 4,
        "estimated_lists": 3 + 4,
    }
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_time_and_cost_of_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, *map(str, range(9)))
    given = job(tmp_path, puts_of_one=2)
    cluster = {"dry_run": True, "workers": 3, "worker_rate": 0.001, "worker_price": 0.5}

    execute(given, flags(**cluster))
    plan = result(capsys)
    assert plan["estimated_seconds"] == 3000
    assert plan["estimated_worker_hours"] == 2.5
    assert plan["estimated_cost"] == 1.25
    assert plan["estimated_puts"] == 9 * 2 + 5 + 5 * 3

    # Hosts that allow no more keep all workers waiting, and paid.
    execute(replace(given, least_s=lambda: 7200.0), flags(**cluster))
    assert result(capsys)["estimated_cost"] == 3


def test_a_dry_run_counts_requests_of_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a", "b", "c")
    given = job(tmp_path)
    commit_all(given)
    put(tmp_path, "d")
    names = ("estimated_puts", "estimated_gets", "estimated_lists")

    told = []
    for extend in (False, True):
        execute(given, flags(dry_run=True, extend=extend))
        plan = result(capsys)
        told.append([plan[name] for name in names])

    # Two shards are done; a third would be planned of the new input, and done.
    assert told == [[0, 2 * (4 + 2), 3], [1 + 3, 1 + 4 + 3 * (4 + 4), 4 + 1]]


def test_a_dry_run_tells_what_is_done_and_what_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = finished(tmp_path)
    put(tmp_path, "d", "e")
    (tmp_path / "in" / "a").write_bytes(b"changed")
    (tmp_path / "in" / "b").unlink()
    before = files(tmp_path)

    told = []
    for values in ({}, {"extend": True}, {"overwrite": True}):
        capsys.readouterr()
        execute(given, flags(dry_run=True, **values))
        told.append(result(capsys))

    shown = ("shards", "shards_done", "new", "changed", "gone", "left", "replaces_run")
    assert [[plan.get(name) for name in shown] for plan in told] == [
        [2, 2, 2, 1, 1, 0, False],
        [2, 2, 2, 1, 1, 2, False],
        [2, 0, None, None, None, 4, True],
    ]
    assert files(tmp_path) == before


def test_changed_inputs_and_other_settings_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a", "b")
    commit_all(job(tmp_path))
    before = files(tmp_path / "out")

    with pytest.raises(UsageError, match=r"seed.*--overwrite"):
        execute(job(tmp_path, config={"seed": 1}), flags())
    (tmp_path / "in" / "a").write_bytes(b"changed")
    with pytest.raises(UsageError, match="1 "):
        execute(job(tmp_path), flags(extend=True))
    assert files(tmp_path / "out") == before


def test_new_inputs_are_left_out_unless_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a", "b")
    given = job(tmp_path)
    commit_all(given)
    put(tmp_path, "c")

    assert execute(given, flags()) == 0

    told = capsys.readouterr()
    assert "left out are the 1 new ones: --extend adds them" in told.err
    assert json.loads(told.out.splitlines()[-1])["inputs"] == 2
    commit_all(given)
    assert execute(given, flags(extend=True)) == 0
    assert result(capsys)["inputs"] == 3


def test_outputs_that_cannot_be_written_end_the_run_before_it_begins(tmp_path: Path) -> None:
    put(tmp_path, "a")
    (tmp_path / "out").write_bytes(b"a file")

    with pytest.raises((UsageError, StorageError), match="not a folder"):
        execute(job(tmp_path), flags())


def test_nothing_is_removed_where_nothing_would_take_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a", "b", "c")
    given = job(tmp_path)
    commit_all(given)
    execute(given, flags())
    before = files(tmp_path / "out")
    capsys.readouterr()
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).unlink()

    with pytest.raises(UsageError, match="holds no inputs"):
        execute(given, flags(overwrite=True))
    assert files(tmp_path / "out") == before
    assert capsys.readouterr().err == ""
