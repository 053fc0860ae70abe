"""S3 that spoils answers, is away, or refuses: tried again, or one line."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.errors import (
    RedactionCoreError,
    StorageError,
    UsageError,
)
from redaction_core.storage import Store, open_store
from tests.integration.faulty_proxy import FaultyProxy

ACTIONS = {
    "list": lambda store: list(store.list()),
    "read": lambda store: store.read("key"),
    "put": lambda store: store.put("key", b"new"),
    "put_if_absent": lambda store: store.put_if_absent("other", b"new"),
    "open": lambda store: store.open("key").read(),
    "entry": lambda store: store.entry("key"),
    "exists": lambda store: store.exists("key"),
    "delete": lambda store: store.delete(["key"]),
    "check": lambda store: store.check(),
}
UNNAMED = {"exists", "open", "entry"}  # HEAD has no body that could say what is missing


@pytest.fixture
def store(s3_location: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "5")
    return open_store(s3_location)


@pytest.fixture
def proxy(
    s3_location: str, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    del s3_location
    monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "5")
    with FaultyProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def test_a_part_cut_short_is_asked_for_again(proxy: FaultyProxy, s3_location: str) -> None:
    store = open_store(s3_location)
    data = os.urandom(3_000_000)
    store.put("key", data)
    with store.open("key") as file:
        proxy.faults.extend(["cut", "503", "drop", "pass", "cut"])
        assert file.read(3_000_000) == data
    assert not proxy.faults


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("faults", [("503",), ("500", "drop", "429"), ("lose",)])
def test_transient_faults_are_tried_again(
    action: str, faults: tuple[str, ...], proxy: FaultyProxy, s3_location: str
) -> None:
    store = open_store(s3_location)
    store.put("key", b"data")
    proxy.faults.extend(faults)
    ACTIONS[action](store)
    assert not proxy.faults


def test_an_answer_cut_short_is_asked_for_again(proxy: FaultyProxy, s3_location: str) -> None:
    store = open_store(s3_location)
    store.put("key", bytes(100_000))
    proxy.faults.extend(["cut", "cut"])
    assert store.read("key").data == bytes(100_000)
    assert not proxy.faults


@pytest.mark.parametrize("fault", ["409", "412", "503", "drop"])
def test_a_refusal_that_stored_nothing_is_no_success(
    fault: str, proxy: FaultyProxy, s3_location: str
) -> None:
    store = open_store(s3_location)
    proxy.faults.extend([fault, "pass", fault])
    assert store.put_if_absent("key", b"mine") is True
    assert store.read("key").data == b"mine"


def test_a_lost_answer_to_ones_own_write_says_it_is_there(
    proxy: FaultyProxy, s3_location: str
) -> None:
    store = open_store(s3_location)
    proxy.faults.extend(["lose", "drop"])
    assert store.put_if_absent("key", b"mine") is False
    assert store.read("key").data == b"mine"


@pytest.mark.parametrize("action", ACTIONS)
def test_a_server_that_is_not_there(
    action: str, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "0.2")
        with pytest.raises(StorageError, match="the server does not answer; check the endpoint"):
            ACTIONS[action](open_store(s3_location))


@pytest.mark.parametrize("action", ACTIONS)
def test_credentials_that_are_wrong(
    action: str, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(StorageError, match="check the credentials") as caught:
        ACTIONS[action](open_store(s3_location))
    assert "not-the-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("action", sorted(ACTIONS.keys() - UNNAMED))
def test_a_bucket_that_is_not_there(action: str, s3_location: str) -> None:
    del s3_location
    with pytest.raises(RedactionCoreError, match="no such bucket") as caught:
        ACTIONS[action](open_store("s3://not-there/prefix"))
    if action in ("list", "check"):
        assert isinstance(caught.value, UsageError)


def test_no_credentials_at_all(
    s3_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="no credentials were found"):
        open_store(s3_location)
    monkeypatch.setenv("AWS_PROFILE", "unknown")
    with pytest.raises(StorageError, match="unknown"):
        open_store(s3_location)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no url")
    monkeypatch.delenv("AWS_PROFILE")
    with pytest.raises(StorageError, match="the endpoint is no http"):
        open_store(s3_location)


def test_a_killed_server_comes_back_with_all_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedS3(tmp_path, ["one"]) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store("s3://one")
        for number in range(20):
            store.put(f"{number:02d}", b"data")
        server.kill()
        timer = threading.Timer(0.5, server.start)
        timer.start()
        assert store.put_if_absent("late", b"data")
        timer.join()
        assert len(list(store.list())) == 21
        assert store.read("19").data == b"data"
