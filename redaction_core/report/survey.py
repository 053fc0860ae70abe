"""All rows of a run, seen once: what they add up to, and which images to look at.

Holds a few numbers an image, so that a million of them take some ten megabytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

MEASURED: Final = ("recovered", "mae", "psnr", "ssim", "consistency_mae", "expected_mae")
"""Columns whose spread is shown."""
TABLE_ROWS: Final = 10_000
"""Rows that are listed one by one."""
KINDS: Final = ("best", "median", "worst", "random")
"""Of examples."""


class Survey:
    """Takes the parts of a run's metrics, in order."""

    def __init__(self, *, table_rows: int = TABLE_ROWS) -> None:
        self.inputs = 0
        self.failures: Counter[str] = Counter()
        self.inconsistent = 0
        """Results that do not explain their inputs."""
        self.coverage: list[float] = []
        """Share of the original's values in the intervals of 90 %, image by image."""
        self.head: list[dict[str, Any]] = []
        """The first rows, of `schemas.METRICS`."""
        self._table_rows = table_rows
        self._columns: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in MEASURED}
        self._draws: list[npt.NDArray[np.uint32]] = []
        self._starts: list[int] = []

    def add(self, part: pa.Table) -> None:
        """Take the next part."""
        self._starts.append(self.inputs)
        self.inputs += part.num_rows
        failed = part.column("failure").drop_null().to_pylist()
        self.failures.update(failed)
        self.inconsistent += part.column("consistent").to_pylist().count(False)
        self.coverage += part.column("coverage_p90").drop_null().to_pylist()
        for name, found in self._columns.items():
            values = part.column(name).cast(pa.float32()).to_numpy(zero_copy_only=False)
            found.append(np.asarray(values, np.float32))
        self._draws.append(
            np.array([_draw(key) for key in part.column("key").to_pylist()], np.uint32)
        )
        if len(self.head) < self._table_rows:
            self.head += part.slice(0, self._table_rows - len(self.head)).to_pylist()

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """Give one measure of every row, NaN where there is none."""
        return np.concatenate([np.zeros(0, np.float32), *self._columns[name]])

    @property
    def ranked_by(self) -> str:
        """What images are ordered by: what was recovered, or else is expected to be off."""
        names = ("recovered", "expected_mae")
        known = (name for name in names if np.isfinite(self.values(name)).any())
        return next(known, "consistency_mae")

    def examples(self, each: int) -> dict[str, list[int]]:
        """Choose up to `each` rows a kind, none twice; best and worst in this order, by number."""
        scores = self.values(self.ranked_by)
        if self.ranked_by != "recovered":
            scores = -scores
        rows = np.flatnonzero(np.isfinite(scores))
        order = rows[np.argsort(-scores[rows], kind="stable")]
        draws = self._lots()
        middle = max(0, (len(order) - each) // 2)
        wanted: dict[str, Sequence[int]] = {
            "best": order[:each].tolist(),
            "worst": order[::-1][:each].tolist(),
            "median": order[middle : middle + each].tolist(),
            "random": order[np.argsort(draws[order], kind="stable")][: 4 * each].tolist(),
        }
        taken: set[int] = set()
        chosen: dict[str, list[int]] = {}
        for kind, numbers in wanted.items():
            chosen[kind] = [number for number in numbers if number not in taken][:each]
            taken.update(chosen[kind])
        return {kind: chosen[kind] for kind in KINDS}

    def sample(self, count: int) -> list[int]:
        """Choose up to so many rows with a measured error at random, the same in every run."""
        rows = np.flatnonzero(np.isfinite(self.values("mae")))
        found: list[int] = rows[np.argsort(self._lots()[rows], kind="stable")][:count].tolist()
        return found

    def _lots(self) -> npt.NDArray[np.uint32]:
        return np.concatenate([np.zeros(0, np.uint32), *self._draws])

    def place(self, number: int) -> tuple[int, int]:
        """Say in which part a row is, and where in it."""
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return part, number - self._starts[part]


def _draw(key: str) -> int:
    """Give a number that looks random, and is the same in every run."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
