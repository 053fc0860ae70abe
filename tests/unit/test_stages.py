"""Seconds of stages: over threads, and taken once."""

import threading
import time

import pytest

from redaction_core.stages import stage, take


def test_stages_add_up_over_threads_and_are_taken_once() -> None:
    take()

    def work() -> None:
        with stage("read"):
            time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with stage("commit"):
        pass
    found = take()
    assert set(found) == {"read", "commit"}
    assert found["read"] >= 3 * 0.05
    assert take() == {}


def test_a_stage_that_fails_counts() -> None:
    take()
    with pytest.raises(ZeroDivisionError), stage("network"):
        1 / 0  # noqa: B018 - it raises
    assert set(take()) == {"network"}
