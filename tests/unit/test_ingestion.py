"""A shard of a data set: a row of images or of the ledger for every input."""

import hashlib
import io
import random

import numpy as np
import pytest
from PIL import Image

from redaction_core import schemas
from redaction_core.commits import part_bytes
from redaction_core.errors import Failure, InputError
from redaction_core.images import Transform, decode, difference_hash, normalise, normalise_pixels
from redaction_core.ingestion import CONTENTS, IMAGES, LEDGER, Ingestion, Outcome, Task
from redaction_core.plan import PlannedInput
from redaction_core.sources.row_index import image_id
from redaction_core.splits import Splits
from tests import hostile_images
from tests.unit.small_data_set import Given, lost, noise, png, task


def run(given: Task) -> Outcome:
    return Ingestion(given).run(list(given.source.planned()))


def decoded(row: dict[str, dict[str, bytes]]) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]["bytes"]))


def test_an_image_has_a_row_of_images_and_one_of_contents() -> None:
    data = png(1, 30, 20, 3)
    given = task(
        {"a.png": Given(data=data, label="cat", columns={"licence": "by"})},
        columns={"licence": "string", "year": "int64"},
        transform=Transform(size=10, color="rgb", fit="pad"),
    )
    outcome = run(given)
    (row,) = outcome.tables[IMAGES]
    pixels = normalise(data, given.transform).pixels
    assert np.array_equal(np.asarray(decoded(row)), pixels)
    assert decoded(row).format == "PNG"
    assert row["image"]["path"] == f"{image_id('a.png')}.png"
    shown = {name: value for name, value in row.items() if name not in ("image", "split")}
    assert shown == {
        "image_id": image_id("a.png"),
        "url": "a.png",
        "source_sha256": hashlib.sha256(data).hexdigest(),
        "source_width": 20,
        "source_height": 30,
        "label": "cat",
        "licence": "by",
        "duplicate_of": None,
    }
    (content,) = outcome.tables[CONTENTS]
    assert content["image_id"] == row["image_id"]
    assert content["unit"] == content["content"]
    assert content["split"] == row["split"]
    assert content["fixed"] is False
    assert content["difference_hash"] == difference_hash(pixels) - 2**63
    assert outcome.tables[LEDGER] == []
    assert outcome.failed == {}
    for table, rows in outcome.tables.items():
        part_bytes(rows, given.tables[table])  # every row fits its schema


def test_a_failed_input_has_a_row_of_the_ledger() -> None:
    given = task(
        {
            "lost": lost(Failure.TIMEOUT, "no end"),
            "page": Given(data=b"<html>"),
            "planned": Given(planned=Failure.BAD_URL),
        }
    )
    outcome = run(given)
    rows = {row["url"]: row for row in outcome.tables[LEDGER]}
    told = ("failure", "detail", "http_status", "attempts", "bytes")
    assert [rows["lost"][name] for name in told] == ["timeout", "no end", 200, 2, 0]
    assert rows["lost"]["seconds"] == 1.5
    assert rows["page"]["failure"] == "not_an_image"
    assert rows["page"]["bytes"] == 6
    assert rows["page"]["seconds"] > 1.5
    assert [rows["planned"][name] for name in told] == ["bad_url", "as planned", None, 0, 0]
    assert outcome.failed == {"lost": "timeout", "page": "not_an_image", "planned": "bad_url"}
    assert outcome.totals.failures == {"timeout": 1, "not_an_image": 1, "bad_url": 1}
    assert [row["image_id"] for row in rows.values()] == [image_id(name) for name in rows]
    part_bytes(outcome.tables[LEDGER], schemas.FAILURES)


@pytest.mark.parametrize("seed", range(3))
def test_every_input_is_there_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    inputs = {
        f"{number:02}": Given(data=png(number)) if chance.random() < 0.6 else lost(Failure.DNS)
        for number in range(40)
    }
    outcome = run(task(inputs))
    good = [name for name, each in inputs.items() if each.error is None]
    bad = [name for name, each in inputs.items() if each.error is not None]
    assert [row["url"] for row in outcome.tables[IMAGES]] == good
    assert [row["url"] for row in outcome.tables[LEDGER]] == bad
    assert [row["image_id"] for row in outcome.tables[CONTENTS]] == [
        row["image_id"] for row in outcome.tables[IMAGES]
    ]
    assert list(outcome.failed) == bad
    assert (outcome.totals.inputs, outcome.totals.failed) == (40, len(bad))


def test_one_content_is_in_one_split_whatever_its_name_and_file() -> None:
    pixels = noise(3, 8, 8)
    files = io.BytesIO()
    Image.fromarray(pixels).save(files, "BMP")
    inputs = {f"{number}.png": Given(data=png(3, 8, 8)) for number in range(20)}
    inputs |= {"a.bmp": Given(data=files.getvalue()), "raw": Given(pixels=pixels, data=b"x")}
    outcome = run(task(inputs))
    assert len({row["content"] for row in outcome.tables[CONTENTS]}) == 1
    assert len({row["split"] for row in outcome.tables[IMAGES]}) == 1
    other = run(task({f"{number}": Given(data=png(number)) for number in range(30)}))
    assert {row["split"] for row in other.tables[IMAGES]} == {"train", "val"}


def test_the_same_pixels_in_gray_and_in_colour_are_two_contents() -> None:
    outcomes = [
        run(task({"a": Given(data=png(1))}, transform=Transform(size=8, color=color)))
        for color in ("gray", "rgb")
    ]
    gray, rgb = (outcome.tables[CONTENTS][0]["content"] for outcome in outcomes)
    assert gray != rgb


@pytest.mark.parametrize("group_by", ["who", r"([a-z]+)_\d+"])
def test_a_group_is_in_one_split(group_by: str) -> None:
    names = [f"{who}_{number}" for who in ("ann", "bo", "cy", "di", "ed") for number in range(6)]
    inputs = {
        name: Given(data=png(seed), columns={"who": name.partition("_")[0]})
        for seed, name in enumerate(names)
    }
    splits = Splits(val_fraction=0.5, group_by=group_by, columns=("who",))
    outcome = run(task(inputs, columns={"who": "string"}, splits=splits))
    of_group: dict[str, set[tuple[str, str]]] = {}
    for row, content in zip(outcome.tables[IMAGES], outcome.tables[CONTENTS], strict=True):
        group = row["url"].partition("_")[0]
        of_group.setdefault(group, set()).add((row["split"], content["unit"]))
        assert group not in content["unit"]
    assert all(len(each) == 1 for each in of_group.values())
    assert {split for each in of_group.values() for split, _ in each} == {"train", "val"}
    assert len({unit for each in of_group.values() for _, unit in each}) == 5


def test_what_has_no_group_stands_alone() -> None:
    splits = Splits(val_fraction=0.5, group_by="who", columns=("who",))
    inputs = {"a": Given(data=png(1)), "b": Given(data=png(2), columns={"who": "x"})}
    outcome = run(task(inputs, columns={"who": "string"}, splits=splits))
    alone, grouped = outcome.tables[CONTENTS]
    assert alone["unit"] == alone["content"]
    assert grouped["unit"] != grouped["content"]


def test_the_source_s_split_stands() -> None:
    inputs = {
        f"{number}": Given(data=png(number), label="cat", split="test" if number % 2 else None)
        for number in range(20)
    }
    outcome = run(task(inputs))
    for row, content in zip(outcome.tables[IMAGES], outcome.tables[CONTENTS], strict=True):
        fixed = bool(int(row["url"]) % 2)
        assert (row["split"] == "test") == fixed == content["fixed"]
        assert content["split"] == row["split"]


def test_without_labels_there_is_no_such_column() -> None:
    given = task({"a": Given(data=png(1))})
    assert "label" not in given.tables[IMAGES].names
    assert "label" not in run(given).tables[IMAGES][0]


def test_pixels_that_come_as_such_are_normalised_too() -> None:
    pixels = noise(5, 32, 32, 3)
    transform = Transform(size=32, color="rgb")
    given = task({"a": Given(pixels=pixels, data=pixels.tobytes())}, transform=transform)
    (row,) = run(given).tables[IMAGES]
    assert np.array_equal(np.asarray(decoded(row)), pixels)
    assert (row["source_width"], row["source_height"]) == (32, 32)
    small = task({"a": Given(pixels=pixels, data=b"x")}, transform=Transform(size=8, min_size=33))
    assert run(small).failed == {"a": "too_small"}


def test_hostile_images_end_in_the_right_class_or_pixels() -> None:
    cases = {case.name: case for case in hostile_images.make(max_pixels=2**18)}
    transform = Transform(size=32, color="rgb", fit="stretch", max_pixels=2**18)
    given = task({name: Given(data=case.data) for name, case in cases.items()}, transform=transform)
    outcome = run(given)
    assert outcome.failed == {
        name: str(case.failure) for name, case in cases.items() if case.failure is not None
    }
    for row in outcome.tables[IMAGES]:
        case = cases[row["url"]]
        assert case.expected is not None
        wanted = normalise_pixels(case.expected, transform).astype(int)
        found = decode(row["image"]["bytes"]).pixels.astype(int)
        assert np.abs(found - wanted).max() <= case.tolerance, row["url"]


def test_an_input_that_could_not_be_tried_is_a_row() -> None:
    item = PlannedInput(key="a", size=1, version="")
    outcome = Ingestion(task({})).failure(item, InputError(Failure.WORKER_CRASH, "it died"))
    (row,) = outcome.tables[LEDGER]
    assert (row["image_id"], row["url"], row["failure"]) == ("a", "a", "worker_crash")
    assert outcome.failed == {"a": "worker_crash"}
    assert outcome.totals.failed == 1


def test_the_same_inputs_give_the_same_bytes() -> None:
    inputs = {f"{number}": Given(data=png(number)) for number in range(5)}
    written = [
        part_bytes(outcome.tables[table], given.tables[table])
        for given, outcome in ((given, run(given)) for given in (task(inputs), task(inputs)))
        for table in (IMAGES, CONTENTS)
    ]
    assert written[:2] == written[2:]


def test_the_time_of_one_input_is_measured() -> None:
    assert 0 < Ingestion(task({})).seconds_of_one() < 60
