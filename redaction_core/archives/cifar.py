"""CIFAR-10 as its publisher packs it (cs.toronto.edu/~kriz/cifar.html), in tar, packed or not.

Python version: pickles of a dict with `data` (uint8, Nx3072, planes of red, green and blue of
32x32) and `labels`. Binary version: records of one byte, the label, and 3,072 of data. Both name
the classes in a file of their own. Also the names of files in trees of classes.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from redaction_core.archives import pickles, tar
from redaction_core.archives.member import Content, Member, broken
from redaction_core.archives.member import member as whole
from redaction_core.archives.stream import DAMAGED
from redaction_core.errors import Failure, InputError, UsageError

PICKLED_PLACE: Final = "cifar-py"
BINARY_PLACE: Final = "cifar-bin"

Records: TypeAlias = npt.NDArray[np.uint8]
"""uint8, Nx3072: planes of red, green and blue, each 32 rows of 32."""

_PICKLED: Final = "cifar-10-batches-py"
_BINARY: Final = "cifar-10-batches-bin"
_BATCH: Final = re.compile(r"((?:data_batch_[1-9]|test_batch))(?:\.bin)?")
_TEST: Final = "test_batch"
_CLASS_FILES: Final = {_PICKLED: "batches.meta", _BINARY: "batches.meta.txt"}
_PUBLISHERS: Final = {*_CLASS_FILES.values(), "readme.html"}
_IMAGE_BYTES: Final = 3072
_MOST_BATCH_BYTES: Final = 2**26  # the publisher's have 31 MB
_MOST_CLASS_FILE_BYTES: Final = 2**16
_IN_TREE: Final = re.compile(r"(?:^|/)(train|val|valid|validation|test)/([^/]+)/[^/]+$")


def label_and_split(name: str) -> tuple[str | None, str | None]:
    """Read class and split off a name such as "cifar10/test/airplane/0001.jpg".

    The split is "test" or "val", or None for "train", whose images may go to either of ours;
    (None, None) for all other names.
    """
    found = _IN_TREE.search(name)
    if found is None:
        return None, None
    split = {"train": None, "test": "test"}.get(found[1], "val")
    return found[2], split


def folder(first: Member | None) -> str | None:
    """Say which of the publisher's folders an archive begins with, if any."""
    parts = first.name.split("/") if first else []
    return next((part for part in parts if part in _CLASS_FILES), None)


def members(stream: BinaryIO, kind: str) -> Iterator[Member]:
    """Yield every image as a member, with its label, "test" for those of the test batch.

    Names are such as "data_batch_1/00017". Other files than the publisher's come as they are.

    Raises:
        UsageError: the names of the classes are missing or damaged.
    """
    classes = _classes(stream, kind)
    for member in tar.members(stream, unread=True):
        base = member.name.rpartition("/")[2]
        batch = _BATCH.fullmatch(base)
        if member.problem is not None or (batch is None and base not in _PUBLISHERS):
            yield member
        elif batch is not None:
            try:
                yield from _images(stream, member, batch[1], classes, kind)
            except InputError as error:
                yield broken(member.name, error.failure, error.detail, member.size)
                if error.failure is Failure.TRUNCATED:
                    return
            except DAMAGED:
                detail = "the archive is damaged from here on"
                yield broken(member.name, Failure.TRUNCATED, detail, member.size)
                return


def _images(
    stream: BinaryIO, batch: Member, name: str, classes: list[str], kind: str
) -> Iterator[Member]:
    start = tar.start(batch)
    labels: Iterable[int]
    if kind == _PICKLED:
        _, labels = unpickled(_read(stream, start, batch.size, _MOST_BATCH_BYTES))
    else:
        labels = _binary_labels(stream, start, batch.size)
    for index, label in enumerate(labels):
        shown = f"{name}/{index:05d}"
        if not 0 <= label < len(classes):
            yield broken(shown, Failure.UNREADABLE, f"a label without a class: {label}")
            continue
        place: tuple[str | int, ...] = (PICKLED_PLACE, start, batch.size, index)
        if kind == _BINARY:
            place = (BINARY_PLACE, start + index * (_IMAGE_BYTES + 1) + 1)
        found = whole(shown, place, _IMAGE_BYTES)
        yield Member(
            name=found.name,
            place=found.place,
            size=found.size,
            label=classes[label],
            split="test" if name == _TEST else None,
        )


def _binary_labels(stream: BinaryIO, start: int, size: int) -> Iterator[int]:
    count, rest = divmod(size, _IMAGE_BYTES + 1)
    if rest:
        detail = f"{size} bytes are no whole number of records"
        raise InputError(Failure.UNREADABLE, detail)
    for index in range(count):
        yield _read(stream, start + index * (_IMAGE_BYTES + 1), 1, 1)[0]


def _classes(stream: BinaryIO, kind: str) -> list[str]:
    for member in tar.members(stream, unread=True):
        if member.problem is None and member.name.rpartition("/")[2] == _CLASS_FILES[kind]:
            try:
                data = _read(stream, tar.start(member), member.size, _MOST_CLASS_FILE_BYTES)
                if kind == _BINARY:
                    return data.decode().split()
                names = _of(pickles.read(data), "label_names")
                return [_bytes(name).decode() for name in names]
            except (InputError, TypeError, ValueError, *DAMAGED) as error:
                raise UsageError(f"{member.name} names no classes") from error
    raise UsageError(f"there is no {_CLASS_FILES[kind]}, which names the classes")


def unpickled(data: bytes) -> tuple[Records, list[int]]:
    """Read a batch of the python version: its images, and their labels.

    Raises:
        InputError: UNREADABLE: no such batch.
    """
    found = pickles.read(data)
    try:
        records = _array(_of(found, "data"))
        labels = _of(found, "labels")
        if len(labels) == len(records) and all(isinstance(label, int) for label in labels):
            return records, labels
    except (TypeError, ValueError) as error:
        raise InputError(Failure.UNREADABLE, "a pickle, but no batch of images") from error
    raise InputError(Failure.UNREADABLE, "a batch whose labels are not one an image")


def content(record: bytes) -> Content:
    """Give one image: its bytes, and its pixels (32x32x3)."""
    planes = np.frombuffer(record, np.uint8).reshape(3, 32, 32)
    return Content(data=record, pixels=np.ascontiguousarray(planes.transpose(1, 2, 0)))


def read_binary(stream: BinaryIO, offset: int) -> bytes:
    """Read the bytes of one image of the binary version.

    Raises:
        InputError: TRUNCATED.
    """
    return _read(stream, offset, _IMAGE_BYTES, _IMAGE_BYTES)


def read_pickled(stream: BinaryIO, offset: int, size: int) -> Records:
    """Read the images of one batch of the python version.

    Raises:
        InputError: TRUNCATED or UNREADABLE.
    """
    return unpickled(_read(stream, offset, size, _MOST_BATCH_BYTES))[0]


def _read(stream: BinaryIO, offset: int, size: int, most: int) -> bytes:
    if size > most:
        raise InputError(Failure.TOO_MANY_BYTES, f"{size} bytes, the limit is {most}")
    stream.seek(offset)
    data = stream.read(size)
    if len(data) < size:
        raise InputError(Failure.TRUNCATED, "the archive ends early")
    return data


def _of(found: Any, key: str) -> Any:  # noqa: ANN401 - of a pickle
    """Get an entry by its key, which Python 2 wrote as bytes."""
    if not isinstance(found, dict):
        raise TypeError
    value = found.get(key.encode(), found.get(key))
    if value is None:
        raise ValueError
    return value


def _bytes(value: Any) -> bytes:  # noqa: ANN401 - the same
    """Get bytes: Python 3 writes them for Python 2 as text to be encoded."""
    if isinstance(value, pickles.Noted) and value.name == pickles.ENCODING and value.arguments:
        text, encoding = value.arguments
        if encoding == "latin1":
            return str(text).encode("latin-1")
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, (bytes, bytearray)):
        raise TypeError
    return bytes(value)


def _array(value: Any) -> Records:  # noqa: ANN401 - the same
    """Make the array that was noted down: `_reconstruct` with a state, or `_frombuffer`."""
    if not isinstance(value, pickles.Noted) or not value.arguments:
        raise TypeError
    function = value.name.rpartition(" ")[2]
    if function == "_reconstruct":
        _, shape, kind, column_major, raw = value.state
    elif function == "_frombuffer":
        raw, kind, shape, order = value.arguments
        column_major = order != "C"
    else:
        raise TypeError
    if not isinstance(kind, pickles.Noted) or (kind.arguments or ("",))[0] not in ("u1", b"u1"):
        raise TypeError
    if column_major or len(shape) != 2 or shape[1] != _IMAGE_BYTES:  # noqa: PLR2004 - axes
        raise ValueError
    return np.frombuffer(_bytes(raw), np.uint8).reshape(shape)
