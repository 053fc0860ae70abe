"""What MLflow is told of a training, and what is said where it fails or is missing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redaction_core.training.tracking import _SETTINGS, Tracking
from tests.unit.epochs import Said, epoch

MLFLOW = """
import json, os, pathlib, threading

def _note(*what):
    where = pathlib.Path(__file__).with_name("calls.jsonl")
    with where.open("a") as file:
        print(json.dumps([threading.get_ident(), *what]), file=file)
    if FAILS == what[0]:
        raise OSError("https://user:secret@tracker/api refused\\nthis")

def start_run(run_name):
    _note("start_run", run_name)

def log_params(params):
    _note("log_params", params)

def log_metrics(metrics, step):
    _note("log_metrics", metrics, step)

def end_run(status):
    _note("end_run", status)
    if os.environ.get("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT") != "true":
        print("View run at", os.environ["MLFLOW_TRACKING_URI"])
"""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str = "") -> Callable[[], Any]:
    """Install a module called mlflow that writes down how it is called; gives a reader of that."""
    folder.mkdir()
    (folder / "mlflow.py").write_text(f"FAILS = {fails!r}\n{MLFLOW}")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@tracker")
    for name in _SETTINGS:
        # Set and unset, so that what the code sets is undone after the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def calls() -> list[list[Any]]:
        monkeypatch.delitem(sys.modules, "mlflow", raising=False)
        file = folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return calls


def track(said: Said) -> None:
    tracking = Tracking("s3://a/out", {"crop": 96, "long": "x" * 9999}, said)
    tracking.epoch(epoch(1))
    tracking.epoch(epoch(2))
    tracking.close(finished=True)


def test_mlflow_gets_settings_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls, said = stand_in(tmp_path / "package", monkeypatch), Said()
    track(said)
    found = calls()
    assert len({thread for thread, *_ in found}) == 1
    names = [name for _, name, *_ in found]
    assert names == ["start_run", "log_params", "log_metrics", "log_metrics", "end_run"]
    assert found[0][2] == "s3://a/out"
    assert found[1][2] == {"crop": "96", "long": "x" * 500}
    metrics, step = found[2][2:]
    assert step == 10
    assert metrics["val/pixelate_4/mae"] == 0.02
    assert metrics["val/loss"] == 0.02
    assert found[-1][2] == "FINISHED"
    assert not said.lines
    assert "secret" not in capsys.readouterr().out


@pytest.mark.parametrize("fails", ["start_run", "log_params", "log_metrics", "end_run"])
def test_mlflow_fails_once_in_one_line_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    calls, said = stand_in(tmp_path / "package", monkeypatch, fails), Said()
    track(said)
    assert [name for _, name, *_ in calls()].count(fails) == 1
    assert calls()[-1][1] == fails
    assert len(said.lines) == 1
    assert "OSError" in said.lines[0]
    assert "secret" not in said.lines[0]


def test_mlflow_is_used_only_where_its_uri_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, said = stand_in(tmp_path / "package", monkeypatch), Said()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    track(said)
    assert not calls()
    assert not said.lines


def test_mlflow_that_is_not_installed_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracker")
    track(said)
    assert len(said.lines) == 1
    assert "not installed" in said.lines[0]
