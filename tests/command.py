"""The real command as a process of its own, and what it left in its output."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self
from unittest import mock

import pyarrow.parquet as pq

from jobs._command import run_command
from redaction_core.storage import DiskStore, Store, open_store

ROOT = Path(__file__).parent.parent
LIMIT_S = 300
WITHOUT_RAY = {"RAY_ADDRESS": "127.0.0.1:1"}
"""An environment in which a command fails as soon as it needs Ray: nobody listens there."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a person, or a script, sees of a command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object in the last line."""
        found: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return found

    @property
    def error(self) -> str:
        """The error's one line; fails when stderr holds anything else, or stdout anything."""
        (line,) = self.stderr.splitlines()
        assert line.startswith("error: "), line
        assert not self.stdout
        return line


@dataclass(kw_only=True)
class Command:
    """A running `python -m jobs.<verb>`; its output goes to files, as pipes fill up."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        log: Path,
        *flags: str,
        verb: str = "reconstruct",
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start it; `log` names a folder for what it prints."""
        log.mkdir(parents=True, exist_ok=True)
        variables = {**os.environ, **(environment or {})}
        if not environment or "RAY_ADDRESS" not in environment:
            variables.pop("RAY_ADDRESS", None)
        with (log / "stdout").open("wb") as out, (log / "stderr").open("wb") as error:
            process = subprocess.Popen(
                [sys.executable, "-m", f"jobs.{verb}", *flags],
                cwd=ROOT,
                env=variables,
                stdout=out,
                stderr=error,
            )
        return cls(process=process, log=log)

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Wait for its end, or end it when it hangs."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            raise
        out, error = ((self.log / name).read_text() for name in ("stdout", "stderr"))
        return Ended(code=code, stdout=out, stderr=error)


def run(
    log: Path,
    *flags: str,
    verb: str = "reconstruct",
    environment: Mapping[str, str] | None = None,
    limit_s: float = LIMIT_S,
) -> Ended:
    """Run the command to its end."""
    return Command.start(log, *flags, verb=verb, environment=environment).wait(limit_s)


def run_here(verb: str, *flags: str, environment: Mapping[str, str] | None = None) -> Ended:
    """Run the command in this process, up to where it needs Ray: in a tenth of the time."""
    module = import_module(f"jobs.{verb}")
    out, error = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {**WITHOUT_RAY, **(environment or {})}),
        mock.patch.object(sys, "argv", [verb, *flags]),
        redirect_stdout(out),
        redirect_stderr(error),
    ):
        try:
            run_command(getattr(module, verb.title()), getattr(module, verb))
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return Ended(code=code, stdout=out.getvalue(), stderr=error.getvalue())


@dataclass(kw_only=True)
class Output:
    """All that a run left, read into memory."""

    images: dict[str, bytes]
    rows: list[dict[str, Any]]
    """Rows of all parts, by key, without `seconds`."""
    names: list[str]
    """All keys; of the parts of the metrics, which hold times, the part without the hash."""
    temporary: list[str] = field(default_factory=list)
    """Files that a listing hides."""

    @classmethod
    def read(cls, location: str) -> Self:
        """Read the output at a location."""
        store = open_store(location)
        keys = [entry.key for entry in store.list()]
        parts = [key for key in keys if key.startswith("metrics/")]
        return cls(
            images={key: store.read(key).data for key in keys if key.startswith("images/")},
            rows=sorted(
                (row for part in parts for row in _rows(store, part)), key=lambda row: row["key"]
            ),
            names=[key.rpartition("-")[0] if key in parts else key for key in keys],
            temporary=_hidden(store, keys),
        )


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Give every name below a folder, with its size and the time it was changed, in ns."""
    found = {str(path.relative_to(root)): path.lstat() for path in root.rglob("*")}
    return {name: (each.st_size, each.st_mtime_ns) for name, each in found.items()}


def _rows(store: Store, part: str) -> list[dict[str, Any]]:
    table = pq.read_table(io.BytesIO(store.read(part).data))
    return list(table.drop_columns(["seconds"]).to_pylist())


def _hidden(store: Store, keys: list[str]) -> list[str]:
    if not isinstance(store, DiskStore):
        return []
    found = {path for path in Path(store.root).rglob("*") if path.is_file()}
    return sorted(map(str, found - {Path(store.root, key) for key in keys}))
