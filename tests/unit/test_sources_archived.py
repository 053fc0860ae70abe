"""Archives as the source of a data set: their order, their ids, what is hostile in them."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from redaction_core.errors import Failure, UsageError
from redaction_core.plan import PlannedInput
from redaction_core.sources import Content, Details
from redaction_core.sources.archived import ArchiveSource
from redaction_core.sources.row_index import image_id
from redaction_core.storage import open_store
from tests.archive_files import (
    BATCHES,
    CLASSES,
    END,
    cifar_batch,
    gzip_of_zeros,
    pax,
    tar_block,
    tar_bytes,
    tar_member,
    write_cifar_binary,
    write_cifar_python,
    zip_bytes,
)

FILES = [("b.png", b"one"), ("a.png", b"two"), ("b.png", b"three"), ("b.png", b""), ("ü/c", b"4")]


def source(path: Path, *, tree: bool = True, max_bytes: int = 10_000) -> ArchiveSource:
    store = open_store(str(path.parent))
    return ArchiveSource(store=store, key=path.name, max_bytes=max_bytes, tree=tree)


def put(path: Path, data: bytes) -> ArchiveSource:
    path.write_bytes(data)
    return source(path)


def read(given: ArchiveSource, inputs: Sequence[PlannedInput]) -> list[Content]:
    reader = given.open()
    found = {each.item.key: each for each in reader.contents(inputs)}
    reader.close()
    assert found.keys() == {item.key for item in inputs}
    return [found[item.key] for item in inputs]


def failure(content: Content) -> Failure | None:
    return content.error and content.error.failure


def packed(kind: str) -> bytes:
    tar = tar_bytes(FILES)
    if kind == "gz":
        return gzip.compress(tar)
    if kind in ("bz2", "xz"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=f"w:{kind}") as archive:  # type: ignore[call-overload]
            for name, data in FILES:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()
    return tar


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz", "zip"])
def test_members_are_inputs_in_their_order_and_repeats_have_ids_of_their_own(
    tmp_path: Path, kind: str
) -> None:
    given = put(tmp_path / "archive", zip_bytes(FILES) if kind == "zip" else packed(kind))
    planned = list(given.planned())
    details = [Details.of(item) for item in planned]
    assert [each.name for each in details] == [name for name, _ in FILES]
    assert [each.image_id for each in details] == [
        *(image_id("b.png"), image_id("a.png"), image_id("b.png", 1)),
        *(image_id("b.png", 2), image_id("ü/c")),
    ]
    assert [item.key for item in planned] == sorted(item.key for item in planned)
    assert [item.size for item in planned] == [len(data) for _, data in FILES]
    assert list(given.planned()) == planned
    contents = read(given, planned)
    assert [each.data for each in contents] == [data for _, data in FILES]
    assert [each.received for each in contents] == [len(data) for _, data in FILES]
    assert all(each.error is None and each.pixels is None for each in contents)
    # In another process, and in another order.
    other = pickle.loads(pickle.dumps(given))  # noqa: S301 - our own
    assert other.location == f"{tmp_path}/archive"
    assert [each.data for each in read(other, planned[::-1])] == [data for _, data in FILES[::-1]]


def test_thousands_of_members_keep_their_order(tmp_path: Path) -> None:
    names = [f"{number * 7919 % 12_345}.png" for number in range(12_345)]
    given = put(tmp_path / "a.tar", b"".join(tar_member(n.encode(), b"") for n in names) + END)
    planned = list(given.planned())
    assert [Details.of(item).name for item in planned] == names
    assert [item.key for item in planned] == sorted(item.key for item in planned)
    assert len({Details.of(item).image_id for item in planned}) == len(names)


@pytest.mark.parametrize("tree", [True, False])
def test_folders_say_label_and_split(tmp_path: Path, *, tree: bool) -> None:
    names = ["c/train/cat/1.jpg", "c/test/dog/1.jpg", "c/val/dog/2.jpg", "other.jpg"]
    (tmp_path / "a.zip").write_bytes(zip_bytes((name, b"x") for name in names))
    given = source(tmp_path / "a.zip", tree=tree)
    found = [(each.label, each.split) for each in map(Details.of, given.planned())]
    told = [("cat", None), ("dog", "test"), ("dog", "val"), (None, None)]
    assert found == (told if tree else [(None, None)] * 4)


def test_hostile_members_are_failed_inputs(tmp_path: Path) -> None:
    members = [
        tar_member(b"../../etc/passwd", b"up"),
        tar_member(b"/etc/shadow", b"top"),
        tar_member(b"link", b"", b"2") + tar_member(b"hard", b"", b"1"),
        tar_member(b"fifo", b"", b"6") + tar_member(b"disk", b"", b"4"),
        tar_member(b"new\nline\xff.png", b"odd"),
        tar_member(b"large", bytes(10_001)),
        tar_member(b"twice", b"1") + tar_member(b"twice", b"2"),
        pax(path="") + tar_member(b"hidden", b"x"),
        tar_member(b"last", b"fine"),
        tar_block(b"endless", 2**40),
    ]
    given = put(tmp_path / "a.tar", b"".join(members))
    planned = list(given.planned())
    contents = read(given, planned)
    told = {(Details.of(c.item).name, c.data): failure(c) for c in contents}
    assert told == {
        ("../../etc/passwd", b"up"): None,
        ("/etc/shadow", b"top"): None,
        ("link", b""): Failure.UNREADABLE,
        ("hard", b""): Failure.UNREADABLE,
        ("fifo", b""): Failure.UNREADABLE,
        ("disk", b""): Failure.UNREADABLE,
        ("new\\u000aline\\xff.png", b"odd"): None,
        ("large", b""): Failure.TOO_MANY_BYTES,
        ("twice", b"1"): None,
        ("twice", b"2"): None,
        ("", b""): Failure.BAD_NAME,
        ("last", b"fine"): None,
        ("endless", b""): Failure.TRUNCATED,
    }
    for each in contents:
        planned_so = each.item.failure is not None
        assert (each.attempts == 0) == planned_so
        if each.error is not None:
            assert each.error.detail
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_a_bomb_in_an_archive_is_a_failed_input(tmp_path: Path) -> None:
    bomb = zip_bytes([("zeros.png", bytes(50_000_000)), ("fine", b"x")])
    found = read(given := put(tmp_path / "a.zip", bomb), list(given.planned()))
    assert [failure(each) for each in found] == [Failure.TOO_MANY_BYTES, None]
    inner = put(tmp_path / "a.tar.gz", gzip.compress(tar_bytes([("z.gz", gzip_of_zeros(10**7))])))
    (content,) = read(source(tmp_path / "a.tar.gz", max_bytes=10**6), list(inner.planned()))
    assert content.error is None  # what is packed in it is nobody's to unpack
    assert len(content.data) < 10**5


@pytest.mark.parametrize("kind", ["tar", "gz"])
def test_an_archive_that_ends_early_has_its_first_members(tmp_path: Path, kind: str) -> None:
    whole = packed(kind) if kind == "tar" else gzip.compress(tar_bytes(FILES), 0)
    given = put(tmp_path / "a", whole[: 2 * 1024 + 600])
    planned = list(given.planned())
    contents = read(given, planned)
    assert [each.data for each in contents[:2]] == [b"one", b"two"]
    assert planned[-1].failure is Failure.TRUNCATED
    assert failure(contents[-1]) is Failure.TRUNCATED


def test_an_archive_that_was_replaced_fails_every_input(tmp_path: Path) -> None:
    given = put(tmp_path / "a.tar", tar_bytes(FILES))
    planned = list(given.planned())
    (tmp_path / "a.tar").write_bytes(tar_bytes([*FILES, ("new", b"x")]))
    assert {failure(each) for each in read(given, planned)} == {Failure.INPUT_CHANGED}
    (tmp_path / "a.tar").unlink()
    assert {failure(each) for each in read(given, planned)} == {Failure.NOT_FOUND}


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    given = put(tmp_path / "a.tar", b"nothing of the kind")
    with pytest.raises(UsageError, match="is no archive"):
        list(given.planned())


def test_a_reader_may_be_used_by_several_threads_and_again(tmp_path: Path) -> None:
    files = [(f"{number}", b"%d" % number * 99) for number in range(400)]
    given = put(tmp_path / "a.tar.gz", gzip.compress(tar_bytes(files)))
    planned = list(given.planned())
    reader = given.open()
    shards = [planned[at : at + 40] for at in range(0, 400, 40)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda shard: list(reader.contents(shard)), shards))
    assert [each.data for shard in found for each in shard] == [data for _, data in files]
    assert [each.data for each in reader.contents(planned[:3])] == [data for _, data in files[:3]]
    assert list(reader.contents([])) == []
    reader.close()


@pytest.mark.parametrize("name", ["c.tar.gz", "c.tar"])
@pytest.mark.parametrize("write", [write_cifar_python, write_cifar_binary])
def test_cifar_10_comes_with_labels_splits_and_pixels(
    tmp_path: Path, write: type[write_cifar_python], name: str
) -> None:
    write(tmp_path / name, 10)
    given = source(tmp_path / name)
    assert given.labels is True
    planned = list(given.planned())
    details = [Details.of(item) for item in planned]
    contents = read(given, planned)
    assert len(planned) == 60
    assert len({each.image_id for each in details}) == 60
    seen = set()
    for each, content in zip(details, contents, strict=True):
        batch, _, index = each.name.partition("/")
        records, labels = cifar_batch(batch, 10)
        assert each.label == CLASSES[labels[int(index)]]
        assert each.split == ("test" if batch == "test_batch" else None)
        planes = records[int(index)].reshape(3, 32, 32)
        assert content.pixels is not None
        assert np.array_equal(content.pixels, planes.transpose(1, 2, 0))
        assert content.data == records[int(index)].tobytes()
        seen.add(batch)
    assert seen == set(BATCHES)


def test_both_versions_of_cifar_10_give_the_same_ids_and_pixels(tmp_path: Path) -> None:
    write_cifar_python(tmp_path / "p.tar.gz", 10)
    write_cifar_binary(tmp_path / "b.tar.gz", 10)
    both = []
    for name in ("p.tar.gz", "b.tar.gz"):
        given = source(tmp_path / name)
        contents = read(given, list(given.planned()))
        both.append({Details.of(each.item).image_id: each.data for each in contents})
    assert both[0] == both[1]
