"""What a verb tells the workers that run its shards; known without Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from redaction_core.errors import InputError
    from redaction_core.plan import PlannedInput
    from redaction_core.storage import Store
    from redaction_core.totals import Totals


class Outcome(Protocol):
    """What became of some inputs."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row an input, in order."""

    @property
    def totals(self) -> Totals:
        """What the rows add up to."""


class Work(Protocol):
    """What a verb does with the inputs of a shard."""

    def run(self, inputs: Sequence[PlannedInput]) -> Outcome:
        """Do them all; every input gives one row."""

    def failure(self, item: PlannedInput, error: InputError) -> Outcome:
        """Give the outcome of an input that could not be tried."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """All that a worker must know; goes to it by pickle."""

    output: Store
    open_work: Callable[[bool], Work]
    """Called once a worker, with True where the worker has a GPU."""
    table: str
    """Folder of the Parquet parts."""
    schema: pa.Schema
