"""Plan files: a round of inputs each, and where its run writes what."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from redaction_core.commits.layout import SUMMARY, damaged, read_json, round_key
from redaction_core.commits.shard import ShardRef
from redaction_core.errors import ObjectMissingError, UsageError
from redaction_core.storage import Store

ELSEWHERE: Final = "choose another output"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What a verb writes besides images, plan and commits."""

    tables: tuple[str, ...] = ("metrics",)
    """Folders of Parquet parts."""
    companions: tuple[str, ...] = ()
    """Folders with a PNG file an image each, `companion_key`."""
    summary: str = SUMMARY
    extras: tuple[str, ...] = ()
    """Files that the end of the run writes, besides summary and run.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One plan file: the inputs that joined the run together."""

    verb: str
    config: Mapping[str, Any]
    config_sha256: str
    plan_id: str
    round: int
    first_shard: int
    inputs: int
    bytes: int
    failures: int  # inputs that the plan itself failed
    parts: tuple[str, ...]
    shard_size: int
    created: str
    layout: Layout = Layout()
    retries: bool = False
    """Its inputs are of earlier rounds, and failed there."""
    version: int = 1

    @property
    def key(self) -> str:
        """Name of the plan file."""
        return round_key(self.round)

    def shards(self) -> Iterator[ShardRef]:
        """Yield the shards of this round, in order."""
        for number, part in enumerate(self.parts, self.first_shard):
            yield ShardRef(number=number, plan_id=self.plan_id, part=part)

    def size_of(self, shard: ShardRef) -> int:
        """Count the inputs of one of these shards: all are full but the last."""
        return min(
            self.shard_size, self.inputs - (shard.number - self.first_shard) * self.shard_size
        )


def read_round(store: Store, number: int) -> Round | None:
    """Read one plan file; None if there is none.

    Raises:
        UsageError: it is damaged, or another version of this package wrote it.
    """
    key = round_key(number)
    try:
        found = read_json(store, key)
    except ObjectMissingError:
        return None
    if found.get("version") != 1:
        raise UsageError(f"{key} in {store.location} is of another version: {ELSEWHERE}")
    try:
        layout = Layout(**_tuples(found.get("layout", {})))
        return Round(**{**_tuples(found), "layout": layout})
    except (KeyError, TypeError) as error:
        raise damaged(store, key) from error


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists alone."""
    return {name: tuple(each) if isinstance(each, list) else each for name, each in fields.items()}
