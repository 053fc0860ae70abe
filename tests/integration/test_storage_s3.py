"""S3 as a store, against a real server; the same keys mean the same as on disk."""

import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.errors import (
    Failure,
    InputError,
    ObjectMissingError,
    StorageError,
)
from redaction_core.storage import Entry, Store, open_file, open_store

KEYS = (
    "a b/c d",
    "a#b?c",
    "a%2Fb%",
    "a-/x",
    "a.jpg",
    "a/b",
    "a/b-c",
    "a/b-/c",
    "a0",
    "ü/é",
    "e\u0301",
    "\U0001f600",
    "\uffee",
    ".hidden",
    "~x/'\"()+&=;@:$,![]{}^`|<>*",
    "n" * 255,
    "/".join(["deep"] * 100),
)


@pytest.fixture
def store(s3_location: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "5")
    return open_store(s3_location)


@pytest.fixture
def client(s3_location: str, s3_server: EmbeddedS3) -> Iterator[Any]:
    del s3_location  # for the environment
    client = boto3.client("s3", endpoint_url=s3_server.endpoint)
    yield client
    client.close()


def test_what_is_put_is_read(store: Store) -> None:
    for key in KEYS:
        assert not store.exists(key)
        assert store.put_if_absent(key, b"one") is True
        assert store.put_if_absent(key, b"two") is False
        assert store.exists(key)
        blob = store.read(key)
        assert blob.data == b"one"
        assert list(store.list()) == [Entry(key=key, size=3, version=blob.version)]
        store.put(key, b"three")
        assert store.read(key).data == b"three"
        assert store.delete([key, key]) == 2
        assert list(store.list()) == []


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_listing_equals_that_of_a_folder(
    store: Store, tmp_path: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few names a page, folders are listed beside each other, at all depths."""
    monkeypatch.setattr("redaction_core.storage.s3._PAGE", page)
    disk = open_store(str(tmp_path))
    for key in KEYS:
        store.put(key, key.encode())
        disk.put(key, key.encode())
    for prefix in ("", "a", "a/", "a/b-", "a/b-/", "deep/deep/", "nothing/", "ü"):
        on_disk = [(entry.key, entry.size, entry.problem) for entry in disk.list(prefix)]
        on_s3 = [(entry.key, entry.size, entry.problem) for entry in store.list(prefix)]
        assert on_s3 == on_disk
    assert [entry.key for entry in store.list()] == sorted(KEYS, key=str.encode)


def test_listing_goes_on_over_pages(store: Store) -> None:
    keys = [f"{number:04d}" for number in range(1005)]
    for key in keys:
        store.put(key, b"")
    assert [entry.key for entry in store.list()] == keys
    assert [store.any_of(prefix) for prefix in ("0700", "1", "none")] == [
        store.entry("0700"),
        store.entry("1000"),
        None,
    ]
    assert store.delete(iter(keys)) == 1005
    assert list(store.list()) == []


@pytest.mark.parametrize(
    ("told", "listed"),
    [
        ("<IsTruncated>false</IsTruncated><NextContinuationToken/>", ["a"]),
        ("<IsTruncated>true</IsTruncated><NextContinuationToken/>", None),
        ("<IsTruncated>true</IsTruncated>", None),
        ("", None),
    ],
)
def test_a_listing_ends_where_the_server_says_so(
    told: str, listed: list[str] | None, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = "<Contents><Key>x/a</Key><ETag>1</ETag><Size>1</Size></Contents>"

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<ListBucketResult>{told}{item}</ListBucketResult>".encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    del s3_location  # for the environment
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("REDACTION_STORAGE_RETRY_S", "0")
        store = open_store("s3://bucket/x")
        if listed is None:
            with pytest.raises(StorageError, match="cannot list "):
                list(store.list())
        else:
            assert [entry.key for entry in store.list()] == listed
        server.shutdown()


def test_names_that_only_s3_has(client: Any, s3_location: str) -> None:  # noqa: ANN401
    bucket, prefix = s3_location.removeprefix("s3://").split("/")
    names = ("folder/", "folder/file", "line\nbreak", "tab\t", "del\x7f")
    for name in names:
        client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"1")
    found = {entry.key: entry.problem for entry in open_store(s3_location).list()}
    assert found == {
        "folder/file": None,
        "line\\u000abreak": Failure.BAD_NAME,
        "tab\\u0009": Failure.BAD_NAME,
        "del\\u007f": Failure.BAD_NAME,
    }


def test_bad_keys_go_nowhere(store: Store) -> None:
    for key in ("", "/a", "a/", "a//b", "a/../b", "./a", "a\nb", "a\\b"):
        for action in (store.read, store.exists):
            with pytest.raises(InputError, match=Failure.BAD_NAME):
                action(key)
        for write in (store.put, store.put_if_absent):
            with pytest.raises(InputError, match=Failure.BAD_NAME):
                write(key, b"")
        with pytest.raises(InputError, match=Failure.BAD_NAME):
            store.delete([key])
    assert list(store.list()) == []


def test_a_prefix_is_a_folder_and_not_the_start_of_a_name(s3_location: str) -> None:
    open_store(s3_location + "/ab").put("x", b"")
    assert list(open_store(s3_location + "/a").list()) == []
    assert [entry.key for entry in open_store(s3_location).list()] == ["ab/x"]


def test_reading_what_is_not_there_or_too_large(store: Store) -> None:
    store.put("file", b"123")
    for key in ("nothing", "no/thing", "file/below", "n" * 300):
        with pytest.raises(ObjectMissingError):
            store.read(key)
        assert not store.exists(key)
    assert store.read("file", max_bytes=3).data == b"123"
    with pytest.raises(InputError) as caught:
        store.read("file", max_bytes=2)
    assert caught.value.failure is Failure.TOO_MANY_BYTES


def test_versions_agree_for_large_objects(store: Store) -> None:
    data = os.urandom(9_000_000)  # more than one chunk of the server
    store.put("large", data)
    blob = store.read("large")
    assert blob.data == data
    assert [entry.version for entry in store.list()] == [blob.version]


def test_reading_in_parts(store: Store) -> None:
    data = os.urandom(9_000_000)
    for key in KEYS[:2]:
        store.put(key, data)
    for key in KEYS[:2]:
        with store.open(key) as file:
            assert file.seekable()
            assert file.read(10) == data[:10]
            assert file.seek(5_000_000) == 5_000_000
            assert file.read(5_000_000) == data[5_000_000:]
            assert file.read(1) == b""
            assert file.seek(-5, os.SEEK_END) == len(data) - 5
            assert file.read() == data[-5:]
            assert file.seek(0) == 0
            assert file.read() == data
    assert [store.entry(key) for key in sorted(KEYS[:2], key=str.encode)] == list(store.list())
    store.put("empty", b"")
    assert store.open("empty").read() == b""
    assert store.entry("empty").size == 0


def test_looking_at_what_is_not_there(store: Store) -> None:
    store.put("file", b"123")
    for key in ("nothing", "no/thing", "file/below", "n" * 300):
        for look in (store.open, store.entry):
            with pytest.raises(ObjectMissingError):
                look(key)
    with pytest.raises(InputError, match=Failure.BAD_NAME):
        store.open("a//b")


@pytest.mark.parametrize("size", [9_000_000, 5])
def test_an_object_replaced_while_it_is_read(size: int, store: Store) -> None:
    store.put("key", bytes(9_000_000))
    with store.open("key") as file:
        file.read(10)
        store.put("key", b"1" * size)
        with pytest.raises(InputError) as caught:
            file.read()
    assert caught.value.failure is Failure.INPUT_CHANGED


def test_locations_of_objects(s3_location: str) -> None:
    open_store(s3_location).put("a/b c", b"data")
    store, key = open_file(f"{s3_location}/a/b c")
    assert (store.location, key) == (f"{s3_location}/a", "b c")
    assert store.open(key).read() == b"data"


def test_of_many_writers_one_wins(store: Store) -> None:
    start = threading.Barrier(8)
    won: list[bytes] = []

    def write(number: int) -> None:
        start.wait()
        if store.put_if_absent("key", b"%d" % number):
            won.append(b"%d" % number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.read("key").data] == won


def test_stores_travel_by_location(store: Store) -> None:
    store.put("key", b"data")
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
    assert copy.location == store.location
    assert copy.read("key").data == b"data"
