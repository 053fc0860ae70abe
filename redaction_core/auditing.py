"""One shard of an audit: every image redacted in every way, restored, and compared with itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from redaction_core.errors import Failure, UsageError
from redaction_core.identification import CLEAN, REDACTED, RESTORED
from redaction_core.identity import load_matcher
from redaction_core.loading import Task
from redaction_core.reconstruction import Reconstruction, open_restorer
from redaction_core.redaction import Hiding
from redaction_core.splits import Splits
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redaction_core.errors import InputError
    from redaction_core.identity import Matcher
    from redaction_core.images import Pixels
    from redaction_core.inference import Restorer
    from redaction_core.loading import Work
    from redaction_core.plan import PlannedInput
    from redaction_core.reconstruction import Precision
    from redaction_core.redaction import Redaction

TABLE: Final = "audit"
EMBEDDINGS: Final = "embeddings"


@dataclass(frozen=True, kw_only=True)
class AuditTask:
    """What to do with every input."""

    task: Task
    """But for the redaction, and the model that undoes it."""
    redactions: tuple[Redaction, ...]
    enhancer: str | None = None
    """Location of the model directory; None: the weights that are shipped."""
    redacto: str | None = None
    groups: Splits
    """Which group an image is in, by its key."""
    identify: bool = False
    """Groups are people: tell by `identity` whom a picture shows."""
    matcher: str | None = None
    """As `identity.load_matcher` has it."""

    def of(self, redaction: Redaction) -> Task:
        """Give the task of one redaction."""
        network = "redacto" if isinstance(redaction, Hiding) else "enhancer"
        model = self.redacto if network == "redacto" else self.enhancer
        return replace(self.task, redaction=redaction, network=network, model=model)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Rows of `schemas.AUDIT`, image by image, and what they add up to."""

    rows: list[dict[str, Any]]
    failed: dict[str, str]
    totals: Totals
    embeddings: list[dict[str, Any]]
    """Of `schemas.EMBEDDINGS`."""

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The rows, by the name of their table."""
        return {TABLE: self.rows, EMBEDDINGS: self.embeddings}


def open_audit(
    gpu: bool,  # noqa: FBT001 - the one thing that workers differ in
    *,
    audit: AuditTask,
    precision: Precision,
    threads: int,
) -> Audit:
    """Load the models that the redactions need.

    Raises as `open_restorer`.
    """
    restorers: dict[str, Restorer] = {}
    attacks = []
    for redaction in audit.redactions:
        task = audit.of(redaction)
        if task.network not in restorers:
            restorers[task.network] = open_restorer(
                task, gpu=gpu, precision=precision, threads=threads
            )
        attacks.append(Reconstruction(task, restorers[task.network]))
    return Audit(audit, attacks, load_matcher(audit.matcher) if audit.identify else None)


class Seen:
    """What a matcher makes of the pictures that attacks come upon."""

    def __init__(self, matcher: Matcher) -> None:
        """Start with nothing."""
        self._matcher = matcher
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str | None, str], list[float]] = {}

    def look(self, redaction: str, work: Work, result: Pixels) -> None:
        """Take one image: as it is, as it was redacted, and as it came back."""
        states: list[tuple[str | None, str, Pixels]] = [
            (redaction, REDACTED, work.pixels),
            (redaction, RESTORED, result),
        ]
        key = work.item.key
        # Two attacks may both do it: the vector is the same.
        if work.original is not None and (key, None, CLEAN) not in self._found:
            states.append((None, CLEAN, work.original))
        vectors = self._matcher.embed([pixels for _, _, pixels in states])
        if not np.isfinite(vectors).all():
            raise UsageError(f"--matcher: its vectors of {key} are not finite")
        with self._lock:
            for (name, state, _), vector in zip(states, vectors, strict=True):
                self._found[key, name, state] = vector.tolist()

    @property
    def found(self) -> dict[tuple[str, str | None, str], list[float]]:
        """Vectors by key, redaction and state."""
        return self._found


class Audit:
    """Runs shards of one audit."""

    def __init__(
        self, audit: AuditTask, attacks: Sequence[Reconstruction], matcher: Matcher | None
    ) -> None:
        """Take an attack a redaction, in their order, and what they show their images to."""
        self._audit = audit
        self._attacks = attacks
        self._matcher = matcher

    def run(self, inputs: Sequence[PlannedInput]) -> Outcome:
        """Redact, restore and compare every input in every way.

        Raises StorageError when storage fails.
        """
        # One a run: an earlier one may have failed half-way.
        seen = Seen(self._matcher) if self._matcher else None
        found = [
            attack.run(inputs, partial(seen.look, str(redaction)) if seen else None).rows
            for redaction, attack in zip(self._audit.redactions, self._attacks, strict=True)
        ]
        return self._outcome(inputs, found, seen)

    def failure(self, item: PlannedInput, error: InputError) -> Outcome:
        """Give the outcome of one input that could not even be tried."""
        rows = [attack.failure(item, error).rows for attack in self._attacks]
        return self._outcome([item], rows, None)

    def seconds_of_one(self) -> float:
        """Measure the networks on one gray image of 224x224, warm."""
        return sum(attack.seconds_of_one() for attack in self._attacks)

    def _outcome(
        self,
        inputs: Sequence[PlannedInput],
        found: Sequence[list[dict[str, Any]]],
        seen: Seen | None,
    ) -> Outcome:
        rows: list[dict[str, Any]] = []
        failed: dict[str, str] = {}
        totals = Totals(inputs=len(inputs))
        for item, *of_image in zip(inputs, *found, strict=True):
            group = self._audit.groups.group(item.key, {})
            for redaction, row in zip(self._audit.redactions, of_image, strict=True):
                rows.append({"group": group, "redaction": str(redaction), **row})
            # An image may be too small for one redaction, and do for all others.
            if all(row["failure"] is not None for row in of_image):
                failed[item.key] = str(Failure(of_image[0]["failure"]))
                totals.failures[failed[item.key]] += 1
        embeddings = self._embeddings(seen) if seen else []
        return Outcome(rows=rows, failed=failed, totals=totals, embeddings=embeddings)

    def _embeddings(self, seen: Seen) -> list[dict[str, Any]]:
        # Sorted: threads end in any order.
        return [
            {
                "key": key,
                "group": self._audit.groups.group(key, {}),
                "redaction": redaction or None,
                "state": state,
                "embedding": vector,
            }
            for (key, redaction, state), vector in sorted(
                ((key, redaction or "", state), vector)
                for (key, redaction, state), vector in seen.found.items()
            )
        ]
