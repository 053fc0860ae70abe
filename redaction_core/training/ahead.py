"""The next few items of an iterator, got in the background."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

_Item = TypeVar("_Item")
_POLL_S: Final = 0.1


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


def ahead(items: Iterable[_Item], count: int) -> Generator[_Item, None, None]:
    """Yield items that a thread of its own gets, up to `count` of them before they are asked for.

    What getting them raises is raised in its place. The thread ends when this is closed.
    """
    ready: queue.Queue[_Item | _End] = queue.Queue(count)
    stopped = threading.Event()
    threading.Thread(
        target=_fill, args=(ready, items, stopped), name="batches-ahead", daemon=True
    ).start()
    try:
        while not isinstance(found := ready.get(), _End):
            yield found
        if found.error is not None:
            raise found.error
    finally:
        stopped.set()


def _fill(
    ready: queue.Queue[_Item | _End], items: Iterable[_Item], stopped: threading.Event
) -> None:
    end = _End()
    try:
        for item in items:
            if not _put(ready, item, stopped):
                return
    except BaseException as error:  # noqa: BLE001 - raised again where the item is asked for
        end = _End(error)
    _put(ready, end, stopped)


def _put(ready: queue.Queue[_Item | _End], item: _Item | _End, stopped: threading.Event) -> bool:
    """Wait for room; False when nobody asks any more."""
    while not stopped.is_set():
        try:
            ready.put(item, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False
