"""Files that belong to an input: its original or its mask, under the same relative path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from redaction_core.errors import Failure, InputError, ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redaction_core.storage import Store

_LOWER = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
_SUFFIXES = (*_LOWER, *(suffix.upper() for suffix in _LOWER))

_Picture = TypeVar("_Picture")


@dataclass(frozen=True, kw_only=True)
class Companions(Generic[_Picture]):
    """Pictures that belong to inputs, how to decode them, and what to call what goes wrong."""

    store: Store
    decode: Callable[[bytes], _Picture]
    missing: Failure
    unreadable: Failure
    max_bytes: int

    def read(self, key: str) -> _Picture:
        """Read what belongs to `key`: the same path, else the same path with any image suffix.

        Raises InputError (`missing` or `unreadable`), and StorageError when storage fails.
        """
        for name in _names(key):
            try:
                return self.decode(self.store.read(name, max_bytes=self.max_bytes).data)
            except ObjectMissingError:
                continue
            except InputError as error:
                raise InputError(self.unreadable, f"{name}: {error.detail}") from error
        detail = f"{self.store.location} has none of this name, with any image suffix"
        raise InputError(self.missing, detail)


def _names(key: str) -> Iterator[str]:
    yield key
    folder, slash, name = key.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    stem = stem if dot and stem else name
    for suffix in _SUFFIXES:
        if stem + suffix != name:
            yield folder + slash + stem + suffix
