"""From an answer of the API to checked results; what strangers wrote is kept as plain text."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

from redaction_core.errors import Failure, InputError

_LARGEST_SIDE: Final = 2**31 - 1
_SPACES: Final = re.compile(r"\s+")
_BIDIRECTIONAL: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_OPTIONAL_TEXTS: Final = (
    *("title", "creator", "creator_url", "license_version", "license_url"),
    *("source", "foreign_landing_url"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One image as the API describes it; texts are free of control characters."""

    id: str
    url: str | None
    """None: the API gave none that can be fetched."""
    license: str
    title: str | None = None
    creator: str | None = None
    creator_url: str | None = None
    license_version: str | None = None
    license_url: str | None = None
    source: str | None = None
    foreign_landing_url: str | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page of the results of a query; `page` counts from 1."""

    page: int
    page_count: int
    result_count: int
    results: tuple[Result, ...]

    @classmethod
    def of_answer(cls, body: bytes, asked: int) -> Self:
        """Check the body of an answer to a search for page `asked`.

        Raises:
            InputError: SERVER_ERROR, it is not of the documented shape.
        """
        answer = _object(parse(body), "the answer")
        page, page_count, result_count = (
            _count(answer, name) for name in ("page", "page_count", "result_count")
        )
        if page != asked:
            raise not_documented(f"page {page} came instead of page {asked}")
        results = answer.get("results")
        if not isinstance(results, list):
            raise not_documented("'results' is no list")
        return cls(
            page=page,
            page_count=page_count,
            result_count=result_count,
            results=tuple(_result(each) for each in results),
        )

    def to_json(self) -> bytes:
        """Write it in one way only, to be read by `of_answer`."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()


def parse(body: bytes) -> object:
    """Read JSON.

    Raises:
        InputError: SERVER_ERROR, it is none.
    """
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise not_documented("it is no JSON") from error
    return found


def not_documented(why: str) -> InputError:
    """Say that an answer is not of the shape that the API's documentation promises."""
    return InputError(
        Failure.SERVER_ERROR,
        f"the answer is not as the Openverse API documents it ({why}): check --api",
    )


def plain_text(text: str) -> str:
    r"""Make one line of a stranger's text.

    Runs of white space become one space; control characters, halves of surrogate pairs (JSON can
    hold them, UTF-8 cannot) and marks that turn the direction of writing are removed.
    """
    if not text.isprintable():
        text = "".join(each for each in text if each.isspace() or not _is_control(each))
    return _SPACES.sub(" ", text).strip()


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs") or letter in _BIDIRECTIONAL


def _object(found: object, what: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise not_documented(f"{what} is no object")
    return found


def _count(answer: Mapping[str, Any], name: str) -> int:
    found = answer.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise not_documented(f"'{name}' is no count")
    return found


def _result(found: object) -> Result:
    item = _object(found, "a result")
    return Result(
        id=_text(item, "id"),
        url=_fetchable(_optional_text(item, "url")),
        license=_text(item, "license"),
        width=_side(item, "width"),
        height=_side(item, "height"),
        **{name: _plain(_optional_text(item, name)) for name in _OPTIONAL_TEXTS},
    )


def _optional_text(item: Mapping[str, Any], name: str) -> str | None:
    found = item.get(name)
    if found is not None and not isinstance(found, str):
        raise not_documented(f"'{name}' of a result is no text")
    return found


def _text(item: Mapping[str, Any], name: str) -> str:
    found = _plain(_optional_text(item, name))
    if found is None:
        raise not_documented(f"a result without '{name}'")
    return found


def _plain(text: str | None) -> str | None:
    return (plain_text(text) or None) if text is not None else None


def _side(item: Mapping[str, Any], name: str) -> int | None:
    found = item.get(name)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
        raise not_documented(f"'{name}' of a result is no number")
    return found if found is not None and 0 < found <= _LARGEST_SIDE else None


def _fetchable(url: str | None) -> str | None:
    """Let pass http and https URLs with a host and without a password in them."""
    if url is None or url != plain_text(url) or " " in url:
        return None
    try:
        parts = urlsplit(url)
        plain = parts.username is None and parts.password is None
    except ValueError:  # such as an address that begins with "[" and does not end
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname and plain else None
