"""A bucket, or a prefix in one, as a store.

boto3 finds endpoint, region and credentials the standard way, lists, and checks buckets; obstore
moves the objects (a tenth of the processor time an object), with credentials asked of boto3.
"""

import io
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import obstore
from obstore import exceptions

from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.storage.order import in_key_order
from redaction_core.storage.s3_clients import Clients
from redaction_core.storage.s3_faults import (
    FOREIGN,
    MISSING,
    UNCERTAIN,
    is_missing_bucket,
    is_too_long,
    is_transient,
    may_be_stale,
    translated,
)
from redaction_core.storage.store import (
    Blob,
    Entry,
    Store,
    checked_key,
    printable_key,
    why_bad_name,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import GetOptions
    from obstore.store import S3Store as Objects

_RETRY_VARIABLE: Final = "REDACTION_STORAGE_RETRY_S"
_RETRY_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 5.0
_READ_AHEAD_BYTES: Final = 2**21
_DELETE_AT_ONCE: Final = 1000  # the most that S3 takes in one request
_T = TypeVar("_T")
_LOG: Final = logging.getLogger(__name__)


class S3Store(Store):
    """Objects below one prefix of one bucket.

    What is transient (no connection, 5xx, throttling) is tried again for a minute, or for the
    seconds of the environment variable REDACTION_STORAGE_RETRY_S. Where credentials are refused
    as expired or unknown, they are looked for again, once a request.
    """

    in_flight = 8

    def __init__(self, bucket: str, prefix: str) -> None:
        """Find endpoint and credentials; talks to the bucket only to learn its region on AWS.

        Raises:
            StorageError: no credentials, an unknown profile, or an endpoint that is no URL.
        """
        self.location = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._base = prefix and prefix + "/"
        self._where = self.location
        self._retry_s = _retry_seconds()
        self._renewing = Lock()
        self._clients = self._open()
        self._where += f" at {self._clients.host}"

    @property
    def _objects(self) -> "Objects":
        return self._clients.objects

    def _open(self) -> Clients:
        try:
            return Clients.open(self._bucket)
        except FOREIGN as error:
            raise translated(error, "open", self._where) from error

    def _renew(self, refused: Clients) -> None:
        """Look for credentials once more, unless another thread just did."""
        with self._renewing:
            if self._clients is refused:
                self._clients = self._open()

    def list(self, prefix: str = "", *, missing_ok: bool = False) -> Iterator[Entry]:
        """See `Store.list`."""
        del missing_ok  # a prefix without objects is no error, a missing bucket always is
        return in_key_order(self._listed(prefix))

    def _listed(self, prefix: str) -> Iterator[Entry]:
        request = {"Bucket": self._bucket, "Prefix": self._base + prefix}
        while True:
            page = self._tried("list", "", lambda: self._clients.boto.list_objects_v2(**request))
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._base)
                if not key.endswith("/") and key:
                    yield _entry(key, item)
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        """See `Store.read`."""
        path = self._path(key)

        def get() -> Blob:
            found = obstore.get(self._objects, path)
            if max_bytes is not None and found.meta["size"] > max_bytes:
                detail = f"{found.meta['size']} bytes, the limit is {max_bytes}"
                raise InputError(Failure.TOO_MANY_BYTES, detail)
            return Blob(data=bytes(found.bytes()), version=_version(found.meta["e_tag"]))

        return self._tried("read", key, get)

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`."""
        found = self.entry(key)
        path = self._path(key)

        options: GetOptions = {"if_match": f'"{found.version}"'} if found.version else {}

        def get(start: int, end: int) -> bytes:
            try:
                part = obstore.get(self._objects, path, options={**options, "range": (start, end)})
            except exceptions.PreconditionError as error:
                raise InputError(Failure.INPUT_CHANGED, "replaced while it was read") from error
            # Not every server keeps the condition.
            if _version(part.meta["e_tag"]) != found.version:
                raise InputError(Failure.INPUT_CHANGED, "replaced while it was read")
            return bytes(part.bytes())

        def ranged(start: int, end: int) -> bytes:
            return self._tried("read", key, lambda: get(start, end))

        return io.BufferedReader(_Ranges(found.size, ranged), _READ_AHEAD_BYTES)

    def entry(self, key: str) -> Entry:
        """See `Store.entry`."""
        path = self._path(key)

        def head() -> Entry:
            try:
                found = obstore.head(self._objects, path)
            except exceptions.GenericError as error:
                if is_too_long(error, path):
                    raise FileNotFoundError from error
                raise
            return Entry(key=key, size=found["size"], version=_version(found["e_tag"]))

        return self._tried("read", key, head)

    def put(self, key: str, data: bytes) -> None:
        """See `Store.put`."""
        path = self._path(key)
        self._tried(
            "write", key, lambda: obstore.put(self._objects, path, data, use_multipart=False)
        )

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Store.put_if_absent`."""
        path = self._path(key)

        def create() -> bool:
            try:
                obstore.put(self._objects, path, data, mode="create")
            except UNCERTAIN:
                # A lost answer to our own write, or a conflict that stored nothing: look.
                if self.exists(key):
                    return False
                raise
            return True

        return self._tried("write", key, create)

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        path = self._path(key)

        def head() -> bool:
            try:
                obstore.head(self._objects, path)
            except MISSING:
                return False
            except exceptions.GenericError as error:
                if is_too_long(error, path):
                    return False
                raise
            return True

        return self._tried("look for", key, head)

    def delete(self, keys: Iterable[str]) -> int:
        """See `Store.delete`."""
        count = 0
        left = iter(keys)
        while paths := [self._path(key) for key in islice(left, _DELETE_AT_ONCE)]:
            self._delete(paths)
            count += len(paths)
        return count

    def _delete(self, paths: Sequence[str]) -> None:
        self._tried("delete from", "", lambda: obstore.delete(self._objects, paths))

    def sweep(self) -> None:
        """See `Store.sweep`: S3 has no temporary files."""

    def check(self, *, to_read: bool = False) -> None:  # noqa: ARG002 - the same question
        """See `Store.check`."""
        # HeadBucket names no prefix: it is denied to those who may list one alone.
        request = {"Bucket": self._bucket, "Prefix": self._base, "MaxKeys": 1}
        self._tried("reach", "", lambda: self._clients.boto.list_objects_v2(**request))

    def _path(self, key: str) -> str:
        return self._base + checked_key(key)

    def _tried(self, verb: str, key: str, request: Callable[[], _T]) -> _T:
        """Try a request until it succeeds, fails for good, or time is up."""
        end = time.monotonic() + self._retry_s
        pause_s, told, renewed = 0.1, False, False
        while True:
            clients = self._clients
            try:
                return request()
            except FOREIGN as error:
                if not renewed and may_be_stale(error):
                    self._renew(clients)
                    renewed = True
                    continue
                if not is_transient(error) or time.monotonic() >= end:
                    if not key and is_missing_bucket(error):
                        raise UsageError(f"no such bucket: {self._where}") from error
                    where = f"{printable_key(key)} in {self._where}" if key else self._where
                    raise translated(error, verb, where) from error
            if verb == "reach" and not told:
                _LOG.warning("%s does not answer: trying for %g s", self._where, self._retry_s)
                told = True
            # Jitter keeps many clients from coming back all at once.
            time.sleep(random.uniform(0, pause_s))  # noqa: S311 - no secret
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class _Ranges(io.RawIOBase):
    """An object of a known size as a raw file, read by ranges."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("negative seek position")
        self._at = start + offset
        return self._at

    def readall(self) -> bytes:
        # The inherited one asks for 8 KiB at a time.
        return b"".join(iter(lambda: self.read(_READ_AHEAD_BYTES) or b"", b""))

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        data = self._fetch(self._at, end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def _retry_seconds() -> float:
    text = os.environ.get(_RETRY_VARIABLE) or str(_RETRY_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(f"{_RETRY_VARIABLE}={text}: write seconds, such as {_RETRY_S:g}")
    return seconds


def _entry(key: str, item: dict[str, Any]) -> Entry:
    if why := why_bad_name(key):
        return Entry(key=printable_key(key), problem=Failure.BAD_NAME, detail=why)
    return Entry(key=key, size=item["Size"], version=_version(item.get("ETag")))


def _version(etag: str | None) -> str:
    return (etag or "").strip('"')
