"""Folders and S3 buckets behind one small interface.

store   what a store is: `Store`, its entries and blobs, which keys can be addressed
disk    a folder
s3      a bucket, or a prefix in one (boto3 and obstore are imported when one is opened)
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from redaction_core.errors import UsageError
from redaction_core.storage.disk import DiskStore
from redaction_core.storage.store import Blob, Entry, Store, printable_key, why_bad_name

__all__ = [
    "Blob",
    "DiskStore",
    "Entry",
    "Store",
    "open_file",
    "open_store",
    "overlap",
    "printable_key",
    "why_bad_name",
]

_ADVICE = "write s3://bucket/prefix, file:///folder or a plain path"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")


def overlap(one: str, other: str) -> bool:
    """Say whether one of two locations of stores lies in the other, or is it."""
    # Links could hide that two folders are one.
    first, second = (
        (place if "://" in place else os.path.realpath(place)).rstrip("/") + "/"
        for place in (one, other)
    )
    return first.startswith(second) or second.startswith(first)


def open_store(location: str) -> Store:
    """Open `s3://bucket/prefix`, `file:///folder` or a plain path; nothing is created or read.

    Raises:
        UsageError: the location is none of the three.
        StorageError: S3 is not configured (no credentials, unknown profile).
    """
    scheme = _SCHEME.match(location)
    if scheme is None:
        if not location or "\0" in location:
            raise UsageError(f"an empty location: {_ADVICE}")
        if location.startswith(("s3:", "file:")):
            raise UsageError(f"a location without '//' after its scheme: {_ADVICE}")
        return DiskStore(_absolute(location))
    if scheme[1].lower() == "file":
        return DiskStore(_path_of_url(location))
    if scheme[1].lower() != "s3":
        raise UsageError(f"{scheme[1]}:// locations are not supported: {_ADVICE}")
    bucket, _, prefix = location[scheme.end() :].partition("/")
    prefix = prefix.strip("/")
    if _BUCKET.fullmatch(bucket) is None:
        # The text may hold credentials, so it is not shown.
        raise UsageError(f"an S3 location without a valid bucket name: {_ADVICE}")
    if prefix and (why := why_bad_name(prefix)):
        where = f"s3://{bucket}/{printable_key(prefix)}"
        raise UsageError(f"{where} cannot be addressed ({why}): {_ADVICE}")
    # Importing boto3 and obstore takes longer than all else that --help does.
    from redaction_core.storage.s3 import S3Store

    return S3Store(bucket, prefix)


def open_file(location: str) -> tuple[Store, str]:
    """Split the location of one file or object into the store of its folder, and its key there.

    Nothing is looked at: the file need not exist.

    Raises:
        UsageError: as `open_store`, or the location names no file (a bucket, "..", "folder/").
        StorageError: as `open_store`.
    """
    scheme = _SCHEME.match(location)
    if scheme is not None and scheme[1].lower() == "s3":
        folder, _, name = location.rpartition("/")
        if folder.endswith("/"):  # a bucket alone, or "//"
            name = ""
    else:
        folder, name = os.path.split(open_store(location).location)
        if location.rpartition("/")[2] in ("", ".", ".."):
            name = ""
    if not name:
        raise UsageError("a location that names no file: a folder or a bucket is not enough here")
    if why := why_bad_name(name):
        # The text may hold credentials, so no more than the name is shown.
        raise UsageError(f"a location that names no file ({printable_key(name)!r}: {why})")
    return open_store(folder), name


def _path_of_url(location: str) -> str:
    url = urlsplit(location)
    if url.netloc not in ("", "localhost") or not url.path or url.query or url.fragment:
        raise UsageError(f"a file URL names this machine and has no '?' or '#': {_ADVICE}")
    return _absolute(unquote(url.path))


def _absolute(path: str) -> str:
    # Path.resolve would follow links, and show another folder than the one asked for.
    return os.path.normpath(Path(path).absolute())
