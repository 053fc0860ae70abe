"""Files and archives in a bucket as the source of a data set, on a real S3 server."""

from collections.abc import Sequence

from redaction_core.errors import Failure
from redaction_core.plan import PlannedInput
from redaction_core.sources import Content, Source
from redaction_core.sources.archived import ArchiveSource
from redaction_core.sources.files import FileSource
from redaction_core.storage import open_store
from tests.archive_files import tar_bytes, zip_bytes

FILES = {"a.jpg": b"one", "b b/c#%.png": b"two", "train/cat/0.png": b"four", "ü.png": b"six"}


def read(given: Source, inputs: Sequence[PlannedInput]) -> list[Content]:
    reader = given.open()
    found = {each.item.key: each for each in reader.contents(inputs)}
    reader.close()
    return [found[item.key] for item in inputs]


def test_a_prefix_is_read_like_a_folder(s3_location: str) -> None:
    store = open_store(s3_location)
    for name, data in FILES.items():
        store.put(name, data)
    given = FileSource(store=store, max_bytes=100)
    planned = list(given.planned())
    assert [item.key for item in planned] == sorted(FILES, key=str.encode)
    assert [each.data for each in read(given, planned)] == [FILES[item.key] for item in planned]
    store.put("a.jpg", b"other")
    store.delete(["ü.png"])
    changed, *_, gone = read(given, planned)
    assert (changed.error and changed.error.failure) is Failure.INPUT_CHANGED
    assert (gone.error and gone.error.failure) is Failure.NOT_FOUND


def test_archives_are_read_where_they_are(s3_location: str) -> None:
    store = open_store(s3_location)
    for name, data in {
        "a.tar": tar_bytes(FILES.items()),
        "a.zip": zip_bytes(FILES.items()),
    }.items():
        store.put(name, data)
        given = ArchiveSource(store=store, key=name, max_bytes=100)
        planned = list(given.planned())
        assert [each.data for each in read(given, planned)] == list(FILES.values())
        store.put(name, data + b"\0")
        assert {each.error and each.error.failure for each in read(given, planned)} == {
            Failure.INPUT_CHANGED
        }
