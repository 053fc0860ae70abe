"""Checkpoints are whole or passed over, and writes outlast storage that is away."""

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from redaction_core.errors import ObjectMissingError, StorageError
from redaction_core.storage import DiskStore
from redaction_core.training import outbox as module
from redaction_core.training.outbox import Outbox, patiently
from redaction_core.training.state import CHECKPOINTS, Checkpoint, Checkpoints


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint.of(step, {"w": torch.full((2, 3), float(step))}, {"epoch": step // 2})


def quiet(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(str(tmp_path / "out"))


def names(store: DiskStore) -> list[str]:
    return [entry.key for entry in store.list(missing_ok=True)]


def test_the_newest_comes_back_and_the_last_two_are_kept(store: DiskStore) -> None:
    checkpoints = Checkpoints(store, "a", quiet)
    assert checkpoints.newest() is None
    for step in (1, 20, 100_000_000, 300_000_000):
        checkpoints.write(checkpoint(step))

    found = Checkpoints(store, "a", quiet).newest()

    assert found is not None
    assert (found.step, found.record) == (300_000_000, {"epoch": 150_000_000})
    assert torch.equal(found.tensors()["w"], torch.full((2, 3), 3e8))
    assert len(names(store)) == 4
    assert not [name for name in names(store) if "step-00000020" in name]


def _cut(store: DiskStore) -> None:
    (weights,) = (name for name in names(store) if name.startswith(f"{CHECKPOINTS}step-00000002-"))
    store.put(weights, store.read(weights).data[:-1])


def _exchange(store: DiskStore) -> None:
    (weights,) = (name for name in names(store) if name.startswith(f"{CHECKPOINTS}step-00000002-"))
    store.put(weights, checkpoint(7).weights)


def _lose(store: DiskStore) -> None:
    store.delete(name for name in names(store) if "step-00000002-" in name)


def _other_run(store: DiskStore) -> None:
    Checkpoints(store, "another", quiet).write(checkpoint(2))


def _alter_record(store: DiskStore) -> None:
    key = f"{CHECKPOINTS}step-00000002.json"
    told = json.loads(store.read(key).data)
    store.put(key, json.dumps(told | {"record": {"epoch": 2}}).encode())


def _alter_weights(store: DiskStore) -> None:
    key = f"{CHECKPOINTS}step-00000002.json"
    told = json.loads(store.read(key).data)
    store.put(key, json.dumps(told | {"weights": 5}).encode())


SPOILS: dict[str, Callable[[DiskStore], None]] = {
    "cut": _cut,
    "exchanged": _exchange,
    "without weights": _lose,
    "of another run": _other_run,
    "with another record": _alter_record,
    "no JSON": lambda store: store.put(f"{CHECKPOINTS}step-00000002.json", b"{"),
    "other JSON": lambda store: store.put(f"{CHECKPOINTS}step-00000002.json", b"[1]"),
    "deep JSON": lambda store: store.put(f"{CHECKPOINTS}step-00000002.json", b"[" * 10**5),
    "weights that are a number": _alter_weights,
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_what_is_damaged_is_passed_over_with_a_word(
    store: DiskStore, spoil: Callable[[DiskStore], None]
) -> None:
    said: list[str] = []
    checkpoints = Checkpoints(store, "a", said.append)
    checkpoints.write(checkpoint(1))
    checkpoints.write(checkpoint(2))
    spoil(store)

    found = checkpoints.newest()

    assert found is not None
    assert found.step == 1
    (line,) = said
    assert line.startswith("passing over checkpoints/step-00000002.json: ")


def test_weights_without_their_name_are_nothing_and_vanish(store: DiskStore) -> None:
    """A writer that died before the second file."""
    store.put(f"{CHECKPOINTS}step-00000003-0123456789ab.safetensors", b"half")
    store.put(f"{CHECKPOINTS}notes.txt", b"not ours")
    checkpoints = Checkpoints(store, "a", quiet)
    assert checkpoints.newest() is None
    checkpoints.write(checkpoint(2))
    assert any("step-00000003-" in name for name in names(store))  # it may be under way
    for step in (4, 5):
        checkpoints.write(checkpoint(step))

    assert not any("step-00000003-" in name for name in names(store))
    assert f"{CHECKPOINTS}notes.txt" in names(store)


def test_old_ones_that_cannot_be_removed_stay(store: DiskStore) -> None:
    class Kept(DiskStore):
        def delete(self, keys: Iterable[str]) -> None:
            if list(keys):
                raise StorageError("access denied")

    said: list[str] = []
    checkpoints = Checkpoints(Kept(store.root), "a", said.append)
    for step in (1, 2, 3, 4):
        checkpoints.write(checkpoint(step))

    found = checkpoints.newest()

    assert found is not None
    assert found.step == 4
    assert said == ["older checkpoints stay: access denied"]


def test_the_same_step_may_be_written_again(store: DiskStore) -> None:
    checkpoints = Checkpoints(store, "a", quiet)
    checkpoints.write(checkpoint(1))
    again = Checkpoint.of(1, {"w": torch.ones(1)}, {})
    checkpoints.write(again)

    found = checkpoints.newest()

    assert found == again


def test_storage_that_does_not_answer_is_no_missing_checkpoint(store: DiskStore) -> None:
    Checkpoints(store, "a", quiet).write(checkpoint(1))

    class Away(DiskStore):
        def read(self, key: str, *, max_bytes: int | None = None) -> None:  # type: ignore[override]
            raise StorageError(f"{key} {max_bytes}: away")

    with pytest.raises(StorageError, match="away"):
        Checkpoints(Away(store.root), "a", quiet).newest()


def test_it_tells_where_the_weights_are(store: DiskStore) -> None:
    Checkpoints(store, "a", quiet).write(checkpoint(1))

    told = json.loads(store.read(f"{CHECKPOINTS}step-00000001.json").data)

    assert told["weights"] in names(store)
    assert told["sha256"].startswith(told["weights"][-24:-12])


class Flaky:
    """A write that fails so many times."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.calls = 0
        self.failed = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        if self.left > 0:
            self.left -= 1
            self.failed.set()
            raise StorageError("away for a while")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.02)


def test_writes_are_done_in_order_and_bugs_are_raised() -> None:
    done: list[str] = []
    outbox = Outbox(quiet)
    for name in ("a", "b", "c"):
        outbox.send(name, lambda name=name: done.append(name))  # type: ignore[misc]  # mypy knows no defaults of lambdas
    outbox.close()
    assert done == ["a", "b", "c"]

    outbox = Outbox(quiet)
    outbox.send("a", [].pop)  # type: ignore[arg-type]  # whatever it gives
    with pytest.raises(IndexError):
        outbox.close()


@pytest.mark.usefixtures("quick")
def test_a_refused_write_is_told_once_and_tried_again() -> None:
    said: list[str] = []
    outbox, flaky = Outbox(said.append), Flaky(3)
    outbox.send("the checkpoint", flaky)
    outbox.close(patience_s=60)

    assert flaky.calls == 4
    assert said == [
        "training goes on, but the checkpoint is not stored yet: away for a while",
        "storage takes writes again",
    ]


@pytest.mark.usefixtures("quick")
def test_a_newer_write_replaces_one_that_waits() -> None:
    outbox, old, new = Outbox(lambda _: None), Flaky(10**6), Flaky(0)
    outbox.send("a", old)
    assert old.failed.wait(10)
    outbox.send("a", new)
    outbox.close(patience_s=60)

    assert new.calls == 1


@pytest.mark.usefixtures("quick")
def test_what_is_sent_later_is_written_later_even_if_it_replaces() -> None:
    """A checkpoint must not be there before the model that it takes to be there."""
    done: list[str] = []
    away = threading.Event()
    tried = threading.Event()

    def write(name: str) -> Callable[[], None]:
        def run() -> None:
            tried.set()
            if not away.is_set():
                raise StorageError("away")
            done.append(name)

        return run

    outbox = Outbox(lambda _: None)
    outbox.send("checkpoint", write("checkpoint 1"))
    assert tried.wait(10)
    outbox.send("model", write("model"))
    outbox.send("checkpoint", write("checkpoint 2"))
    away.set()
    outbox.close(patience_s=60)

    assert done[-2:] == ["model", "checkpoint 2"]


@pytest.mark.usefixtures("quick")
def test_patience_ends() -> None:
    outbox = Outbox(lambda _: None)
    outbox.send("a", Flaky(10**6))
    with pytest.raises(StorageError, match="away for a while"):
        outbox.close(patience_s=0.05)


@pytest.mark.usefixtures("quick")
def test_an_abandoned_outbox_waits_for_nothing() -> None:
    outbox, flaky = Outbox(lambda _: None), Flaky(10**6)
    outbox.send("a", flaky)
    assert flaky.failed.wait(10)
    outbox.abandon()
    outbox._thread.join(10)  # noqa: SLF001 - its end is what is tested

    assert not outbox._thread.is_alive()  # noqa: SLF001


@pytest.mark.usefixtures("quick")
def test_calls_wait_for_storage_but_not_for_what_is_missing() -> None:
    said: list[str] = []
    flaky = Flaky(3)
    patiently(flaky, said.append)
    assert flaky.calls == 4
    assert said == ["waiting for storage: away for a while"]

    with pytest.raises(StorageError):
        patiently(Flaky(10**6), said.append, patience_s=0.05)

    def missing() -> None:
        raise ObjectMissingError("no such file")

    with pytest.raises(ObjectMissingError):
        patiently(missing, quiet)
