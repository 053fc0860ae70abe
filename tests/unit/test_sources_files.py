"""A folder of files as the source of a data set."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from redaction_core.errors import Failure
from redaction_core.plan import PlannedInput
from redaction_core.sources import Content, Details
from redaction_core.sources.files import FileSource
from redaction_core.sources.row_index import image_id
from redaction_core.storage import open_store

FILES = {
    "a.jpg": b"one",
    "b b/c#%.png": b"two",
    "empty": b"",
    "test/cat/0.png": b"three",
    "train/cat/0.png": b"four",
    "validation/dog/0.png": b"five",
    "ü.png": b"six",
}


def source(folder: Path, *, tree: bool = True, max_bytes: int = 100) -> FileSource:
    return FileSource(store=open_store(str(folder)), max_bytes=max_bytes, tree=tree)


def fill(folder: Path) -> None:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read(given: FileSource, inputs: Sequence[PlannedInput]) -> dict[str, Content]:
    reader = given.open()
    found = list(reader.contents(inputs))
    reader.close()
    assert len(found) == len(inputs)
    return {each.item.key: each for each in found}


def failure(content: Content) -> Failure | None:
    return content.error and content.error.failure


def test_files_are_planned_in_the_order_of_their_keys(tmp_path: Path) -> None:
    fill(tmp_path)
    found = list(source(tmp_path).planned())
    assert [item.key for item in found] == sorted(FILES, key=str.encode)
    assert [item.size for item in found] == [len(FILES[item.key]) for item in found]
    assert all(item.version and item.output is None for item in found)
    details = {item.key: Details.of(item) for item in found}
    assert {key: each.name for key, each in details.items()} == {key: key for key in FILES}
    assert {key: each.image_id for key, each in details.items()} == {
        key: image_id(key) for key in FILES
    }
    assert list(source(tmp_path).planned()) == found


@pytest.mark.parametrize("tree", [True, False])
def test_folders_say_label_and_split(tmp_path: Path, *, tree: bool) -> None:
    fill(tmp_path)
    given = source(tmp_path, tree=tree)
    assert given.labels is tree
    found = {item.key: Details.of(item) for item in given.planned()}
    told = {key: (each.label, each.split) for key, each in found.items() if each.label}
    assert told == (
        {
            "test/cat/0.png": ("cat", "test"),
            "train/cat/0.png": ("cat", None),
            "validation/dog/0.png": ("dog", "val"),
        }
        if tree
        else {}
    )


def test_every_file_is_read_once(tmp_path: Path) -> None:
    fill(tmp_path)
    for number in range(50):
        (tmp_path / f"more {number}").write_bytes(b"%d" % number)
    given = source(tmp_path)
    found = read(given, list(given.planned()))
    assert {key: found[key].data for key in FILES} == FILES
    assert all(found[f"more {number}"].data == b"%d" % number for number in range(50))
    for content in found.values():
        assert content.error is None
        assert content.received == len(content.data) == content.item.size
        assert (content.attempts, content.http_status) == (1, None)
        assert content.seconds >= 0


def test_what_cannot_be_read_is_a_failed_input(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("changed", "gone", "large", "same", "swapped"):
        (folder / name).write_bytes(b"x" * (101 if name == "large" else 10))
    (folder / "dangling").symlink_to("nowhere")
    (folder / "new\nline").write_bytes(b"x")
    os.mkfifo(folder / "fifo")
    given = source(folder)
    planned = list(given.planned())
    (folder / "changed").write_bytes(b"y" * 11)
    (folder / "gone").unlink()
    (folder / "swapped").unlink()
    os.mkfifo(folder / "swapped")
    found = read(given, planned)
    assert {key: failure(content) for key, content in found.items()} == {
        "changed": Failure.INPUT_CHANGED,
        "dangling": Failure.UNREADABLE,
        "fifo": Failure.UNREADABLE,
        "gone": Failure.NOT_FOUND,
        "large": Failure.TOO_MANY_BYTES,
        "new\\u000aline": Failure.BAD_NAME,
        "same": None,
        "swapped": Failure.UNREADABLE,
    }
    for key, content in found.items():
        assert content.data == (b"x" * 10 if key == "same" else b"")
        if content.error is not None:
            assert content.error.detail.isprintable()
            assert content.error.detail
    assert found["dangling"].attempts == found["fifo"].attempts == 0
    assert found["gone"].attempts == 1


def test_names_that_look_alike_keep_ids_of_their_own(tmp_path: Path) -> None:
    for name in (b"a\\u000ab", b"a\nb", b"a\xffb", b"a\\xffb"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    found = list(source(tmp_path).planned())
    assert len({item.key for item in found}) == len({Details.of(item).image_id for item in found})
    assert len({item.key for item in found}) == 4
    assert {item.failure for item in found} == {Failure.BAD_NAME}


def test_another_process_reads_the_same(tmp_path: Path) -> None:
    fill(tmp_path)
    given = source(tmp_path, max_bytes=5)
    other = pickle.loads(pickle.dumps(given))  # noqa: S301 - our own
    assert (other.location, other.max_bytes, other.tree) == (given.location, 5, True)
    assert other.columns == {}
    assert read(other, list(given.planned()))["a.jpg"].data == b"one"


def test_nothing_asked_is_nothing_read(tmp_path: Path) -> None:
    assert list(source(tmp_path).open().contents([])) == []
