"""From a listing to shards: output names, collisions, what changed since the last plan.

Everything streams, and everything is in the byte order of UTF-8 keys. That is how Python compares
texts, too: by their code points.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from itertools import islice
from typing import Final, Protocol, TypeVar

from redaction_core.errors import Failure, UsageError

_LONGEST_NAME: Final = 255  # bytes: one segment, on disk
_LONGEST_KEY: Final = 900  # bytes: S3 ends at 1024, prefix included
_SAME_SUFFIX: Final = {".jpg": (".jpg", ".jpeg")}
_EXAMPLES: Final = 3
_AFTER_SLASH: Final = "0"  # comes after "/": name + this is past all that lies in the folder


class Listed(Protocol):
    """One entry of a listing (`storage.Entry`)."""

    @property
    def key(self) -> str:
        """UTF-8 segments joined by "/"."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def version(self) -> str:
        """ETag, or time of modification."""

    @property
    def problem(self) -> Failure | None:
        """Why it cannot be read at all."""

    @property
    def detail(self) -> str | None:
        """The problem in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedInput:
    """One input: what it is, and what it will be called; with a failure it has no output."""

    key: str
    size: int  # bytes
    version: str
    output: str | None = None
    failure: Failure | None = None
    detail: str | None = None
    extra: str | None = None  # JSON: what the verb alone understands


class Change(StrEnum):
    """How an input of a new listing relates to an earlier plan."""

    SAME = auto()
    NEW = auto()
    CHANGED = auto()
    """Its size or version differs."""
    GONE = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """How the inputs differ from those planned."""

    same: int
    new: int
    new_bytes: int
    changed: int
    changed_examples: tuple[str, ...]
    gone: int

    def refuse_changed(self) -> None:
        """Stop where inputs that have been planned are no longer what they were.

        Raises:
            UsageError: with the count and some examples.
        """
        if self.changed:
            raise UsageError(
                f"{self.changed} inputs changed since they were planned "
                f"({', '.join(self.changed_examples)}): restore them, choose another output, or "
                "start anew with --overwrite"
            )


def output_key(key: str, suffix: str) -> str:
    """Name the output: the key itself if it ends in the suffix, in any case, else with it appended.

    The suffix is ".png", ".webp" or ".jpg"; for the last, ".jpeg" counts too.
    """
    return key if _has_suffix(key, suffix) else key + suffix


def planned(
    entries: Iterable[Listed], suffix: str, earlier: Iterable[PlannedInput] = ()
) -> Iterator[PlannedInput]:
    """Give each entry its output name, or the reason why it has none.

    Of two inputs with one output name, the one that had to be renamed fails (NAME_COLLISION), as
    does one whose output name is a folder of other outputs. Inputs of an earlier plan keep what
    that plan gave them, and whatever is new gives way to them. Holds no more than the entries
    between a key and its own output name.

    Entries and the earlier plan come in the byte order of their keys, and so does the result.
    """
    waiting: deque[_Claim] = deque()  # in key order, until nothing more can collide with the first
    claims: list[_Claim] = []  # those a later key may collide with
    for entry, before in _merged(entries, earlier):
        claim = _claim(entry, before, suffix)
        key = claim.item.key
        while waiting and waiting[0].end <= key:
            yield waiting.popleft().item
        if claims:
            claims = [other for other in claims if other.end > key]
        for other in claims:
            if claim.meets(other):
                (claim if other.kept else other).lose(other if other.kept else claim)
        if claim.item.output is not None:
            claims.append(claim)
        if entry is not None:
            waiting.append(claim)
    yield from (claim.item for claim in waiting)


def shards(inputs: Iterable[PlannedInput], shard_size: int) -> Iterator[list[PlannedInput]]:
    """Cut into lists of `shard_size`; the last may be shorter, none is empty."""
    left = iter(inputs)
    while shard := list(islice(left, shard_size)):
        yield shard


def fingerprint(config: Mapping[str, object]) -> str:
    """SHA-256, in hex, of the configuration as JSON, whatever the order of its fields."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """List the fields that differ, as "redact: pixelate:4 -> pixelate:8", by name."""
    return [
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if fingerprint(_only(old, name)) != fingerprint(_only(new, name))
    ]


def compare(
    old: Iterable[PlannedInput], new: Iterable[PlannedInput]
) -> Iterator[tuple[Change, PlannedInput]]:
    """Merge an earlier plan with a new one, by key; a gone input comes as it was planned."""
    for before, now in _merged(old, new):
        if now is None:
            if before is not None:
                yield Change.GONE, before
        elif before is None:
            yield Change.NEW, now
        elif (before.size, before.version) == (now.size, now.version):
            yield Change.SAME, now
        else:
            yield Change.CHANGED, now


def changes(before: Iterable[PlannedInput], now: Iterable[PlannedInput]) -> Changes:
    """Count what `compare` finds; streams."""
    counts = dict.fromkeys(Change, 0)
    examples: list[str] = []
    new_bytes = 0
    for change, item in compare(before, now):
        counts[change] += 1
        if change is Change.NEW:
            new_bytes += item.size
        elif change is Change.CHANGED and len(examples) < _EXAMPLES:
            examples.append(item.key)
    return Changes(
        same=counts[Change.SAME],
        new=counts[Change.NEW],
        new_bytes=new_bytes,
        changed=counts[Change.CHANGED],
        changed_examples=tuple(examples),
        gone=counts[Change.GONE],
    )


@dataclass(slots=True)
class _Claim:
    """An input's claim to its output name, until the keys are past `end`."""

    item: PlannedInput
    kept: bool  # an earlier plan gave the name
    end: str

    def meets(self, other: "_Claim") -> bool:
        """Say whether both outputs are one, or mine lies in a folder of the other's name."""
        mine, theirs = self.item.output, other.item.output
        if mine is None or theirs is None or (self.kept and other.kept):
            return False
        return mine == theirs or mine.startswith(theirs + "/")

    def lose(self, to: "_Claim") -> None:
        name = self.item.output
        same = to.item.output == name
        detail = f"the output name {name} {'belongs to' if same else 'clashes with'} {to.item.key}"
        failure = Failure.NAME_COLLISION
        self.item = replace(self.item, output=None, failure=failure, detail=detail)


_Left = TypeVar("_Left", bound="_Keyed")
_Right = TypeVar("_Right", bound="_Keyed")


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


def _merged(
    left: Iterable[_Left], right: Iterable[_Right]
) -> Iterator[tuple[_Left | None, _Right | None]]:
    """Pair two sequences by key, each in the byte order of its keys; never (None, None)."""
    lefts, rights = iter(left), iter(right)
    one, two = next(lefts, None), next(rights, None)
    while one is not None and two is not None:
        if one.key == two.key:
            yield one, two
            one, two = next(lefts, None), next(rights, None)
        elif one.key < two.key:
            yield one, None
            one = next(lefts, None)
        else:
            yield None, two
            two = next(rights, None)
    if one is not None:
        yield one, None
    if two is not None:
        yield None, two
    yield from ((each, None) for each in lefts)
    yield from ((None, each) for each in rights)


def _claim(entry: Listed | None, before: PlannedInput | None, suffix: str) -> _Claim:
    if before is not None:
        item = before
        if entry is not None and (entry.size, entry.version) != (before.size, before.version):
            item = replace(before, size=entry.size, version=entry.version)
    elif entry is not None:
        item = _named(entry, suffix)
    return _Claim(item, before is not None, item.output + _AFTER_SLASH if item.output else "")


def _named(entry: Listed, suffix: str) -> PlannedInput:
    output: str | None = None
    failure, detail = entry.problem, entry.detail
    if failure is None:
        output = output_key(entry.key, suffix)
        # Most names are too short for any limit: a character has four bytes at most.
        if 4 * len(output) > _LONGEST_NAME and (detail := _too_long(output)):
            output, failure = None, Failure.BAD_NAME
    return PlannedInput(
        key=entry.key,
        size=entry.size,
        version=entry.version,
        output=output,
        failure=failure,
        detail=detail,
    )


def _too_long(output: str) -> str | None:
    longest = max(len(name.encode()) for name in output.split("/"))
    for length, limit, what in (
        (longest, _LONGEST_NAME, "a segment"),
        (len(output.encode()), _LONGEST_KEY, "the whole name"),
    ):
        if length > limit:
            return f"{what} of the output name is {length} bytes long, the limit is {limit}"
    return None


def _has_suffix(key: str, suffix: str) -> bool:
    return key.lower().endswith(_SAME_SUFFIX.get(suffix, (suffix,)))


def _only(config: Mapping[str, object], name: str) -> dict[str, object]:
    return {name: config[name]} if name in config else {}


def _shown(config: Mapping[str, object], name: str) -> str:
    if name not in config:
        return "(absent)"
    value = config[name]
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
