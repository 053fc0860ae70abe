"""Archives as lists of members, which are read again one by one; nothing is ever unpacked to disk.

member   what a member is, and what is read of it
stream   an archive as one seekable stream of bytes, unpacked on the way
tar      members of a tar file, whatever it claims
zip      members of a zip file, and how one is read
cifar    CIFAR-10 as its publisher packs it, and the names of files in trees of classes
pickles  pickles of arrays, read as data: nothing in them runs
reader   reading members again, in a worker

Names in archives are data: they are shown and compared, and never used as paths. Left out without
a word are folders and what macOS adds ("__MACOSX/", "._*", ".DS_Store"). Memory is bounded, but
for the directory of a zip file, some 0.5 KB a member, while its members are listed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from redaction_core.archives import cifar, tar
from redaction_core.archives import zip as zips
from redaction_core.archives.cifar import label_and_split
from redaction_core.archives.member import Content, Member
from redaction_core.archives.reader import MemberReader
from redaction_core.archives.stream import DAMAGED, opened, packing
from redaction_core.errors import InputError, ObjectMissingError, UsageError
from redaction_core.storage import Store

__all__ = [
    "Archive",
    "Content",
    "Member",
    "MemberReader",
    "is_archive",
    "label_and_split",
    "open_archive",
]

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")  # a member, or the end of an empty one


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive whose format is known; a folder of CIFAR-10's batches is a format of its own."""

    store: Store
    key: str
    format: str
    """"tar", "zip", "cifar-10-batches-py" or "cifar-10-batches-bin"."""

    def members(self) -> Iterator[Member]:
        """Yield the members in the order of their places, as often as asked for.

        What cannot be read comes as a member with a problem: links, devices, encrypted ones, and
        the rest of an archive that is damaged or ends early, as one.

        Raises:
            UsageError: no member can be listed (zip without its directory, CIFAR-10 without
                batches.meta, the archive is gone).
            StorageError: the storage fails.
        """
        try:
            with self.store.open(self.key) as file:
                if self.format == "zip":
                    yield from zips.members(file)
                    return
                with opened(file) as stream:
                    if self.format == "tar":
                        yield from tar.members(stream)
                    else:
                        yield from cifar.members(stream, self.format)
        except ObjectMissingError as error:
            raise UsageError(str(error)) from error
        except InputError as error:
            raise UsageError(f"cannot read {_shown(self.store, self.key)}: {error}") from error
        except UsageError as error:
            raise UsageError(f"{_shown(self.store, self.key)}: {error}") from error


def is_archive(store: Store, key: str) -> bool:
    """Say whether there is a file or object of this key that is an archive, by its content.

    Raises:
        StorageError: the storage fails.
    """
    try:
        return _format(store, key) is not None
    except (ObjectMissingError, InputError):
        return False


def open_archive(store: Store, key: str) -> Archive:
    """Find out what archive it is; gzip, bzip2 and xz around a tar file are looked into.

    Raises:
        UsageError: it is none that we know, or not there.
        StorageError: the storage fails.
    """
    try:
        found = _format(store, key)
    except ObjectMissingError as error:
        raise UsageError(str(error)) from error
    except InputError as error:
        raise UsageError(f"cannot read {_shown(store, key)}: {error.detail}") from error
    if found is None:
        raise UsageError(
            f"{_shown(store, key)} is no archive: give a tar (plain, gzip, bzip2 or "
            "xz) or zip file; unpack others first"
        )
    return Archive(store=store, key=key, format=found)


def _shown(store: Store, key: str) -> str:
    return f"{store.location.rstrip('/')}/{key}"


def _format(store: Store, key: str) -> str | None:
    with store.open(key) as file:
        head = file.read(tar.BLOCK_BYTES)
        if head.startswith(_ZIP):
            return "zip"
        if packing(head) is None and not tar.is_tar(head):
            return None
        with opened(file) as stream:
            try:
                if not tar.is_tar(stream.read(tar.BLOCK_BYTES)):
                    return None
                stream.seek(0)
                return cifar.folder(next(tar.members(stream, folders=True), None)) or "tar"
            except DAMAGED:
                return None
