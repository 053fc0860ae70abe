"""Makers of archives: whole ones, hostile ones, and CIFAR-10 in its publisher's two formats."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from isal import igzip

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
FULL_BATCH = 10_000
END = bytes(1024)


class Batch(NamedTuple):
    """Records (uint8, Nx3072: planes of red, green and blue) and the label of each."""

    records: npt.NDArray[np.uint8]
    labels: list[int]


def tar_bytes(files: Iterable[tuple[str, bytes]], *, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """Pack files in order; names may repeat."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_bytes(files: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Pack files in order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def tar_block(name: bytes, size: int, kind: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    """Make one header that may claim anything."""
    digits = b"%011o\x00" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + digits + b"%011o\0" % 0
    block += b" " * 8 + kind + bytes(100) + magic
    block = block.ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def tar_member(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    """Make a header and its data, padded to whole blocks."""
    return tar_block(name, len(data), kind) + data + bytes(-len(data) % 512)


def pax(**records: str) -> bytes:
    """Make an extended header for the member that follows."""
    lines = b""
    for key, value in records.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        lines += str(length).encode() + rest
    return tar_member(b"PaxHeader", lines, b"x")


def cifar_batch(name: str, count: int) -> Batch:
    """Make up a batch, always the same of this name and count."""
    chance = np.random.default_rng(BATCHES.index(name))
    records = chance.integers(0, 256, (count, 3072), np.uint8)
    return Batch(records, [(index * 7 + 3) % 10 for index in range(count)])


def write_cifar_python(path: Path, count: int = 20) -> None:
    """Write the python version with so many images a batch (the publisher's: `FULL_BATCH`)."""
    files = _python_files(count)
    _write_cifar(path, "cifar-10-batches-py", files)


def write_cifar_binary(path: Path, count: int = 20) -> None:
    """Write the binary version with so many images a batch."""
    _write_cifar(path, "cifar-10-batches-bin", _binary_files(count))


def _write_cifar(path: Path, folder: str, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar file, packed if its name says so; the classes come third, as published."""
    with path.open("wb") as file:
        out = igzip.open(file, "wb", 0) if path.name.endswith("gz") else file
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            top = tarfile.TarInfo(folder)
            top.type = tarfile.DIRTYPE
            archive.addfile(top)
            for name, data in files:
                info = tarfile.TarInfo(f"{folder}/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        if out is not file:
            out.close()


def _python_files(count: int) -> Iterator[tuple[str, bytes]]:
    for at, name in enumerate(("data_batch_4", "test_batch", *BATCHES[:3], BATCHES[4])):
        if at == 2:
            yield "batches.meta", python2_classes()
            yield "readme.html", b"<meta>"
        yield name, python2_batch(cifar_batch(name, count))


def _binary_files(count: int) -> Iterator[tuple[str, bytes]]:
    for at, name in enumerate(("data_batch_1", "test_batch", *BATCHES[1:5])):
        if at == 2:
            yield "batches.meta.txt", "".join(f"{one}\n" for one in CLASSES).encode() + b"\n"
            yield "readme.html", b"<meta>"
        records, labels = cifar_batch(name, count)
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], records], axis=1)
        yield f"{name}.bin", rows.tobytes()


def python2_batch(batch: Batch) -> bytes:
    """Pickle a batch as Python 2 did, with its str of bytes (protocol 2)."""
    records, labels = batch
    dtype = b"cnumpy\ndtype\nq\x05" + _text(b"u1") + b"K\x00K\x01\x87q\x06Rq\x07"
    dtype += b"(K\x03" + _text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x08b"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02"
    array += b"K\x00\x85q\x03" + _text(b"b") + b"\x87Rq\x04(K\x01"
    array += b"M" + struct.pack("<HBH", len(records), ord("M"), 3072) + b"\x86" + dtype + b"\x89"
    raw = records.tobytes()
    array += b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    names = [b"image_s_%06d.png" % index for index in range(len(records))]
    return (
        b"\x80\x02}q\x00("
        + (_text(b"batch_label") + _text(b"training batch 1 of 5"))
        + (_text(b"labels") + b"](" + b"".join(b"K%c" % label for label in labels) + b"e")
        + (_text(b"data") + array)
        + (_text(b"filenames") + b"](" + b"".join(map(_text, names)) + b"e")
        + b"u."
    )


def python2_classes() -> bytes:
    """Pickle the names of the classes as Python 2 did."""
    names = b"](" + b"".join(_text(name.encode()) for name in CLASSES) + b"e"
    count = _text(b"num_cases_per_batch") + b"M\x10\x27"
    return b"\x80\x02}(" + count + _text(b"label_names") + names + b"u."


def _text(value: bytes) -> bytes:
    return b"U" + struct.pack("<B", len(value)) + value


def gzip_of_zeros(size: int) -> bytes:
    """Pack so many zeros, as a bomb does."""
    return gzip.compress(bytes(size))
