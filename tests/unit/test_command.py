"""From flags to an exit code: what is refused, and what people are told."""

import json
import math
import sys
from dataclasses import dataclass

import pytest

from jobs._command import Pace, Progress, RunFlags, print_result, run_command
from redaction_core.errors import (
    CheckpointError,
    Failure,
    InputError,
    ObjectMissingError,
    StorageError,
    UsageError,
)
from redaction_core.totals import Totals


@dataclass(frozen=True, kw_only=True)
class Config:
    """A small command."""

    count: int = 1
    """How many."""


def exit_code(monkeypatch: pytest.MonkeyPatch, outcome: Exception | int, *flags: str) -> int:
    def small(config: Config) -> int:
        print(config.count)
        if isinstance(outcome, int):
            return outcome
        raise outcome

    monkeypatch.setattr(sys, "argv", ["small", *flags])
    with pytest.raises(SystemExit) as caught:
        run_command(Config, small)
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("why"), 2),
        (CheckpointError("why"), 2),
        (StorageError("why"), 1),
        (ObjectMissingError("why"), 1),
        (InputError(Failure.TRUNCATED, "why"), 1),
    ],
)
def test_errors_on_purpose_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
) -> None:
    assert exit_code(monkeypatch, error) == code
    assert capsys.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize("code", [0, 1])
def test_the_job_decides_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    assert exit_code(monkeypatch, code, "--count", "7") == code
    assert capsys.readouterr().out == "7\n"


@pytest.mark.parametrize("flags", [("--number", "1"), ("--count", "x"), ("--count",), ("more",)])
def test_flags_that_are_not_understood_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    assert exit_code(monkeypatch, 0, *flags) == 2
    assert capsys.readouterr().out == ""


def test_a_bug_is_no_error_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Config) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["broken"])
    with pytest.raises(ZeroDivisionError):
        run_command(Config, broken)


def test_interruption_tells_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def waits(_: Config) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["waits"])
    with pytest.raises(SystemExit) as caught:
        run_command(Config, waits)

    assert caught.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "values",
    [
        *({"max_failure_rate": value} for value in (-0.1, 1.1, math.nan)),
        *({"shard_size": value} for value in (0, -1)),
        *({"workers": value} for value in (0, -2)),
        *({"cpus_per_worker": value} for value in (0, -1, math.nan, math.inf)),
        *({"gpus_per_worker": value} for value in (-0.5, 1.5, math.nan)),
        *({"worker_rate": value} for value in (0, -1, math.nan, math.inf)),
        *({"worker_price": value} for value in (-1, math.nan, math.inf)),
        {"extend": True, "overwrite": True},
    ],
)
def test_flags_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"\A--[^\n]+\Z"):
        RunFlags(output="out", **values)  # type: ignore[arg-type]  # a grid of several kinds


@pytest.mark.parametrize(
    "values",
    [
        {},
        *({"max_failure_rate": value} for value in (0, 1)),
        *({"gpus_per_worker": value} for value in (0.5, 2)),
        {"shard_size": 1, "workers": 1, "cpus_per_worker": 0.25, "gpus_per_worker": 0},
        {"extend": True, "dry_run": True, "worker_rate": 1e-9, "worker_price": 0},
    ],
)
def test_flags_at_their_bounds_pass(values: dict[str, float]) -> None:
    RunFlags(output="out", **values)  # type: ignore[arg-type]  # a grid of several kinds


def test_the_result_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"a": 1, "b": {"ü": None}})
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": {"ü": None}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_result({"a": math.nan})


@pytest.mark.parametrize(
    ("times", "said"),
    [
        # Steps of 10 inputs; what is said, and that the wait before the first shard is no rate.
        ([100, 101, 102], ["30 of 30, 10 images/s, 0m00s left"]),
        (
            [3, 5, 7],
            [
                "10 of 30, 3 images/s, 0m06s left",
                "20 of 30, 5 images/s, 0m02s left",
                "30 of 30, 5 images/s, 0m00s left",
            ],
        ),
    ],
)
def test_progress(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    times: list[float],
    said: list[str],
) -> None:
    clock = iter([99.5 if times[0] == 100 else 0, *times])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = Progress("small", 30)

    for _ in times:
        progress.add(Totals(inputs=10))

    assert capsys.readouterr().err.splitlines() == [f"small: {line}" for line in said]


def test_progress_counts_failures_and_hours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0, 10, 20])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = Progress("small", 8000)
    totals = Totals.of_rows([{"failure": "truncated"}] * 10, [])

    progress.add(totals)
    progress.add(totals)

    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "small: 20 of 8000, 20 failed (truncated 20), 1 images/s, 2h13m left"


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        ([50], 10 / 50 / 2),  # one shard: with all that it takes to start
        ([50, 51, 52, 53, 54], (50 - 20) / 4 / 2),  # the first wait is that for both workers
    ],
)
def test_the_pace_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, times: list[float], rate: float
) -> None:
    clock = iter([0, *times])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    pace = Pace(2)
    assert pace.images_per_s is None

    for _ in times:
        pace.add(10)

    assert pace.images_per_s == pytest.approx(rate)
