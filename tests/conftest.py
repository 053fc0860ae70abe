"""Fixtures that several kinds of tests share."""

import signal
import uuid
from collections.abc import Iterator

import pytest

from redaction_core.embedded_s3 import EmbeddedS3

BUCKET = "tests"


def pytest_configure() -> None:
    """Let Ctrl-C end what tests start, also where a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    """Serve one real S3 server to all tests of the session."""
    with EmbeddedS3(tmp_path_factory.mktemp("s3"), [BUCKET]) as server:
        yield server


@pytest.fixture
def s3_location(s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give an empty prefix, with the environment that leads there."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"
