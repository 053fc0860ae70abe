"""Folders as stores, and the keys that all stores share."""

import errno
import os
import pickle
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from redaction_core.errors import (
    Failure,
    InputError,
    ObjectMissingError,
    StorageError,
    UsageError,
)
from redaction_core.storage import (
    Entry,
    Store,
    open_store,
    printable_key,
    why_bad_name,
)

ODD_KEYS = ("a b", "a#b?c", "a%2Fb%", "ü/é\U0001f600", ".hidden", "~x", "a'\"()+&=;@:$,", "a..b")
BAD_KEYS = ("", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\nb", "a\x7f", "a\\b", "\udcff", "\0")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "root"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("key", ODD_KEYS)
def test_what_is_put_is_read(store: Store, key: str) -> None:
    assert not store.exists(key)
    store.put(key, b"one")
    assert store.put_if_absent(key, b"two") is False
    assert store.exists(key)
    blob = store.read(key)
    assert blob.data == b"one"
    assert list(store.list()) == [Entry(key=key, size=3, version=blob.version)]
    store.put(key, b"three")
    assert store.read(key).data == b"three"
    assert store.delete([key, key]) == 2
    assert list(store.list()) == []


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_go_nowhere(store: Store, key: str, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"outside")
    for action in (
        lambda: store.read(key),
        lambda: store.put(key, b""),
        lambda: store.put_if_absent(key, b""),
        lambda: store.exists(key),
        lambda: store.delete([key]),
    ):
        with pytest.raises(InputError) as caught:
            action()
        assert caught.value.failure is Failure.BAD_NAME
    assert files(tmp_path) == ["b"]


@pytest.mark.parametrize("seed", range(10))
def test_listing_is_in_byte_order_of_whole_keys(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    names = ["a", "a-", "a.", "a0", "b", "é", "\uffff", "\U0001f600", " "]
    keys: set[str] = set()
    for _ in range(40):
        key = "/".join(chance.choice(names) for _ in range(chance.randint(1, 4)))
        if not any(key.startswith(one + "/") or one.startswith(key + "/") for one in keys):
            keys.add(key)
            store.put(key, key.encode())
    expected = sorted(keys, key=str.encode)
    assert [entry.key for entry in store.list()] == expected
    for prefix in ("a", "a/", "a-/b", "b/é/", "nothing", "nothing/"):
        assert (any_of := store.any_of(prefix)) is None or any_of.key in expected
        found = [entry.key for entry in store.list(prefix)]
        assert found == [key for key in expected if key.startswith(prefix)]


def test_odd_files_are_named_and_not_opened(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_bytes(b"12")
    (root / "link").symlink_to("folder/file")
    (root / "link-dangling").symlink_to("nowhere")
    (root / "link-folder").symlink_to("folder")
    (root / "link-loop").symlink_to("link-loop")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(root / "socket"))
        (root / "line\nbreak").write_bytes(b"")
        (root / "back\\slash").write_bytes(b"")
        Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_bytes(b"")
        found = {entry.key: entry for entry in store.list()}

    assert found["folder/file"].size == found["link"].size == 2
    assert {key: entry.problem for key, entry in found.items() if entry.problem} == {
        "link-dangling": Failure.UNREADABLE,
        "link-folder": Failure.UNREADABLE,
        "link-loop": Failure.UNREADABLE,
        "pipe": Failure.UNREADABLE,
        "socket": Failure.UNREADABLE,
        "line\\u000abreak": Failure.BAD_NAME,
        "back\\\\slash": Failure.BAD_NAME,
        "\\xff": Failure.BAD_NAME,
    }
    assert store.read("link").data == b"12"
    for key in ("pipe", "link-loop", "folder", "link-folder"):
        with pytest.raises(InputError) as caught:
            store.read(key)
        assert caught.value.failure is Failure.UNREADABLE
    with pytest.raises(ObjectMissingError):
        store.read("link-dangling")


def test_a_folder_too_deep_to_enter_is_one_bad_name(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    store.put("z", b"")
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=descriptor)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)

    deep, last = list(store.list())

    assert deep.problem is Failure.BAD_NAME
    assert last.key == "z"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is denied to root")
def test_what_permissions_deny(store: Store, tmp_path: Path) -> None:
    store.put("file", b"")
    store.put("folder/file", b"")
    root = tmp_path / "root"
    (root / "file").chmod(0)
    (root / "folder").chmod(0)
    root.chmod(0o500)
    try:
        with pytest.raises(InputError) as caught:
            store.read("file")
        assert caught.value.failure is Failure.UNREADABLE
        assert [entry.problem for entry in store.list()] == [None, Failure.UNREADABLE]
        with pytest.raises(StorageError, match="permissions"):
            store.put("new", b"")
        with pytest.raises(StorageError, match="permissions"):
            store.check()
    finally:
        root.chmod(0o700)
        (root / "folder").chmod(0o700)


def test_reading_what_is_not_there(store: Store) -> None:
    store.put("file", b"123")
    for key in ("nothing", "no/thing", "file/below", "n" * 300):
        with pytest.raises(ObjectMissingError):
            store.read(key)
        assert not store.exists(key)


def test_the_limit_of_bytes(store: Store) -> None:
    store.put("file", b"123")
    assert store.read("file", max_bytes=3).data == b"123"
    with pytest.raises(InputError) as caught:
        store.read("file", max_bytes=2)
    assert caught.value.failure is Failure.TOO_MANY_BYTES


def test_a_missing_root(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        list(store.list())
    assert list(store.list(missing_ok=True)) == []
    store.check()
    with pytest.raises(UsageError, match="no such folder"):
        store.check(to_read=True)
    assert files(tmp_path) == []
    (tmp_path / "root").mkdir()
    store.check(to_read=True)
    (tmp_path / "root").rmdir()
    (tmp_path / "root").write_bytes(b"")
    for missing_ok in (True, False):
        with pytest.raises(UsageError, match="not a folder"):
            list(store.list(missing_ok=missing_ok))
    with pytest.raises(UsageError, match="not a folder"):
        store.check()
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        store.put("a", b"")


def test_a_write_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for write in (store.put, store.put_if_absent):
            with pytest.raises(StorageError, match=os.strerror(errno.EFBIG)):
                write("folder/file", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(tmp_path) == ["root", "root/folder"]


def test_of_many_writers_one_wins(store: Store) -> None:
    start = threading.Barrier(8)
    won: list[bytes] = []

    def write(number: int) -> None:
        start.wait()
        if store.put_if_absent("deep/er/key", b"%d" % number * 1000):
            won.append(b"%d" % number * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.read("deep/er/key").data] == won


def test_killed_writers_leave_whole_files_only(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    writer = (
        "import sys; from redaction_core.storage import open_store\n"
        "store = open_store(sys.argv[1]); store.put('ready', b'')\n"
        "for number in range(10**9): store.put_if_absent(f'{number:09d}', bytes(3_000_000))"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", writer, str(root)]) as process:
            while not store.exists("000000003"):
                time.sleep(0.01)
            process.kill()
        sizes = {entry.size for entry in store.list() if entry.key != "ready"}
        assert sizes == {3_000_000}
        store.sweep()
        assert set(files(root)) == {entry.key for entry in store.list()}
        store.delete([entry.key for entry in store.list()])


def test_sweeping_removes_only_temporary_files(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"")
    store.put("a/.hidden", b"")
    left = tmp_path / "root" / "a" / ".redaction-tmp-0123456789ab"
    left.write_bytes(b"half")
    assert [entry.key for entry in store.list()] == ["a/.hidden", "a/b"]
    store.sweep()
    assert files(tmp_path / "root") == ["a", "a/.hidden", "a/b"]


def test_deleting_prunes_what_it_emptied(store: Store, tmp_path: Path) -> None:
    for key in ("a/b/c", "a/b/d", "a/e/f", "g/h", "i"):
        store.put(key, b"")
    assert store.delete(["a/b/c", "a/b/d", "i", "g/h", "not/there"]) == 5
    assert files(tmp_path / "root") == ["a", "a/e", "a/e/f"]
    assert store.delete(["a/e"]) == 1  # a folder is no object
    assert store.exists("a/e/f")
    store.delete(["a/e/f"])
    assert files(tmp_path) == ["root"]


def test_stores_travel_by_location(store: Store) -> None:
    store.put("key", b"data")
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
    assert copy.location == store.location
    assert copy.read("key").data == b"data"


def test_printable_keys_are_one_to_one_and_marked() -> None:
    letters = ["a", "\\", "\n", "u", "0", "x", "\udc80", "\udcff", "\x9f", "é", "\u2028"]
    names = [one + two + three for one in letters for two in letters for three in letters]
    shown = {printable_key(name) for name in names}
    assert len(shown) == len(names)
    for name in names:
        assert printable_key(name).encode()
        assert (why_bad_name(name) is None) == (printable_key(name) == name)


def test_reading_in_parts(store: Store, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(1_000_000)
    store.put("a/b", data)
    with store.open("a/b") as file:
        assert file.seekable()
        assert file.read(10) == data[:10]
        assert file.seek(700_000) == 700_000
        assert file.read(300_001) == data[700_000:]
        assert file.read(1) == b""
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        file.seek(0)
        store.put("a/b", b"another")
        assert file.read() == data  # as it was when it was opened
    assert store.entry("a/b") == next(iter(store.list()))
    assert (tmp_path / "root" / "a" / "b").read_bytes() == b"another"


def test_what_cannot_be_opened(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(b"1")
    (root / "link").symlink_to("file")
    (root / "link-loop").symlink_to("link-loop")
    os.mkfifo(root / "pipe")
    assert store.entry("link").size == 1
    descriptors = psutil.Process().num_fds()
    for look in (store.open, store.entry):
        for key in ("pipe", "folder", "link-loop"):
            with pytest.raises(InputError) as caught:
                look(key)
            assert caught.value.failure is Failure.UNREADABLE
        for key in ("nothing", "file/below", "n" * 300):
            with pytest.raises(ObjectMissingError, match="no such file"):
                look(key)
        for key in BAD_KEYS:
            with pytest.raises(InputError) as caught:
                look(key)
            assert caught.value.failure is Failure.BAD_NAME
    assert psutil.Process().num_fds() == descriptors


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows memory as a file")
def test_a_file_that_fails_while_it_is_read() -> None:
    store = open_store("/proc/self")  # its first page is never mapped: an error of the disk
    with store.open("mem") as file:
        for read in (lambda: file.read(1), file.read):
            with pytest.raises(StorageError, match="cannot read /proc/self/mem"):
                read()
    with pytest.raises(StorageError, match="cannot read /proc/self/mem"):
        store.read("mem")


def test_a_folder_that_comes_and_goes_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, races = os.makedirs, [FileExistsError(errno.EEXIST, "made"), FileNotFoundError()]

    def disturbed(folder: str, *, exist_ok: bool) -> None:
        if races:
            raise races.pop()
        make(folder, exist_ok=exist_ok)

    monkeypatch.setattr(os, "makedirs", disturbed)
    store = open_store(str(tmp_path))
    store.put("marks/a", b"there")
    assert races == []
    assert store.read("marks/a").data == b"there"
