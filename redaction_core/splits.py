"""Which split an image is in: by its content, or by the group it belongs to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ONE = 2**64
_LONGEST_NAME = 500


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Shares images out to `train` and `val` by hashes: never by order, place or worker."""

    val_fraction: float = 0.0333
    seed: int = 0
    group_by: str | None = None
    """A carried column, or a regular expression over names."""
    columns: tuple[str, ...] = ()
    """Names of the carried columns."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        if not 0 <= self.val_fraction <= 1:
            raise UsageError(f"--val-fraction {self.val_fraction}: write a share, 0 to 1")
        if self.group_by is not None and self.group_by not in self.columns:
            try:
                re.compile(self.group_by)
            except re.error as error:
                raise UsageError(
                    f"--group-by {self.group_by}: no column of the list, "
                    f"and no regular expression ({error})"
                ) from error

    def group(self, name: str, carried: Mapping[str, Any]) -> str | None:
        """Name the group of an input; None for one that stands alone.

        By a column: its value. By an expression: what its first parentheses (without any: the
        whole of it) match in the name, a URL or a key. Of long names the last 500 letters count.
        Nothing, or an empty text, is no group.
        """
        if self.group_by is None:
            return None
        if self.group_by in self.columns:
            value = carried.get(self.group_by)
            return None if value is None else str(value) or None
        # Strangers' names may be long, and expressions may take quadratic time.
        found = self._pattern.search(name[-_LONGEST_NAME:])
        if found is None:
            return None
        return (found[1] if found.re.groups else found[0]) or None

    def split(self, unit: str) -> str:
        """Give the split, `train` or `val`, of all images of one group, or of one content."""
        digest = hashlib.sha256(f"{self.seed}\n{unit}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / _ONE
        return "val" if share < self.val_fraction else "train"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.group_by or "")
