"""Batches: the same whoever asks, from wherever one begins, and whole over all workers."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from redaction_core.errors import StorageError, UsageError
from redaction_core.redaction import redact
from redaction_core.training import batches as batches_module
from redaction_core.training.ahead import ahead
from redaction_core.training.batches import Batch, BatchLoader
from redaction_core.training.recipe import Recipe, Source
from redaction_core.training.samples import Samples, read_samples
from tests.unit.training_sets import noise_images, write_data_set


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Samples]:
    """21 gray images to train on and 7 to validate on, 24 pixels; 11 and 3 in colour, 40."""
    folder = tmp_path_factory.mktemp("sets")
    write_data_set(str(folder / "gray"), noise_images(28, 24), shard_size=4)
    images = noise_images(14, 40, colour=True)
    write_data_set(str(folder / "colour"), images, shard_size=3, prefix="c")
    return [read_samples(str(folder / name)) for name in ("gray", "colour")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def recipe(sets: list[Samples], **changes: Any) -> Recipe:  # noqa: ANN401 - any field
    repeats = (2, 1)
    given: dict[str, Any] = {
        "network": "redacto",
        "sources": tuple(
            Source(location=each.store.location, repeats=count)
            for each, count in zip(sets, repeats, strict=False)
        ),
        "redactions": ("box:0.1-0.3@random", "pixels:0.2", "box:4x4@center=2"),
        "scales": ("1", "0.4-1"),
        "crop": 32,
        "batch_size": 5,
        "epochs": 2,
        "gray_share": 0.3,
        "seed": 3,
    }
    return Recipe(**(given | changes))


def told(batch: Batch) -> tuple[Any, ...]:
    digest = hashlib.sha256(batch.images_u8.numpy().tobytes()).hexdigest()
    holes = None if batch.hidden is None else batch.hidden.numpy().tobytes()
    return batch.step, digest, tuple(batch.keys), str(batch.how), batch.total, holes


def same(one: Batch, other: Batch) -> bool:
    return told(one) == told(other)


def joined(slices: list[Batch]) -> Batch:
    assert len({(each.step, each.how, each.total) for each in slices}) == 1
    return Batch(
        step=slices[0].step,
        images_u8=torch.cat([each.images_u8 for each in slices]),
        keys=[key for each in slices for key in each.keys],
        how=slices[0].how,
        hidden=torch.cat([each.hidden for each in slices if each.hidden is not None]),
        total=slices[0].total,
    )


@pytest.mark.parametrize("network", ["enhancer", "redacto"])
def test_an_epoch_shows_every_sample_as_often_as_asked(
    sets: list[Samples], cache: Path, network: str
) -> None:
    redactions = ("pixelate:4",) if network == "enhancer" else ("pixels:0.2",)
    given = recipe(sets, network=network, redactions=redactions)
    with BatchLoader(given, sets, folder=cache) as loader:
        found = list(loader.batches())
        assert loader.steps_per_epoch == 9 + 3
    assert [batch.step for batch in found] == list(range(24))
    epochs = [found[:12], found[12:]]
    orders = []
    for batches in epochs:
        ids = Counter(key.split()[0] for batch in batches for key in batch.keys)
        assert Counter(ids.values()) == {2: 21, 1: 11}
        orders.append([key.split()[0] for batch in batches for key in batch.keys])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    # No two samples have one key, so their random holes differ.
    keys = [key for batch in found for key in batch.keys]
    assert len(set(keys)) == len(keys)
    for batch in found:
        assert batch.images_u8.dtype == torch.uint8
        assert batch.images_u8.is_contiguous()
        channels = 3 if network == "redacto" else 1
        assert batch.images_u8.shape[1:] in {(channels, 24, 24), (channels, 32, 32)}
        assert len(batch.images_u8) == len(batch.keys) == batch.total


def test_workers_together_see_what_one_sees(sets: list[Samples], cache: Path) -> None:
    with BatchLoader(recipe(sets), sets, folder=cache) as loader:
        alone, validated = list(loader.batches()), list(loader.validation())
    for world in (2, 3, 7):
        loaders = [
            BatchLoader(recipe(sets), sets, rank=rank, world=world, folder=cache)
            for rank in range(world)
        ]
        for whole, *slices in zip(alone, *(each.batches() for each in loaders), strict=True):
            assert same(joined(slices), whole)
        for whole, *slices in zip(validated, *(each.validation() for each in loaders), strict=True):
            assert same(joined(slices), whole)
        for each in loaders:
            each.close()


def test_any_step_is_the_same_wherever_one_begins(sets: list[Samples], cache: Path) -> None:
    with BatchLoader(recipe(sets), sets, folder=cache) as loader:
        whole = list(loader.batches())
        for first in (1, 7, 11, 12, 13, 23, 24):
            again = list(loader.batches(first))
            assert list(map(told, again)) == list(map(told, whole[first:]))


def test_draws_differ_from_step_to_step_and_follow_the_seed(
    sets: list[Samples], cache: Path
) -> None:
    def batches(**changes: Any) -> list[Batch]:  # noqa: ANN401 - any field
        with BatchLoader(recipe(sets, **changes), sets, folder=cache) as loader:
            return list(loader.batches())

    found = batches()
    assert list(map(told, found)) == list(map(told, batches()))
    other = batches(seed=4)
    assert [told(batch)[1] for batch in found] != [told(batch)[1] for batch in other]
    assert {str(batch.how).partition(":")[0] for batch in found} == {"box", "pixels"}
    assert len({str(batch.how) for batch in found}) > 3
    # The same image looks otherwise the next time.
    looks: dict[str, set[bytes]] = {}
    for batch in found:
        for key, image in zip(batch.keys, batch.images_u8, strict=True):
            looks.setdefault(key.split()[0], set()).add(image.numpy().tobytes())
    assert sum(len(each) > 1 for each in looks.values()) > len(looks) * 0.9


def test_holes_come_from_keys_and_seed(sets: list[Samples], cache: Path) -> None:
    asked = recipe(sets)
    with BatchLoader(asked, sets, folder=cache) as loader:
        for batch in (*loader.batches(), *loader.validation()):
            expected = redact(batch.how, batch.images_u8, batch.keys, asked.seed).hidden
            assert expected is not None
            assert batch.hidden is not None
            assert torch.equal(batch.hidden, expected)


def test_what_hides_nothing_has_no_holes(sets: list[Samples], cache: Path) -> None:
    asked = recipe(sets, network="enhancer", redactions=("pixelate:4",))
    with BatchLoader(asked, sets, folder=cache) as loader:
        assert all(batch.hidden is None for batch in loader.validation())


def test_validation_is_the_same_each_time_and_alike_for_all_redactions(
    sets: list[Samples], cache: Path
) -> None:
    with BatchLoader(recipe(sets), sets, folder=cache) as loader:
        found = list(loader.validation())
        assert list(map(told, loader.validation())) == list(map(told, found))
    texts = list(dict.fromkeys(str(batch.how) for batch in found))
    assert texts == ["box:0.173@random", "pixels:0.2@random", "box:4x4@center"]
    by_text = [[told(each)[1:3] for each in found if str(each.how) == text] for text in texts]
    assert by_text[0] == by_text[1] == by_text[2]
    assert [batch.step for batch in found] == list(range(len(found)))
    assert sum(batch.total for batch in found) == 3 * (7 + 3)
    ids = {key for batch in found for key in batch.keys}
    assert len(ids) == 10
    with BatchLoader(recipe(sets, val_images=2, batch_size=1), sets, folder=cache) as loader:
        some = list(loader.validation())
    assert [batch.total for batch in some] == [1] * 3 * 4
    assert {key for batch in some for key in batch.keys} < ids


def test_nothing_to_validate_on_gives_nothing(tmp_path: Path) -> None:
    write_data_set(str(tmp_path / "set"), noise_images(3, 8), splits=["train"] * 3)
    sets = [read_samples(str(tmp_path / "set"))]
    with BatchLoader(recipe(sets), sets, folder=tmp_path / "cache") as loader:
        assert list(loader.validation()) == []
        assert len(list(loader.batches())) == loader.steps == 4


def test_texts_of_one_redaction_are_validated_once(sets: list[Samples], cache: Path) -> None:
    given = recipe(sets, redactions=("pixels:0.2=0.5", "pixels:0.2=2"))
    with BatchLoader(given, sets, folder=cache) as loader:
        assert sum(batch.total for batch in loader.validation()) == 10


def test_more_workers_than_samples_leave_some_without(sets: list[Samples], cache: Path) -> None:
    with BatchLoader(recipe(sets), sets, rank=0, world=40, folder=cache) as loader:
        batch = next(loader.batches())
    assert batch.images_u8.shape[0] == len(batch.keys) == 0
    assert batch.images_u8.shape[1] == 3


def test_a_cache_that_is_too_small_is_refused(sets: list[Samples], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"GiB .* at a time, and may have 9\.3") as caught:
        BatchLoader(recipe(sets), sets, folder=tmp_path, cache_bytes=1000)
    assert "\n" not in str(caught.value)


def test_a_window_is_smaller_where_parts_are_large(
    sets: list[Samples], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BatchLoader(recipe(sets), sets, folder=cache) as loader:
        order = [batch.keys for batch in loader.batches()]
    monkeypatch.setattr(batches_module, "_WINDOW_BYTES", 1)
    with BatchLoader(recipe(sets), sets, folder=cache) as loader:
        other = [batch.keys for batch in loader.batches()]
    assert order != other


def test_what_fails_in_the_background_is_raised_where_it_is_needed(tmp_path: Path) -> None:
    write_data_set(str(tmp_path / "set"), noise_images(20, 8), shard_size=10)
    sets = [read_samples(str(tmp_path / "set"))]
    sets[0].store.delete([sets[0].parts[1].key])
    with (
        BatchLoader(recipe(sets), sets, folder=tmp_path / "cache") as loader,
        pytest.raises(StorageError, match="is gone from"),
    ):
        list(loader.batches())


def test_threads_end_with_what_they_work_for(sets: list[Samples], cache: Path) -> None:
    before = set(threading.enumerate())
    loader = BatchLoader(recipe(sets, epochs=10_000), sets, folder=cache)
    batches = loader.batches(5)
    assert [batch.step for batch in islice(batches, 3)] == [5, 6, 7]
    started = set(threading.enumerate()) - before
    assert started
    batches.close()
    loader.close()
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()


def test_items_are_got_ahead_but_not_too_far() -> None:
    got: list[int] = []
    room = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(100):
            got.append(number)
            room.release()
            yield number

    found = ahead(items(), 4)
    assert next(found) == 0
    # The one given, four that are ready, and one that waits for room.
    for _ in range(6):
        assert room.acquire(timeout=30)
    assert not room.acquire(timeout=0.3)
    assert list(found) == list(range(1, 100))


def test_an_error_comes_after_what_was_got_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise StorageError("as told")

    found: list[int] = []
    with pytest.raises(StorageError, match="as told"):
        found.extend(ahead(items(), 1))
    # What was extended before the error stays.
    assert found == [0, 1, 2]
