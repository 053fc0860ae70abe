"""Listings of any length in the byte order of their keys, in bounded memory."""

import random

import psutil
import pytest

from redaction_core.errors import Failure
from redaction_core.storage import Entry
from redaction_core.storage.order import in_key_order


@pytest.mark.parametrize("files", [2, 3, 64])
@pytest.mark.parametrize("run", [1, 2, 3, 7, 50, 51])
def test_sorting_in_runs(run: int, files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redaction_core.storage.order._FILES", files)
    chance = random.Random(run)
    keys = [f"{chance.random()}é\n\U0001f600{number}" for number in range(50)]
    listed = [Entry(key=key, size=len(key), version="v") for key in keys]
    listed[7] = Entry(key=keys[7], problem=Failure.BAD_NAME, detail="why\nnot")
    found = list(in_key_order(iter(listed), run))
    assert found == sorted(listed, key=lambda entry: entry.key.encode())


def test_sorting_keeps_few_files_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redaction_core.storage.order._FILES", 4)
    before = psutil.Process().num_fds()
    found = in_key_order((Entry(key=f"{number:04d}") for number in range(1000)), 2)
    next(found)
    # 500 runs of 2, by fours: at most 3 of each of the sizes 2, 8, 32, 128 and 512.
    assert psutil.Process().num_fds() - before <= 3 * 5
    found.close()
    assert psutil.Process().num_fds() == before
