"""`python -m jobs.audit` as people run it: the answer, its intervals, people, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage.data

from redaction_core.images import encode
from redaction_core.storage import open_store
from tests.command import Ended, run

GRID = ("pixelate:2,8", "blur:1,4", "box:4x4@center")
REDACTIONS = ["blur:1", "blur:4", "box:4x4@center", "pixelate:2", "pixelate:8"]
PEOPLE, PICTURES = 4, 3


def faces() -> dict[str, bytes]:
    """Pieces of one photograph a person, shifted a little from picture to picture."""
    names = ("astronaut", "chelsea", "coffee", "rocket")
    found = {}
    for name in names[:PEOPLE]:
        for number in range(PICTURES):
            piece = getattr(skimage.data, name)()[40 + 2 * number : 136 + 2 * number, 150:246]
            found[f"{name}_{number}.png"] = encode(np.ascontiguousarray(piece), "png")
    return found


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    folder = tmp_path_factory.mktemp("audit")
    store = open_store(str(folder / "in"))
    for key, data in faces().items():
        store.put(key, data)
    store.put("broken_0.png", b"no image")
    flags = ("--images", str(folder / "in"), "--output", str(folder / "out"), "--redactions", *GRID)
    flags += ("--group-by", r"^([a-z]+)_", "--identify", "--shard-size", "5")
    ended = run(folder / "log", *flags, "--max-failure-rate", "0.1", verb="audit")
    assert ended.code == 0, ended.stderr
    return folder, ended


def rows(output: Path, table: str) -> list[dict[str, Any]]:
    parts = sorted((output / table).glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def test_every_image_has_a_row_a_redaction(audited: tuple[Path, Ended]) -> None:
    folder, ended = audited
    found = rows(folder / "out", "audit")

    keys = [*faces(), "broken_0.png"]
    assert {(row["key"], row["redaction"]) for row in found} == {
        (key, redaction) for key in keys for redaction in REDACTIONS
    }
    assert len(found) == len(keys) * len(REDACTIONS)
    assert {row["failure"] for row in found if row["key"] == "broken_0.png"} == {"not_an_image"}
    assert (ended.result["inputs"], ended.result["failed"]) == (len(keys), 1)
    assert Path(ended.result["summary"]).read_bytes() == (folder / "out/audit.json").read_bytes()
    assert "redactions" not in ended.result
    assert len(ended.stdout) < 2000
    assert all(row["group"] == row["key"].partition("_")[0] for row in found)


def test_means_are_those_of_the_rows_and_stronger_redactions_leave_less(
    audited: tuple[Path, Ended],
) -> None:
    folder, _ = audited
    found = rows(folder / "out", "audit")
    told = json.loads((folder / "out" / "audit.json").read_text())

    mae = {}
    for each in told["redactions"]:
        values = [
            r["mae"] for r in found if r["redaction"] == each["redaction"] and not r["failure"]
        ]
        mae[each["redaction"]] = each["means"]["mae"]["value"]
        assert mae[each["redaction"]] == pytest.approx(np.mean(values), rel=1e-5)
        recovered = each["means"]["recovered"]
        assert recovered["low"] <= recovered["value"] <= recovered["high"]
        assert each["images"] == PEOPLE * PICTURES
    assert mae["blur:1"] < mae["blur:4"]
    assert mae["pixelate:2"] < mae["pixelate:8"]
    assert {each["family"] for each in told["weakest_enough"]} == {
        *("blur", "box of so many pixels, in the middle", "pixelate, mean of each block"),
    }
    assert "lower bound" in told["bound"]


def test_people_are_recognised_in_what_is_clean(audited: tuple[Path, Ended]) -> None:
    folder, _ = audited
    told = json.loads((folder / "out" / "audit.json").read_text())["identification"]

    clean = told[0]
    assert (clean["redaction"], clean["state"], clean["people"]) == (None, "clean", PEOPLE)
    assert clean["ranks"]["1"]["value"] == 1  # the pictures of one overlap
    assert clean["chance"]["1"] == 1 / PEOPLE
    states = {(each["redaction"], each["state"], each["gallery"]) for each in told[1:]}
    assert states == {
        (redaction, state, gallery)
        for redaction in REDACTIONS
        for state, gallery in (
            *(("redacted", "clean"), ("redacted", "redacted")),
            ("restored", "clean"),
        )
    }


def test_page_and_picture_are_there_and_the_output_is_intact(
    audited: tuple[Path, Ended], tmp_path: Path
) -> None:
    folder, _ = audited
    page = (folder / "out" / "report.html").read_text()

    assert "lower bound" in page
    assert "Is the person recognised?" in page
    assert (folder / "out" / "strength.png").read_bytes().startswith(b"\x89PNG")
    ended = run(tmp_path, "--output", str(folder / "out"), verb="verify")
    assert ended.code == 0, ended.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--redactions", "mosaic:4"), "mosaic:4"),
        (("--redactions", "pixelate:64"), "2 to 16"),
        (("--target-recovered", "1.5"), "--target-recovered"),
        (("--identify",), "--group-by"),
        (("--matcher", "json:dumps"), "--identify"),
        (("--identify", "--group-by", "(a)", "--matcher", "nowhere:it"), "--matcher nowhere:it"),
        (("--group-by", "("), "--group-by"),
    ],
)
def test_what_makes_no_sense_is_one_line(flags: tuple[str, ...], says: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ended = run(
        tmp_path, "--images", f"{tmp_path}/in", "--output", f"{tmp_path}/out", *flags, verb="audit"
    )

    assert ended.code == 2
    assert says in ended.error
