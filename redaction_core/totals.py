"""What rows add up to: counts and sums, from shards to the whole run, never the rows themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(kw_only=True)
class Totals:
    """Counts of inputs and of failures by class, and the sums that means are made from."""

    inputs: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Name of a measure to the sum of its values and their number."""
    bytes: int = 0
    """Of the inputs, as they were read."""

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]], measures: Iterable[str]) -> Self:
        """Add up rows with a `failure` each and, where there is a value, the measures."""
        totals, names = cls(), tuple(measures)
        for row in rows:
            totals.inputs += 1
            if row["failure"] is not None:
                totals.failures[row["failure"]] += 1
            for name in names:
                if row[name] is not None:
                    totals.put(name, row[name])
        return totals

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            inputs=content["inputs"],
            failures=Counter(content["failures"]),
            sums={name: (total, count) for name, (total, count) in content["sums"].items()},
            bytes=content.get("bytes", 0),  # the commits of older runs have none
        )

    @property
    def failed(self) -> int:
        """Number of inputs without a result."""
        return self.failures.total()

    def put(self, name: str, value: float, count: int = 1) -> None:
        """Add one value to a measure, or the sum of several."""
        total, before = self.sums.get(name, (0.0, 0))
        self.sums[name] = (total + value, before + count)

    def add(self, other: Totals) -> None:
        """Add the totals of other rows."""
        self.inputs += other.inputs
        self.failures += other.failures
        self.bytes += other.bytes
        for name, (total, count) in other.sums.items():
            self.put(name, total, count)

    def means(self) -> dict[str, float]:
        """Mean of every measure that has values."""
        return {name: total / count for name, (total, count) in self.sums.items() if count}

    def to_json(self) -> dict[str, Any]:
        """Give JSON values."""
        return {
            "inputs": self.inputs,
            "failures": dict(sorted(self.failures.items())),
            "bytes": self.bytes,
            "sums": {name: list(self.sums[name]) for name in sorted(self.sums)},
        }
