"""A bound on what is in memory at once, given out in a fixed order."""

from __future__ import annotations

import threading


class Gate:
    """Lets works in by their turn (0, 1, 2, ...) while their costs add up to no more than a limit.

    By turn, because whoever collects the works in order would otherwise wait for one that in turn
    waits for a later one to leave. A work that costs more than half the limit counts as half, so
    that it gets in beside collected works of up to the other half.
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._inside = 0
        self._turn = 0
        self._open = False
        self._changed = threading.Condition()

    def enter(self, turn: int, cost: int) -> int:
        """Wait for the turn and for room; gives what is to be released."""
        cost = min(cost, self._half)
        with self._changed:
            self._changed.wait_for(
                lambda: self._open or (turn == self._turn and self._inside + cost <= 2 * self._half)
            )
            self._turn += 1
            self._inside += cost
            self._changed.notify_all()
        return cost

    def release(self, cost: int) -> None:
        """Give back what `enter` gave."""
        with self._changed:
            self._inside -= cost
            self._changed.notify_all()

    def open(self) -> None:
        """Let everybody in: the end of a failed run."""
        with self._changed:
            self._open = True
            self._changed.notify_all()
