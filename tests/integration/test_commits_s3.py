"""Runs in a real bucket, over a network that spoils answers."""

import random
from collections import Counter
from pathlib import Path

import pytest

from redaction_core.commits import remove_run
from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import open_store
from tests.integration.faulty_proxy import FaultyProxy
from tests.unit.small_run import KEYS, do_run, rows, state


def test_a_run_in_a_bucket_equals_one_in_a_folder(s3_location: str, tmp_path: Path) -> None:
    in_bucket, in_folder = open_store(s3_location), open_store(f"{tmp_path}/out")
    assert do_run(in_bucket).finished
    do_run(in_folder)
    assert state(in_bucket) == state(in_folder)
    in_bucket.put("images/mine.png", b"")
    assert remove_run(in_bucket)
    assert list(state(in_bucket)) == ["images/mine.png"]


@pytest.mark.parametrize("seed", range(3))
def test_a_run_over_a_bad_network(
    seed: int, s3_location: str, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    faults = ["503", "409", "drop", "lose", "cut"]
    with FaultyProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(s3_location)
        proxy.faults.extend(
            chance.choice(faults) if chance.random() < 0.3 else "pass" for _ in range(200)
        )
        run = do_run(store)
        left = len(proxy.faults)
        proxy.faults.clear()
        assert left < 150
        assert run.finished
        assert rows(store, run) == Counter(KEYS)
        assert list(store.list("attempts/")) == []
