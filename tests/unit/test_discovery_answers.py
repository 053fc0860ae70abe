"""What is made of Openverse's answers: results, plain texts, rows of the list."""

import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redaction_core.discovery.answers import Page, plain_text
from redaction_core.discovery.url_list import URL_LIST, UrlList
from redaction_core.errors import Failure, InputError
from tests.openverse_server import image


def answer(*results: dict[str, Any], **changes: object) -> bytes:
    counts = {"result_count": 1, "page_count": 1, "page_size": 20, "page": 1}
    return json.dumps({**counts, "results": results, **changes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        answer(page=2),
        answer(page="1"),
        answer(page_count=None),
        answer(page_count=-1),
        answer(result_count=True),
        answer(results={}),
        answer(results=["a"]),
        *(answer(image("a", 0, **{name: 5})) for name in ("id", "url", "title", "license")),
        *(answer(image("a", 0, **{name: None})) for name in ("id", "license")),
        *(answer(image("a", 0, **{name: "1"})) for name in ("width", "height")),
        answer(image("a", 0, width=1.5)),
        b"\xff",
    ],
)
def test_an_answer_of_another_shape_is_an_error(body: bytes) -> None:
    with pytest.raises(InputError, match="documents it") as caught:
        Page.of_answer(body, 1)
    assert caught.value.failure == Failure.SERVER_ERROR


def test_what_may_be_missing_may_be_missing() -> None:
    (found,) = Page.of_answer(answer({"id": "1", "url": "http://a/b", "license": "by"}), 1).results
    assert (found.title, found.width, found.foreign_landing_url) == (None, None, None)
    changes = {"title": " \n", "width": 0, "height": 2**31}
    (found,) = Page.of_answer(answer(image("a", 0, **changes)), 1).results
    assert (found.title, found.width, found.height) == (None, None, None)


@pytest.mark.parametrize(
    "url",
    [None, "", "ftp://a/b", "//a/b", "a", "http:///b", "http://[a/b", "http://u:p@a/b", "http://u@a/",
     "http://a/b c", "http://a/\x00b", "http://a/b\n", "javascript:alert(1)", "file:///etc/passwd"],
)  # fmt: skip
def test_a_url_that_cannot_be_fetched_is_left_out(url: str | None) -> None:
    (found,) = Page.of_answer(answer(image("a", 0, url=url)), 1).results
    urls = UrlList("parquet")
    urls.add(found, "a")
    assert (urls.rows, urls.unusable) == (0, 1)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\tb\r\n  c", "a b c"),
        ("a\x00\x1b[31mb\x7f\x85", "a[31mb"),
        ("a \x00 b", "a b"),
        ("\ud800a\udfff", "a"),
        ("a\u202eb\u2066c\u2028d", "abc d"),
        ("Größe 🧑\u200d🎨 猫", "Größe 🧑\u200d🎨 猫"),
    ],
)
def test_texts_of_strangers_become_one_plain_line(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@given(st.text(st.characters()), st.text(st.characters()))
@settings(deadline=None)  # the first read imports pandas
def test_a_stored_page_reads_as_it_was(title: str, creator: str) -> None:
    page = Page.of_answer(answer(image("a", 0, title=title, creator=creator)), 1)
    assert Page.of_answer(page.to_json(), 1) == page
    assert "\n" not in f"{page.results[0].title}{page.results[0].creator}"
    urls = UrlList("parquet")
    urls.add(page.results[0], "a")
    assert pq.read_table(io.BytesIO(urls.finish())).num_rows == 1


def test_an_empty_list_has_its_columns() -> None:
    assert pq.read_schema(io.BytesIO(UrlList("parquet").finish())).equals(URL_LIST)
    assert UrlList("jsonl").finish() == b""
