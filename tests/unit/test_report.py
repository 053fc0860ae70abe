"""A run's report: what it counts, which images it shows, and that strangers' text stays text."""

import base64
import io
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from redaction_core.report.distributions import distribution
from redaction_core.report.page import Example, Page, render
from redaction_core.report.pictures import Shown, pictures
from redaction_core.report.survey import Survey
from redaction_core.schemas import METRICS

HOSTILE = '</script><img src=x onerror="alert(1)">{{ 7*7 }}<!--&amp;'


def rows(count: int, **columns: Sequence[object]) -> list[dict[str, Any]]:
    return [
        dict.fromkeys(METRICS.names)
        | {"key": f"{number:04}.png", "status": "ok"}
        | {name: values[number] for name, values in columns.items()}
        for number in range(count)
    ]


def survey_of(found: list[dict[str, Any]], *, part: int = 7, **options: int) -> Survey:
    survey = Survey(**options)
    for start in range(0, len(found), part):
        survey.add(pa.Table.from_pylist(found[start : start + part], schema=METRICS))
    return survey


def page_of(survey: Survey, **changes: object) -> Page:
    content: dict[str, Any] = {
        "title": "a title",
        "subtitle": "a subtitle",
        "note": "an estimate",
        "tiles": [("images", str(survey.inputs))],
        "failures": survey.failures.most_common(),
        "distributions": [],
        "ranked_by": survey.ranked_by,
        "examples": [],
        "rows": survey.head,
        "inputs": survey.inputs,
    }
    return Page(**content | changes)


def embedded(page: bytes) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="rows">(.*?)</script>', page.decode())
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_a_distribution_counts_every_image_once() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(0.5, 0.1, 999), [50.0, np.nan]])

    found = distribution("mae", values)

    assert found is not None
    assert sum(found.bars) == found.count == 1000
    assert found.quartiles[1] == pytest.approx(np.nanmedian(values))
    assert found.high < 1  # one far away does not squeeze all others into a bar


@pytest.mark.parametrize("values", [[0.0], [0.25] * 9, [1.0, 1.0]])
def test_equal_values_are_a_bar(values: list[float]) -> None:
    found = distribution("ssim", np.array(values))

    assert found is not None
    assert sorted(found.bars)[-2:] == [0, len(values)]
    assert found.low < values[0] < found.high


def test_a_measure_that_no_image_has_has_no_distribution() -> None:
    assert distribution("ssim", np.array([np.nan, np.nan])) is None


def test_examples_are_the_best_the_worst_and_those_between() -> None:
    recovered = np.random.default_rng(1).permutation(100) / 100
    survey = survey_of(rows(100, recovered=recovered))

    found = survey.examples(3)

    assert [round(float(recovered[each]), 2) for each in found["best"]] == [0.99, 0.98, 0.97]
    assert [round(float(recovered[each]), 2) for each in found["worst"]] == [0.0, 0.01, 0.02]
    assert [round(float(recovered[each]), 2) for each in found["median"]] == [0.51, 0.5, 0.49]
    shown = [each for numbers in found.values() for each in numbers]
    assert len(shown) == len(set(shown)) == 12


def test_examples_do_not_depend_on_the_parts() -> None:
    found = rows(50, recovered=np.random.default_rng(2).random(50))

    assert survey_of(found, part=3).examples(4) == survey_of(found, part=50).examples(4)


def test_without_originals_results_that_explain_their_input_are_best() -> None:
    survey = survey_of(rows(3, consistency_mae=[0.3, 0.1, 0.2]))

    assert survey.ranked_by == "consistency_mae"
    assert survey.examples(1)["best"] == [1]


def test_rows_are_found_again() -> None:
    survey = survey_of(rows(20), part=7)

    assert [survey.place(number) for number in (0, 6, 7, 13, 14, 19)] == [
        *((0, 0), (0, 6), (1, 0), (1, 6), (2, 0), (2, 5))
    ]


def test_few_images_are_shown_once_at_most() -> None:
    assert survey_of(rows(1, recovered=[0.5])).examples(3) == {
        "best": [0],
        "median": [],
        "worst": [],
        "random": [],
    }
    assert survey_of(rows(2)).examples(3)["best"] == []


def test_the_table_holds_the_first_rows_and_says_so() -> None:
    survey = survey_of(rows(25, mae=[0.5] * 25), table_rows=10)

    page = render(page_of(survey))

    assert "The first 10 of 25 rows" in page.decode()
    assert embedded(page)["values"][0] == [f"{number:04}.png" for number in range(10)]


def test_what_strangers_wrote_stays_text() -> None:
    found = rows(2, mae=[0.1, None], failure=[None, "not_an_image"], detail=[None, HOSTILE])
    found[0]["key"] = HOSTILE
    found[1]["status"] = "failed"
    survey = survey_of(found)
    example = Example(name=HOSTILE, figures=HOSTILE, pictures=())

    page = render(page_of(survey, subtitle=HOSTILE, examples=[("best", [example])]))

    assert b"<img src=x" not in page
    assert b"49" not in page.split(b"</style>")[1].split(b"<svg")[0]
    assert page.count(b"<script") == 2
    assert page.count(b"</script>") == 2
    values = dict(zip(("key", "status"), embedded(page)["values"], strict=False))
    assert values["key"][0] == HOSTILE
    assert HOSTILE in str(embedded(page)["values"][-1])


def test_a_page_asks_for_nothing() -> None:
    page = render(page_of(survey_of(rows(3)))).decode()

    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith("data:") for link in links)
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page


def gray(level: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((8, 6), level, np.uint8)


def opened(url: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    data = base64.b64decode(url.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_pictures_of_a_sharpened_image() -> None:
    shown = Shown(redacted=gray(100), restored=gray(140), original=gray(151))

    found = {each.caption: opened(each.url).mean((0, 1)) for each in pictures(shown)}

    assert list(found) == [
        *("redacted", "restored", "original", "error before", "error after", "recovered")
    ]
    assert found["error before"] == pytest.approx([255, 0, 0], abs=4)  # 51 of 255 and more: all red
    assert found["error after"] == pytest.approx([255, 200, 200], abs=4)
    assert found["recovered"] == pytest.approx([55, 55, 255], abs=4)


def test_pictures_of_a_filled_image() -> None:
    hidden = np.zeros((8, 6), bool)
    hidden[2:6, 2:4] = True
    original = np.where(hidden, gray(200), gray(60))
    shown = Shown(
        redacted=np.where(hidden, gray(128), original),
        restored=np.where(hidden, gray(190), original),
        original=original,
        hidden=hidden,
    )

    found = [each.caption for each in pictures(shown)]

    assert found[:5] == [
        *("input, hidden part marked", "prediction", "what was there", "original", "result")
    ]


def test_large_pictures_are_shrunk_and_keep_their_shape() -> None:
    wide = np.zeros((100, 1000, 3), np.uint8)

    (first, *_) = pictures(Shown(redacted=wide, restored=wide))

    assert (first.width, first.height) == (224, 22)
    assert opened(first.url).shape == (22, 224, 3)
