"""What a run's driver sees of shards that are under way: their totals, and which are stuck."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Self

from jobs._command import duration, say
from jobs._telemetry import RunTelemetry
from redaction_core.commits import begun_attempts
from redaction_core.errors import RedactionCoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs._verb import Verb
    from redaction_core.commits import BegunAttempt, ShardRef
    from redaction_core.totals import Totals

_LONGEST_PAUSE_S = 30.0
_LEAST_PAUSE_S = 0.5
_JOIN_S = 5.0
_NAMED = 5
"""So many stuck shards are named at once, of the others their number."""


class Watch:
    """Counts what is done, and names shards that take too long. Looks at marks in storage.

    A mark is as old as this driver has seen it: no two machines' clocks are compared.
    """

    def __init__(self, verb: Verb, shards: Sequence[ShardRef], *, after_s: float) -> None:
        self._store = verb.output
        self._plans = sorted({shard.plan_id for shard in shards})
        self._after_s = after_s
        self._telemetry = RunTelemetry(verb.name, len(shards))
        self._seen: dict[BegunAttempt, float] = {}
        self._named: dict[BegunAttempt, float] = {}
        self._done: set[BegunAttempt] = set()
        """Marks of attempts that died, at shards that were committed all the same."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def count(self, totals: Totals) -> None:
        """Count a committed shard."""
        self._telemetry.count(totals)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_JOIN_S)
        self._telemetry.oldest.set(0)

    def _run(self) -> None:
        pause_s = min(_LONGEST_PAUSE_S, max(_LEAST_PAUSE_S, self._after_s / 4))
        while not self._over.wait(pause_s):
            # Who does the work says it where storage fails.
            with contextlib.suppress(RedactionCoreError):
                self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Name what is stuck at this moment, in seconds of a clock that never goes back."""
        # Of a shard whose attempts died, the last one counts.
        last = {
            (each.plan_id, each.shard): each
            for plan_id in self._plans
            for each in sorted(begun_attempts(self._store, plan_id), key=lambda each: each.number)
        }
        self._done &= set(last.values())
        self._seen = {each: self._seen.get(each, now) for each in last.values()}
        for each in self._done:
            del self._seen[each]
        self._telemetry.oldest.set(now - min(self._seen.values(), default=now))
        stuck = [
            each
            for each, since in self._seen.items()
            if now - max(since, self._named.get(each, 0.0)) >= self._after_s
        ]
        self._done |= {each for each in stuck if self._store.exists(each.commit_key)}
        stuck = [each for each in stuck if each not in self._done]
        self._named = {each: at for each, at in self._named.items() if each in self._seen}
        for each in stuck[:_NAMED]:
            say(
                f"shard {each.shard} has been under way for {duration(now - self._seen[each])} "
                f"(attempt {each.number}{self._whereabouts(each)})"
            )
        if len(stuck) > _NAMED:
            say(f"{len(stuck) - _NAMED} more shards have been under way for as long")
        self._named |= dict.fromkeys(stuck, now)

    def _whereabouts(self, attempt: BegunAttempt) -> str:
        try:
            found = json.loads(self._store.read(attempt.key).data)
            return f" on {found['machine']}, process {found['pid']}, since {found['started']}"
        except (RedactionCoreError, ValueError, LookupError, TypeError):
            return ""
