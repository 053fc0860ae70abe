"""An S3 that misbehaves: stalls, resets, answers in part, whatever a network does to one."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import HTTPClientError

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.errors import Failure, InputError, StorageError, UsageError
from redaction_core.storage import Store, open_store, s3, s3_clients
from redaction_core.storage.s3_clients import READ_AT_ONCE
from redaction_core.storage.s3_requests import within
from tests.integration.faulty_proxy import KINDS, FaultyProxy

LARGE = 2 * READ_AT_ONCE + 5


@pytest.fixture
def proxy(
    s3_location: str, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    del s3_location
    monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "20")
    monkeypatch.setenv("REDACTION_STORAGE_TIMEOUT_S", "0.3")
    with FaultyProxy(s3_server.endpoint) as proxy:
        proxy.drip_s, proxy.stall_s = 0.01, 10
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def store(proxy: FaultyProxy, s3_location: str) -> Store:
    del proxy  # for the environment
    return open_store(s3_location)


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_every_request_passes_every_fault(kind: str, proxy: FaultyProxy, store: Store) -> None:
    def spoil() -> None:
        proxy.faults.clear()
        proxy.faults.append(kind)

    spoil()
    store.put("key", b"data")
    spoil()
    assert store.read("key").data == b"data"
    spoil()
    assert store.entry("key").size == 4
    spoil()
    assert store.open("key").read() == b"data"
    spoil()
    store.put_if_absent("other", b"mine")
    spoil()
    assert store.put_if_absent("other", b"yours") is False
    spoil()
    assert [(entry.key, entry.size) for entry in store.list()] == [("key", 4), ("other", 4)]
    spoil()
    assert store.delete(["key", "other"]) == 2
    spoil()
    assert not store.exists("other")
    spoil()
    store.check()
    proxy.faults.clear()
    assert list(store.list()) == []
    assert proxy.spoilt == {kind: 10}


def test_nothing_is_lost_or_doubled_by_chance(proxy: FaultyProxy, store: Store) -> None:
    proxy.rate = 0.3
    keys = [f"{number:03}" for number in range(60)]
    done: list[str] = []

    def write(part: list[str]) -> None:
        for key in part:
            store.put_if_absent(key, key.encode())
            assert store.read(key).data == key.encode()
            done.append(key)

    threads = [threading.Thread(target=write, args=(keys[at::8],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == keys
    assert [entry.key for entry in store.list()] == keys
    assert 0.2 < proxy.spoilt.total() / proxy.requests < 0.4


def test_a_listing_that_ends_before_its_body_is_no_empty_folder(
    proxy: FaultyProxy, store: Store
) -> None:
    store.put("key", b"data")
    proxy.faults.extend(["behead", "behead"])
    assert [entry.key for entry in store.list()] == ["key"]
    assert not proxy.faults


@pytest.fixture
def patient_store(proxy: FaultyProxy, s3_location: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Give one for which a slow machine is no fault."""
    del proxy
    monkeypatch.delenv("REDACTION_STORAGE_TIMEOUT_S")
    return open_store(s3_location)


def test_a_large_object_is_read_in_parts(proxy: FaultyProxy, patient_store: Store) -> None:
    data = os.urandom(LARGE)
    patient_store.put("key", data)
    before = proxy.requests
    proxy.faults.extend(["pass", "pass", "cut", "pass", "503"])
    blob = patient_store.read("key")
    assert blob.data == data
    assert [entry.version for entry in patient_store.list()] == [blob.version]
    assert proxy.requests - before == 1 + 3 + 2 + 1  # whole, parts, faults, list
    with patient_store.open("key") as file:
        assert file.read(LARGE) == data


def test_a_large_object_replaced_while_it_is_read(
    proxy: FaultyProxy, patient_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient_store.put("key", bytes(LARGE))
    faults = iter(("pass", "pass", "drop"))  # whole, the first part, the second

    def draw(_: str) -> str:
        fault = next(faults, "pass")
        if fault == "drop":
            patient_store.put("key", b"1" * LARGE)
        return fault

    monkeypatch.setattr(proxy, "draw", draw)
    with pytest.raises(InputError) as caught:
        patient_store.read("key")
    assert caught.value.failure is Failure.INPUT_CHANGED


def test_what_is_slow_but_moves_is_no_fault(
    proxy: FaultyProxy, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take longer than a stall may."""
    monkeypatch.setenv("REDACTION_STORAGE_TIMEOUT_S", "1")
    store = open_store(s3_location)
    proxy.drip_s = 0.15
    data = os.urandom(2**22)
    proxy.faults.extend(["slow", "slow"])
    store.put("key", data)
    assert store.read("key").data == data
    assert proxy.requests == 2


def test_requests_that_hang_are_tried_three_times(
    proxy: FaultyProxy, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "0.1")
    store = open_store(s3_location)
    proxy.faults.extend(["stall", "lose-stall"])
    store.put("key", b"data")
    proxy.faults.extend(["stall"] * 9)
    with pytest.raises(StorageError, match=r"cannot read key in .*: the server does not answer;"):
        store.read("key")
    assert len(proxy.faults) == 6
    monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "0")
    proxy.faults.clear()
    proxy.faults.extend(["503"] * 9)
    with pytest.raises(StorageError, match="SlowDown"):
        open_store(s3_location).read("key")
    assert len(proxy.faults) == 8


def test_a_listing_that_drips_is_given_up(
    proxy: FaultyProxy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HTTPClientError, match=r"no whole answer in 0\.1 s"):
        within(0.1, lambda: time.sleep(1))
    with pytest.raises(KeyError):
        within(9, lambda: {}["raised as it is"])
    # Each byte comes in time.
    proxy.drip_s = 0.2
    proxy.faults.append("slow")
    monkeypatch.setattr(s3, "_PAGE_BYTES", 2**16)
    assert list(store.list()) == []
    assert proxy.requests > 1


def test_the_region_of_a_bucket_is_asked_for_again(
    proxy: FaultyProxy, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_clients, "_on_aws", lambda _: True)
    proxy.faults.extend(["503", "drop"])
    open_store(s3_location)
    assert not proxy.faults
    assert proxy.requests == 3


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_that_is_none(
    text: str, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDACTION_STORAGE_TIMEOUT_S", text)
    with pytest.raises(UsageError, match="REDACTION_STORAGE_TIMEOUT_S"):
        open_store(s3_location)
