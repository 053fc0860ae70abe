"""Pixels of rows: exact, decoded once, and what becomes of parts that fail, change or vanish."""

import io
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from redaction_core.errors import InputError, StorageError
from redaction_core.images import Pixels, encode
from redaction_core.storage import Blob, DiskStore
from redaction_core.training import pixels as pixels_module
from redaction_core.training import pngs
from redaction_core.training.cache import FileCache
from redaction_core.training.pixels import Patience, SourcePixels
from redaction_core.training.pngs import decode_pngs
from redaction_core.training.samples import Samples, read_samples
from tests.unit.training_sets import noise_images, write_data_set


class FailingStore(DiskStore):
    """Fails to read so many times, then reads."""

    failures = 0
    reads = 0

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise StorageError("the server is away")
        return super().read(key, max_bytes=max_bytes)


class Made(NamedTuple):
    """A data set of 13 images of 10 pixels a side in 3 parts."""

    samples: Samples
    store: FailingStore
    images: dict[str, Pixels]
    """By image_id."""


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return data_set(tmp_path / "set")


def data_set(folder: Path, *, colour: bool = False) -> Made:
    images = noise_images(13, 10, colour=colour)
    write_data_set(str(folder), images)
    store = FailingStore(str(folder))
    found = read_samples(str(folder))
    rows = [
        row
        for part in found.parts
        for row in pq.read_table(io.BytesIO(store.read(part.key).data)).to_pylist()
    ]
    store.reads = 0
    samples = Samples(**(vars(found) | {"store": store}))
    return Made(samples, store, {row["image_id"]: images[int(row["url"])] for row in rows})


def opened(made: Made, folder: Path, **changes: Any) -> SourcePixels:  # noqa: ANN401 - any argument
    max_bytes = changes.pop("max_bytes", None)
    given = {"channels": 1, "cache": FileCache(folder / "cache", max_bytes)} | changes
    return SourcePixels(made.samples, given.pop("rows", made.samples.train), **given)


def everything(pixels: SourcePixels) -> dict[str, Pixels]:
    count = sum(pixels.block_rows)
    found = list(pixels.images(np.random.default_rng(0).permutation(count)))
    assert len({name for _, name in found}) == len(found) == count
    return {name: image for image, name in found}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("colour", "channels"), [(False, 1), (False, 3), (True, 1), (True, 3)])
def test_pixels_are_exact(
    tmp_path: Path, split: str, *, together: bool, colour: bool, channels: int
) -> None:
    made = data_set(tmp_path / "set", colour=colour)
    rows = getattr(made.samples, split)
    pixels = opened(made, tmp_path, rows=rows, channels=channels, together=together)
    found = everything(pixels)
    assert len(found) == len(rows) == (10 if split == "train" else 3)
    assert pixels.channels == (3 if colour and channels == 3 else 1)
    for name, image in found.items():
        wanted = made.images[name]
        if colour and channels == 1:
            wanted = np.asarray(Image.fromarray(wanted).convert("L"))
        assert np.array_equal(image, wanted)
        assert not image.flags.writeable


def test_all_is_decoded_once_whoever_asks(made: Made, tmp_path: Path) -> None:
    first = opened(made, tmp_path)
    everything(first)
    assert made.store.reads == 3
    everything(first)
    everything(opened(made, tmp_path))
    opened(made, tmp_path).prepare(np.arange(10))
    assert made.store.reads == 3
    # Other rows, and other colours, are other files.
    everything(opened(made, tmp_path, rows=made.samples.val))
    assert made.store.reads == 6


def test_what_is_prepared_is_there(made: Made, tmp_path: Path) -> None:
    pixels = opened(made, tmp_path)
    pixels.prepare(np.array([0, 1, 9]))
    assert made.store.reads == 2  # of the first and the last part
    assert len(list(pixels.images(np.array([0, 1, 9, 2])))) == 4
    assert made.store.reads == 2


def test_many_threads_decode_each_part_once(made: Made, tmp_path: Path) -> None:
    pixels = [opened(made, tmp_path) for _ in range(4)]
    found: list[dict[str, Pixels]] = []
    threads = [
        threading.Thread(target=lambda each=each: found.append(everything(each)))
        for each in [*pixels, *pixels]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.store.reads == 3
    assert len(found) == 8
    assert all(
        np.array_equal(image, made.images[name]) for each in found for name, image in each.items()
    )


def test_a_cache_of_one_part_will_do(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels_module, "_OPEN", 1)
    pixels = opened(made, tmp_path)
    small = opened(made, tmp_path / "small", max_bytes=pixels.block_bytes)
    for _ in range(2):
        for name, image in everything(small).items():
            assert np.array_equal(image, made.images[name])
        held = [path.stat().st_size for path in (tmp_path / "small" / "cache").iterdir()]
        assert sum(held) <= pixels.block_bytes
    assert made.store.reads > 3


def test_failing_storage_is_waited_for_and_told_once(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels_module, "_FIRST_WAIT_S", 0.001)
    told: list[str] = []
    pixels = opened(made, tmp_path, patience=Patience(seconds=60, say=told.append))
    made.store.failures = 5
    assert len(everything(pixels)) == 10
    assert told == ["the server is away: waiting for it, 60 s at most"]
    assert made.store.reads == 5 + 3


def test_patience_ends(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels_module, "_FIRST_WAIT_S", 0.001)
    made.store.failures = 10**6
    pixels = opened(made, tmp_path, patience=Patience(seconds=0.05))
    with pytest.raises(StorageError, match="the server is away"):
        everything(pixels)
    assert made.store.reads > 2
    assert not list((tmp_path / "cache").glob("*.pixels*"))


def test_closing_ends_waiting(made: Made, tmp_path: Path) -> None:
    made.store.failures = 10**6
    waits = threading.Event()
    pixels = opened(made, tmp_path, patience=Patience(say=lambda _: waits.set()))
    raised: list[StorageError] = []

    def ask() -> None:
        try:
            everything(pixels)
        except StorageError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert waits.wait(30)
    pixels.close()
    thread.join(30)
    assert not thread.is_alive()
    assert raised


def other_image(made: Made, key: str) -> bytes:
    """Give the part with one bit of one image changed."""
    data = bytearray(made.store.read(key).data)
    data[200] ^= 1
    return bytes(data)


@pytest.mark.parametrize("change", ["gone", "a bit", "cut", "other part", "unreadable"])
def test_a_part_that_changed_is_told_in_one_line(made: Made, tmp_path: Path, change: str) -> None:
    key, other = made.samples.parts[1].key, made.samples.parts[0].key
    match change:
        case "gone":
            made.store.delete([key])
        case "a bit":
            made.store.put(key, other_image(made, key))
        case "cut":
            made.store.put(key, made.store.read(key).data[:-100])
        case "other part":
            made.store.put(key, made.store.read(other).data)
        case "unreadable":
            made.store.delete([key])
            (Path(made.store.root) / key).mkdir()
    says = "is gone from" if change == "gone" else "is not what it was when it was written"
    pixels = opened(made, tmp_path)
    assert len(list(pixels.images(np.array([0, 9])))) == 2
    with pytest.raises(StorageError, match=f"{key} .*{says}|{key} {says}") as caught:
        everything(pixels)
    assert "\n" not in str(caught.value)


def filtered_png(pixels: Pixels, kinds: list[int]) -> bytes:
    """Write a PNG whose rows are filtered in these ways, 0 (none) or 2 (up), by turns."""
    data = bytearray()
    for number, row in enumerate(pixels.reshape(len(pixels), -1)):
        above = pixels.reshape(len(pixels), -1)[number - 1] if number else np.zeros_like(row)
        kind = kinds[number % len(kinds)]
        data += bytes([kind]) + (row - above if kind else row).tobytes()
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    whole = written.getvalue()
    begin, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    body = zlib.compress(bytes(data))
    chunk = b"IDAT" + body
    packed = len(body).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    return whole[:begin] + packed + whole[end:]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("side", [1, 2, 31])
def test_files_of_every_writer_are_read(side: int, *, colour: bool) -> None:
    images = noise_images(7, side, colour=colour)
    files = [encode(image, "png") for image in images]
    by_pillow = io.BytesIO()
    Image.fromarray(images[1]).save(by_pillow, "png")
    files[1] = by_pillow.getvalue()
    files[2] = filtered_png(images[2], [2])
    files[3] = filtered_png(images[3], [2, 0])
    found = decode_pngs(files, side, 3 if colour else 1)
    assert np.array_equal(found, np.stack(images))


def test_our_own_files_do_not_need_pillow(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytes) -> None:
        raise AssertionError

    monkeypatch.setattr(pngs, "decode", refuse)
    assert len(everything(opened(made, tmp_path))) == 10


@pytest.mark.parametrize("place", [0, 20, 30, 45, -20, None])
def test_damaged_files_are_refused(place: int | None) -> None:
    file = bytearray(encode(noise_images(1, 16)[0], "png"))
    if place is None:
        del file[60:]
    else:
        file[place] ^= 4
    with pytest.raises(InputError):
        decode_pngs([bytes(file)], 16, 1)


@pytest.mark.parametrize(("side", "channels"), [(15, 1), (16, 3)])
def test_files_of_another_shape_are_refused(side: int, channels: int) -> None:
    with pytest.raises(InputError):
        decode_pngs([encode(noise_images(1, 16)[0], "png")], side, channels)


def test_a_file_that_unpacks_to_more_than_it_says_takes_no_more_memory() -> None:
    image = noise_images(1, 16)[0]
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in image) + bytes(2**26))
    chunk = b"IDAT" + body
    whole = encode(image, "png")
    begin, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    file = (
        whole[:begin] + len(body).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) + whole[end:]
    )
    tracemalloc.start()
    try:
        found = decode_pngs([file], 16, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(found[0], image)
    assert peak < 2**24


def test_no_files_are_no_images() -> None:
    assert decode_pngs([], 4, 1).shape == (0, 4, 4)
