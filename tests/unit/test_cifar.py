"""CIFAR-10 in its publisher's two formats, and pickles of strangers."""

import gzip
import pickle
import pickletools
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redaction_core.archives import Archive, Content, Member, MemberReader, open_archive, pickles
from redaction_core.archives.cifar import unpickled
from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.storage import open_file
from tests.archive_files import (
    BATCHES,
    CLASSES,
    END,
    cifar_batch,
    python2_batch,
    python2_classes,
    tar_bytes,
    tar_member,
    write_cifar_binary,
    write_cifar_python,
)

WRITERS = {"python": write_cifar_python, "binary": write_cifar_binary}
COUNT = 20


def opened(path: Path) -> Archive:
    return open_archive(*open_file(str(path)))


def read(archive: Archive, members: list[Member]) -> list[Content | InputError]:
    with MemberReader(archive.store, archive.key) as reader:
        return list(reader.read_many([one.place for one in members], max_bytes=5000))


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_every_image_with_its_label(version: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cifar-10.{suffix}"
    WRITERS[version](path, COUNT)
    archive = opened(path)
    assert (
        archive.format
        == {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}[version]
    )
    members = list(archive.members())
    names = {f"{batch}/{index:05d}" for batch in BATCHES for index in range(COUNT)}
    assert {member.name for member in members} == names
    assert len(members) == 6 * COUNT
    for member, found in zip(members, read(archive, members), strict=True):
        batch, _, index = member.name.partition("/")
        truth = cifar_batch(batch, COUNT)
        record = truth.records[int(index)]
        assert (member.problem, member.size) == (None, 3072)
        assert member.label == CLASSES[truth.labels[int(index)]]
        assert member.split == ("test" if batch == "test_batch" else None)
        assert isinstance(found, Content)
        assert found.data == record.tobytes()
        assert found.pixels is not None
        assert (found.pixels.dtype, found.pixels.shape) == (np.uint8, (32, 32, 3))
        for channel in range(3):
            plane = record[channel * 1024 : (channel + 1) * 1024].reshape(32, 32)
            assert np.array_equal(found.pixels[:, :, channel], plane)


def test_any_order(tmp_path: Path) -> None:
    write_cifar_python(tmp_path / "x.tar.gz", COUNT)
    archive = opened(tmp_path / "x.tar.gz")
    members = list(archive.members())
    there, back = read(archive, members), read(archive, members[::-1])
    data = [[one.data for one in found if isinstance(one, Content)] for found in (there, back)]
    assert data[0] == data[1][::-1]
    assert len(data[0]) == 6 * COUNT


def test_our_batches_are_what_the_publisher_packs() -> None:
    batch = cifar_batch("data_batch_2", 30)
    found = pickle.loads(python2_batch(batch), encoding="bytes")  # noqa: S301 - our own
    assert np.array_equal(found[b"data"], batch.records)
    assert found[b"labels"] == batch.labels
    assert found[b"filenames"][3] == b"image_s_000003.png"
    classes = pickle.loads(python2_classes(), encoding="bytes")  # noqa: S301 - our own
    assert classes[b"label_names"] == [name.encode() for name in CLASSES]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("key", [str, str.encode])
def test_batches_that_python_3_wrote(protocol: int, key: Callable[[str], Any]) -> None:
    batch = cifar_batch("data_batch_1", 1500)
    whole = {key("data"): batch.records, key("labels"): batch.labels, key("x"): [None, True, 1.5]}
    records, labels = unpickled(pickle.dumps(whole, protocol))
    assert np.array_equal(records, batch.records)
    assert labels == batch.labels


def test_a_full_batch() -> None:
    batch = cifar_batch("data_batch_1", 10_000)
    records, labels = unpickled(python2_batch(batch))
    assert np.array_equal(records, batch.records)
    assert labels == batch.labels


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch /tmp/evil-was-here",)


HOSTILE = {
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "long": b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b"x.",
    "deep key": b"\x80\x02}(" + b")" + b"\x85" * 500_000 + b"K\x01u.",
    "deep": b"\x80\x02]" + b"]" * 400_000 + b"a" * 400_000 + b".",
    "many": b"\x80\x02" + b"N" * 2_000_000 + b".",
    "instance": b"(ios\nsystem\n(S'true'\n.",
    "new": b"\x80\x02cos\nPathLike\n)\x81.",
    "persistent": b"\x80\x02K\x01Q.",
    "extension": b"\x80\x02\x82\x01.",
    "cut": b"\x80\x02}(U\x04data",
    "no stop": b"\x80\x02N",
    "underflow": b"\x80\x02a.",
    "unhashable": b"\x80\x02}]Ns.",
    "no pickle": b"\xff\xd8\xff",
    "empty": b"",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "names": b"\x80\x04\x8c\xc8" + b"a" * 200 + b"q\x00h\x00\x93.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(name: str) -> None:
    with pytest.raises(InputError) as caught:
        unpickled(HOSTILE[name])
    assert caught.value.failure is Failure.UNREADABLE
    assert "\n" not in str(caught.value)


def test_nothing_in_a_pickle_runs(tmp_path: Path) -> None:
    code = pickle.dumps({"data": Evil(), "labels": [Evil()]}, 2)
    assert any(operation.name == "REDUCE" for operation, _, _ in pickletools.genops(code))
    found = pickles.read(code)
    assert isinstance(found["data"], pickles.Noted)
    assert found["data"].name == "posix system"
    with pytest.raises(InputError, match="no batch of images"):
        unpickled(code)
    assert not Path("/tmp/evil-was-here").exists()  # noqa: S108 - the same
    del tmp_path


def test_memory_stays_below_a_few_times_the_pickle() -> None:
    again = b"]r\x01\x00\x00\x00" + b"h\x01" * 0
    bombs = [
        b"\x80\x02X"
        + struct.pack("<I", 10**6)
        + b"a" * 10**6
        + b"q\x00"
        + b"h\x00h\x00\x93" * 10**5,
        b"\x80\x02(" + b"N" * 10**5 + b"tq\x00" + b"cos\nx\nh\x00R" * 10**5 + b".",
        b"\x80\x02]q\x00(" + b"N" * 10**5 + b"e" + b"(h\x00h\x00e" * 10**5 + again,
    ]
    code = (
        "import resource, sys\n"
        "from redaction_core.archives import pickles\n"
        "from redaction_core.errors import InputError\n"
        "data = sys.stdin.buffer.read()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    pickles.read(data)\n"
        "except InputError:\n"
        "    pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    for bomb in bombs:
        done = subprocess.run(
            [sys.executable, "-c", code], input=bomb, capture_output=True, check=True
        )
        assert int(done.stdout) < 100_000  # KiB


def packed(folder: Path, *files: tuple[str, bytes]) -> Archive:
    (folder / "x.tar").write_bytes(
        tar_bytes([(f"cifar-10-batches-py/{name}", data) for name, data in files])
    )
    return opened(folder / "x.tar")


def test_batches_that_are_none_come_with_a_problem(tmp_path: Path) -> None:
    good, meta = python2_batch(cifar_batch("data_batch_1", 3)), python2_classes()
    wide = pickle.dumps({"data": np.zeros((3, 3071), np.uint8), "labels": [1, 2, 3]})
    floats = pickle.dumps({"data": np.zeros((3, 3072), np.float32), "labels": [1, 2, 3]})
    short = pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2]})
    labels = pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [-1, 9, 10]})
    batches = [good, wide, floats, short, labels]
    files = [(f"data_batch_{number}", data) for number, data in enumerate(batches, 1)]
    archive = packed(
        tmp_path, ("batches.meta", meta), *files, ("other.jpg", b"1"), ("test_batch", b"")
    )
    members = list(archive.members())
    assert [member.problem for member in members] == [
        *[None] * 3,
        *[Failure.UNREADABLE] * 3,
        *(Failure.UNREADABLE, None, Failure.UNREADABLE),
        *(None, Failure.UNREADABLE),
    ]
    assert members[-2].name == "cifar-10-batches-py/other.jpg"
    assert read(archive, [members[-2]]) == [Content(data=b"1")]


def test_a_binary_batch_that_is_cut_or_has_wrong_labels(tmp_path: Path) -> None:
    head = tar_member(b"cifar-10-batches-bin/batches.meta.txt", b"cat\ndog\n\n")
    record = b"\1" + bytes(3072)
    data = head + tar_member(b"cifar-10-batches-bin/data_batch_1.bin", record + b"\2" + bytes(3072))
    data += tar_member(b"cifar-10-batches-bin/data_batch_2.bin", record[:-1]) + END
    (tmp_path / "x.tar").write_bytes(data)
    good, label, short = opened(tmp_path / "x.tar").members()
    assert (good.label, good.problem) == ("dog", None)
    assert (label.problem, label.detail) == (Failure.UNREADABLE, "a label without a class: 2")
    assert short.problem is Failure.UNREADABLE


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_an_archive_that_ends_early(version: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    WRITERS[version](path, COUNT)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    *good, bad = opened(path).members()
    assert bad.problem is Failure.TRUNCATED
    assert all(member.problem is None for member in good)
    assert 3 * COUNT <= len(good) < 6 * COUNT


@pytest.mark.parametrize("meta", [None, b"", b"\x80\x02}.", pickle.dumps({"label_names": 1})])
def test_without_names_of_classes(meta: bytes | None, tmp_path: Path) -> None:
    batch = ("data_batch_1", python2_batch(cifar_batch("data_batch_1", 3)))
    files = [batch] if meta is None else [batch, ("batches.meta", meta)]
    with pytest.raises(UsageError, match=r"batches\.meta"):
        list(packed(tmp_path, *files).members())


def test_a_member_is_no_larger_than_a_batch_can_be(tmp_path: Path) -> None:
    size = 2**26 + 1
    data = tar_bytes([("cifar-10-batches-py/batches.meta", python2_classes())])[:1024]
    data += tar_member(b"cifar-10-batches-py/data_batch_1", bytes(size)) + END
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(data, 1))
    (found,) = opened(tmp_path / "x.tar.gz").members()
    assert found.problem is Failure.TOO_MANY_BYTES
