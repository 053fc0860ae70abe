"""Reading members of one archive again, in a worker."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import BinaryIO, Self

from redaction_core.archives import cifar, tar
from redaction_core.archives import zip as zips
from redaction_core.archives.member import Content
from redaction_core.archives.stream import DAMAGED, opened
from redaction_core.errors import Failure, InputError, ObjectMissingError
from redaction_core.storage import Store


class MemberReader:
    """Reads by the places of members; may be shared between threads, which take turns.

    One stream stays open from the first read to `close`. In a packed tar file it only goes
    forward: read in the order of places, it is unpacked once.
    """

    def __init__(self, store: Store, key: str, *, version: str | None = None) -> None:
        """Take an archive, and its version when it was planned, which it must still have."""
        self._store = store
        self._key = key
        self._version = version
        self._lock = Lock()
        self._open = ExitStack()
        self._stream: BinaryIO | None = None
        self._batch: tuple[list[int], cifar.Records] | None = None

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Let go of the stream; reading again opens it again."""
        with self._lock:
            self._drop()

    def read_many(self, places: Sequence[str], *, max_bytes: int) -> Iterator[Content | InputError]:
        """Yield the content of each member, or why it has none, in the order given.

        A member has at most `max_bytes` bytes, whatever the archive says. Failures: NOT_FOUND and
        INPUT_CHANGED (of the archive), TOO_MANY_BYTES, TRUNCATED, UNREADABLE.

        Raises:
            StorageError: the storage fails.
        """
        for place in places:
            with self._lock:
                yielded = self._read(place, max_bytes)
            yield yielded

    def _read(self, place: str, max_bytes: int) -> Content | InputError:
        kind, *numbers = json.loads(place)
        try:
            return self._content(kind, numbers, max_bytes)
        except InputError as error:
            return error
        except ObjectMissingError as error:
            return InputError(Failure.NOT_FOUND, str(error))
        except DAMAGED:
            self._drop()  # where it stands now is not known
            return InputError(Failure.TRUNCATED, "the archive is damaged, or ends early")

    def _content(self, kind: str, numbers: list[int], max_bytes: int) -> Content:
        stream = self._opened(packed=kind != zips.PLACE)
        if kind == zips.PLACE:
            return Content(data=zips.read(stream, numbers, max_bytes))
        if kind == tar.PLACE:
            return Content(data=tar.read(stream, numbers, max_bytes))
        if kind == cifar.BINARY_PLACE:
            return cifar.content(cifar.read_binary(stream, numbers[0]))
        *batch, index = numbers
        if self._batch is None or self._batch[0] != batch:
            self._batch = None  # before the next takes its memory
            self._batch = batch, cifar.read_pickled(stream, *batch)
        return cifar.content(self._batch[1][index].tobytes())

    def _opened(self, *, packed: bool) -> BinaryIO:
        if self._stream is None:
            if self._version is not None:
                found = self._store.entry(self._key).version
                if found != self._version:
                    raise InputError(Failure.INPUT_CHANGED, "the archive changed since the plan")
            file = self._open.enter_context(self._store.open(self._key))
            self._stream = self._open.enter_context(opened(file)) if packed else file
        return self._stream

    def _drop(self) -> None:
        self._stream = self._batch = None
        self._open.close()
