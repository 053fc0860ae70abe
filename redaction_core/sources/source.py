"""What a source is, and what it gives for each input."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from redaction_core.errors import InputError
from redaction_core.plan import PlannedInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from redaction_core.images import Pixels


@dataclass(frozen=True, kw_only=True)
class Details:
    """What a data set keeps of an input besides its image; travels in `PlannedInput.extra`."""

    name: str
    """URL without credentials, or key; data of strangers."""
    image_id: str | None = None
    """None: it is the key."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Carried columns that have a value."""
    label: str | None = None
    split: str | None = None
    """What the source itself says."""
    place: str | None = None
    """Where in an archive."""
    secret: bool = False
    """The URL itself must not be written here: it is read from the list again."""

    def to_json(self) -> str:
        """Write what is not left out."""
        found = {name: value for name, value in vars(self).items() if value or name == "name"}
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def of(cls, item: PlannedInput) -> Details:
        """Read those of a planned input."""
        return cls(**json.loads(item.extra)) if item.extra else cls(name=item.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What came of one input: bytes of a file, or the reason why there are none."""

    item: PlannedInput
    data: bytes = b""
    pixels: Pixels | None = None
    """Where the data are no file: uint8, HxWx3."""
    error: InputError | None = None
    http_status: int | None = None
    attempts: int = 1
    received: int = 0
    """Bytes."""
    seconds: float = 0.0


class Source(Protocol):
    """Inputs of one location. Goes to workers by pickle."""

    @property
    def location(self) -> str:
        """Where it is, without credentials."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Carried columns: name to a type of `schemas.COLUMN_TYPES`."""

    @property
    def renamed(self) -> Mapping[str, str]:
        """Names of carried columns in the data set, where they may differ from the source's."""

    @property
    def labels(self) -> bool:
        """Say whether inputs may have a label."""

    @property
    def at_once(self) -> int:
        """Shards that a worker is to read at the same time."""

    def planned(self) -> Iterator[PlannedInput]:
        """List the inputs in the byte order of their keys; streams."""

    def open(self) -> Reader:
        """Get ready to read, once in each worker."""


class Reader(Protocol):
    """A worker's side of a source."""

    def contents(self, inputs: Sequence[PlannedInput]) -> Iterator[Content]:
        """Give what comes of every input, in any order. Safe to call from several threads."""

    def close(self) -> None:
        """Let go of connections and open files."""


def failed(item: PlannedInput) -> Content | None:
    """Give the content of an input that the plan has failed already."""
    if item.failure is None:
        return None
    return Content(item=item, error=InputError(item.failure, item.detail or ""), attempts=0)
