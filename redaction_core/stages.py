"""Seconds that each stage of the work has taken in this process, over all its threads."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

Stage = Literal["read", "decode", "normalise", "network", "measure", "commit", "data", "step"]
"""read: inputs, from storage or the web; decode: with the search for blocks; normalise: to a data
set's size and colours; network: redact and restore; measure: errors, and writing the result;
commit: parts and commit of a shard; data, step: what a training waits for, and computes."""

_spent: defaultdict[str, float] = defaultdict(float)
_lock: Final = threading.Lock()


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Count the time of what is done within; threads that work at once count each their own."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        with _lock:
            _spent[name] += seconds


def take() -> dict[str, float]:
    """Give the seconds since the last call, by stage."""
    with _lock:
        found = dict(_spent)
        _spent.clear()
    return found
