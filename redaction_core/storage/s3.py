"""A bucket, or a prefix in one, as a store.

boto3 finds endpoint, region and credentials the standard way, lists, and checks buckets; obstore
moves the objects (a tenth of the processor time an object), with credentials asked of boto3.
"""

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import obstore
from botocore.parsers import ResponseParserError
from obstore import exceptions

from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.storage.listing import Page, listed
from redaction_core.storage.order import in_key_order
from redaction_core.storage.s3_clients import READ_AT_ONCE, Clients
from redaction_core.storage.s3_faults import (
    FOREIGN,
    MISSING,
    UNCERTAIN,
    is_missing_bucket,
    is_too_long,
    may_be_stale,
    translated,
)
from redaction_core.storage.s3_requests import Ranges, seconds_of, tried, within
from redaction_core.storage.store import (
    Blob,
    Entry,
    Store,
    checked_key,
    printable_key,
    why_bad_name,
)

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store as Objects

_RETRY_S: Final = 180.0  # an outage of a minute, and requests that hang at its end
_TIMEOUT_S: Final = 30.0
_READ_AHEAD_BYTES: Final = 2**21
_QUIET_S: Final = 3.0  # a single refusal is no news
_PAGE: Final = 1000  # names; the most there are in one answer
_PAGE_BYTES: Final = 2**20  # of a listing
_DELETE_AT_ONCE: Final = 1000  # the most that S3 takes in one request
_T = TypeVar("_T")
_LOG: Final = logging.getLogger(__name__)


class S3Store(Store):
    """Objects below one prefix of one bucket.

    What is transient (no connection, 5xx, throttling) is tried again for three minutes, or for the
    seconds of the environment variable REDACTION_STORAGE_RETRY_S. A request is given up after half
    a minute without a byte (REDACTION_STORAGE_TIMEOUT_S), or when it is too slow. Where credentials
    are refused as expired or unknown, they are looked for again, once a request.
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
        self._retry_s = seconds_of("REDACTION_STORAGE_RETRY_S", _RETRY_S)
        self._timeout_s = seconds_of("REDACTION_STORAGE_TIMEOUT_S", _TIMEOUT_S)
        if not self._timeout_s:
            raise UsageError("REDACTION_STORAGE_TIMEOUT_S=0: no request could succeed")
        self._renewing = Lock()
        self._clients = self._open()
        self._where += f" at {self._clients.host}"

    @property
    def _objects(self) -> "Objects":
        return self._clients.objects

    def _open(self) -> Clients:
        try:
            return tried(lambda: Clients(self._bucket, self._timeout_s), self._retry_s)
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
        # Not even AWS lists in the order of the keys that we show: some names have escapes.
        return in_key_order(listed(self._page, prefix))

    def any_of(self, prefix: str = "") -> Entry | None:
        """See `Store.any_of`."""
        return next(listed(self._page, prefix), None)

    def _page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        request = {"Bucket": self._bucket, "Prefix": self._base + prefix, "MaxKeys": _PAGE}
        request |= {"Delimiter": "/"} if by_folder else {}
        request |= {"ContinuationToken": token} if token else {}
        page = self._tried("list", "", lambda: self._answer(request))
        keys = ((item["Key"].removeprefix(self._base), item) for item in page.get("Contents", ()))
        return Page(
            entries=[_entry(key, item) for key, item in keys if key and not key.endswith("/")],
            folders=[
                item["Prefix"].removeprefix(self._base) for item in page.get("CommonPrefixes", ())
            ],
            token=page["NextContinuationToken"] if page["IsTruncated"] else None,
        )

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        clients = self._clients
        page: dict[str, Any] = within(
            clients.limit_s(_PAGE_BYTES), lambda: clients.boto.list_objects_v2(**request)
        )
        # For boto3, an answer that ends before its body is a folder without files.
        if page.get("IsTruncated", True) and not page.get("NextContinuationToken"):
            raise ResponseParserError("a listing without its end")
        return page

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        """See `Store.read`."""
        path = self._path(key)

        def get() -> Blob | Entry:
            found = obstore.get(self._objects, path)
            size, version = found.meta["size"], _version(found.meta["e_tag"])
            if max_bytes is not None and size > max_bytes:
                detail = f"{size} bytes, the limit is {max_bytes}"
                raise InputError(Failure.TOO_MANY_BYTES, detail)
            if size > READ_AT_ONCE:
                return Entry(key=key, size=size, version=version)
            return Blob(data=bytes(found.bytes()), version=version)

        found = self._tried("read", key, get)
        if isinstance(found, Blob):
            return found
        # In parts: what goes wrong half-way costs one of them.
        return Blob(data=self._ranges(found).readall(), version=found.version)

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`."""
        return io.BufferedReader(self._ranges(self.entry(key)), _READ_AHEAD_BYTES)

    def _ranges(self, found: Entry) -> Ranges:
        path = self._path(found.key)
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
            return self._tried("read", found.key, lambda: get(start, end))

        return Ranges(found.size, ranged)

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

        def put() -> None:
            obstore.put(self._clients.writer(data), path, data, use_multipart=False)

        self._tried("write", key, put)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Store.put_if_absent`."""
        path = self._path(key)

        def create() -> bool:
            try:
                obstore.put(self._clients.writer(data), path, data, mode="create")
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
        self._tried("reach", "", lambda: self._answer(request))

    def _path(self, key: str) -> str:
        return self._base + checked_key(key)

    def _tried(self, verb: str, key: str, request: Callable[[], _T]) -> _T:
        """Try a request as `tried` does; its error is one line for people."""
        started, told, renewed = time.monotonic(), False, False

        def tell() -> None:
            nonlocal told
            if verb == "reach" and not told and time.monotonic() - started > _QUIET_S:
                _LOG.warning("%s does not answer: trying for %g s", self._where, self._retry_s)
                told = True

        def with_credentials() -> _T:
            nonlocal renewed
            clients = self._clients
            try:
                return request()
            except FOREIGN as error:
                if renewed or not may_be_stale(error):
                    raise
            self._renew(clients)
            renewed = True
            return request()

        try:
            return tried(with_credentials, self._retry_s, tell)
        except FOREIGN as error:
            if not key and is_missing_bucket(error):
                raise UsageError(f"no such bucket: {self._where}") from error
            where = f"{printable_key(key)} in {self._where}" if key else self._where
            raise translated(error, verb, where) from error


def _entry(key: str, item: dict[str, Any]) -> Entry:
    if why := why_bad_name(key):
        return Entry(key=printable_key(key), problem=Failure.BAD_NAME, detail=why)
    return Entry(key=key, size=item["Size"], version=_version(item.get("ETag")))


def _version(etag: str | None) -> str:
    return (etag or "").strip('"')
