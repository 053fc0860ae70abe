"""What a member of an archive is, and what is read of it."""

import json
from dataclasses import dataclass
from typing import Final

from redaction_core.errors import Failure
from redaction_core.images import Pixels
from redaction_core.storage import printable_key

_LONGEST_NAME: Final = 4096  # letters shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file in an archive, or one image in a file of many; with a problem it cannot be read."""

    name: str
    """Printable, otherwise as in the archive; names may repeat, and may be hostile as paths."""
    place: str
    """What a `MemberReader` needs to read it; empty with a problem."""
    size: int = 0
    """Bytes, as announced."""
    problem: Failure | None = None
    """BAD_NAME, UNREADABLE, UNSUPPORTED or TRUNCATED."""
    detail: str | None = None
    label: str | None = None
    """The name of its class, where the archive says so itself (CIFAR-10)."""
    split: str | None = None
    """ "test" where the archive says so itself, else None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """The bytes of one member, and its pixels where they are no image file."""

    data: bytes
    pixels: Pixels | None = None


def member(name: str, place: tuple[str | int, ...], size: int) -> Member:
    """Make a member that can be read, unless it has no name, or one that is too long."""
    if not name or len(name) > _LONGEST_NAME:
        detail = "a name of more than 4096 letters" if name else "a member without a name"
        return broken(name, Failure.BAD_NAME, detail, size)
    return Member(name=printable_key(name), place=json.dumps(place), size=size)


def broken(name: str, problem: Failure, detail: str, size: int = 0) -> Member:
    """Make a member that cannot be read."""
    shown = printable_key(name[:_LONGEST_NAME])
    return Member(name=shown, place="", size=size, problem=problem, detail=detail)


def is_of_macos(name: str) -> bool:
    """Say whether it holds what macOS keeps beside files, and no file of anybody's."""
    last = name.rpartition("/")[2]
    return last.startswith("._") or last == ".DS_Store" or name.startswith("__MACOSX/")
