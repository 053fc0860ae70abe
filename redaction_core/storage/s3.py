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
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
import obstore
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore import exceptions
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as Objects

from redaction_core.errors import Failure, InputError, UsageError
from redaction_core.storage.listing import AT_ONCE, Page, listed
from redaction_core.storage.order import in_key_order
from redaction_core.storage.s3_faults import (
    FOREIGN,
    MISSING,
    UNCERTAIN,
    is_missing_bucket,
    is_too_long,
    is_transient,
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

_RETRY_VARIABLE: Final = "REDACTION_STORAGE_RETRY_S"
_RETRY_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 5.0
_READ_AHEAD_BYTES: Final = 2**21
_PAGE: Final = 1000  # names; the most there are in one answer
_DELETE_AT_ONCE: Final = 1000  # the most that S3 takes in one request
_CONFIG: Final = Config(
    max_pool_connections=AT_ONCE,
    retries={"total_max_attempts": 1},  # one policy for all requests: ours
    s3={"addressing_style": "path"},  # a server of one's own has no host name for each bucket
)
_T = TypeVar("_T")
_LOG: Final = logging.getLogger(__name__)


class S3Store(Store):
    """Objects below one prefix of one bucket.

    What is transient (no connection, 5xx, throttling) is tried again for a minute, or for the
    seconds of the environment variable REDACTION_STORAGE_RETRY_S.
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
        try:
            session = boto3.Session(botocore_session=_core_session())
            self._client = session.client("s3", config=_CONFIG)
            endpoint: str = self._client.meta.endpoint_url
            self._in_order = _on_aws(endpoint) and not bucket.endswith("--x-s3")
            host = urlsplit(endpoint)
            self._where += f" at {host.hostname}" + (f":{host.port}" if host.port else "")
            self._objects = Objects(
                bucket,
                credential_provider=Boto3CredentialProvider(session),
                client_options={
                    "allow_http": host.scheme == "http",
                    "connect_timeout": timedelta(seconds=5),
                    "timeout": timedelta(seconds=120),
                },
                retry_config={"max_retries": 0},  # as in _CONFIG
                **self._place(endpoint),
            )
        except FOREIGN as error:
            raise translated(error, "open", self._where) from error

    def _place(self, endpoint: str) -> dict[str, Any]:
        """Say where the bucket is; boto3 follows redirects between regions, obstore does not."""
        region = self._client.meta.region_name
        if not _on_aws(endpoint):
            return {
                "region": region or "us-east-1",
                "endpoint": endpoint,
                "aws_endpoint_url_s3": endpoint,
                "virtual_hosted_style_request": False,
            }
        try:
            found = self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:  # denied to those who may not list; 404 is told when used
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            return {"region": headers.get("x-amz-bucket-region", region)}
        return {"region": found.get("BucketRegion", region)}

    def list(self, prefix: str = "", *, missing_ok: bool = False) -> Iterator[Entry]:
        """See `Store.list`."""
        del missing_ok  # a prefix without objects is no error, a missing bucket always is
        found = listed(self._page, prefix)
        # General-purpose buckets of AWS promise the order of keys, and nobody else does.
        return found if self._in_order else in_key_order(found)

    def _page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        request = {"Bucket": self._bucket, "Prefix": self._base + prefix, "MaxKeys": _PAGE}
        request |= {"Delimiter": "/"} if by_folder else {}
        request |= {"ContinuationToken": token} if token else {}
        page = self._tried("list", "", lambda: self._client.list_objects_v2(**request))
        names: dict[str, Entry | str] = {}
        for item in page.get("Contents", ()):
            key = item["Key"].removeprefix(self._base)
            if not key.endswith("/") and key:
                names[key] = _entry(key, item)
        for item in page.get("CommonPrefixes", ()):
            folder = item["Prefix"].removeprefix(self._base)
            names[folder] = folder
        items = [names[name] for name in sorted(names)] if by_folder else list(names.values())
        return Page(items=items, token=page.get("NextContinuationToken"))  # the last has none

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
        self._tried("reach", "", lambda: self._client.head_bucket(Bucket=self._bucket))

    def _path(self, key: str) -> str:
        return self._base + checked_key(key)

    def _tried(self, verb: str, key: str, request: Callable[[], _T]) -> _T:
        """Try a request until it succeeds, fails for good, or time is up."""
        end = time.monotonic() + self._retry_s
        pause_s, told = 0.1, False
        while True:
            try:
                return request()
            except FOREIGN as error:
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


def _core_session() -> botocore.session.Session:
    """Leave times in answers as texts: to read them takes two thirds of a listing's time."""
    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return session


def _retry_seconds() -> float:
    text = os.environ.get(_RETRY_VARIABLE) or str(_RETRY_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(f"{_RETRY_VARIABLE}={text}: write seconds, such as {_RETRY_S:g}")
    return seconds


def _on_aws(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _entry(key: str, item: dict[str, Any]) -> Entry:
    if why := why_bad_name(key):
        return Entry(key=printable_key(key), problem=Failure.BAD_NAME, detail=why)
    return Entry(key=key, size=item["Size"], version=_version(item.get("ETag")))


def _version(etag: str | None) -> str:
    return (etag or "").strip('"')
