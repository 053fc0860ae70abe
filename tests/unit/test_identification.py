"""Recognising people: ranks, chance, and a matcher of one's own."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import skimage.data

from redaction_core.errors import UsageError
from redaction_core.identification import CLEAN, REDACTED, RESTORED, identify
from redaction_core.identity import FaceMatcher, gradients, load_matcher
from redaction_core.schemas import EMBEDDINGS


class Brightness:
    """A matcher that sees one thing alone."""

    def embed(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        angles = np.array([image.mean() / 255 for image in images]) * np.pi / 2
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


READY = Brightness()


def vector(angle: float) -> list[float]:
    return [float(np.cos(angle)), float(np.sin(angle))]


def parts(rows: Sequence[dict[str, object]]) -> Callable[[], Iterable[pa.Table]]:
    middle = len(rows) // 2
    return lambda: (
        pa.Table.from_pylist(some, schema=EMBEDDINGS) for some in (rows[:middle], rows[middle:])
    )


def row(
    key: str, group: str | None, angle: float, redaction: str | None, state: str
) -> dict[str, object]:
    return {
        "key": key,
        "group": group,
        "redaction": redaction,
        "state": state,
        "embedding": vector(angle),
    }


def people(count: int, off: dict[str, float]) -> list[dict[str, object]]:
    """Two pictures of each of `count` people, at angles of their own; `off` by state."""
    rows = []
    for number in range(count):
        for picture in range(2):
            key, name = f"{number:02}-{picture}.png", f"person {number:02}"
            angle = 0.03 * number + 0.001 * picture
            rows.append(row(key, name, angle, None, CLEAN))
            for state, away in off.items():
                rows.append(row(key, name, angle + away, "pixelate:8", state))
    return rows


def test_people_are_ranked_by_their_most_alike_picture() -> None:
    # Redacted pictures look like those of the person four further on.
    rows = people(20, {REDACTED: 4 * 0.03, RESTORED: 0.0})

    clean, redacted, alike, restored = identify(parts(rows))

    assert (clean.state, clean.people) == (CLEAN, 20)
    assert clean.ranks[1].value == restored.ranks[1].value == 1
    assert (redacted.redaction, redacted.gallery) == ("pixelate:8", CLEAN)
    assert redacted.ranks[1].value < 0.1
    # All but the last ones, beyond whom there is nobody.
    assert redacted.ranks[5].value < clean.ranks[5].value
    assert (alike.gallery, alike.ranks[1].value) == (REDACTED, 1)
    assert clean.chance == {1: 0.05, 5: 0.25}


def test_where_all_look_alike_nobody_is_recognised() -> None:
    rows = people(20, {REDACTED: 0.0})
    alike = [
        each | ({"embedding": vector(0)} if each["state"] == REDACTED else {}) for each in rows
    ]
    restored = [each | {"state": RESTORED} for each in alike if each["state"] == REDACTED]

    _, _, among_redacted, _ = identify(parts([*alike, *restored]))

    assert among_redacted.gallery == REDACTED
    assert among_redacted.ranks[1].value == among_redacted.ranks[5].value == 0


def test_a_picture_is_not_compared_with_itself() -> None:
    rows = [
        row("a0", "a", 0.0, None, CLEAN),
        row("a1", "a", 1.5, None, CLEAN),
        row("b0", "b", 0.1, None, CLEAN),
        row("b1", "b", 1.4, None, CLEAN),
    ]

    (clean,) = identify(parts(rows))

    assert clean.ranks[1].value == 0  # each is most alike to one of the other person


def test_who_has_one_picture_is_not_looked_for_but_may_be_taken_for_another() -> None:
    rows = people(3, {})
    rows.append(row("stranger", "alone", 0.0005, None, CLEAN))
    rows.append(row("nobody", None, 0.0, None, CLEAN))

    (clean,) = identify(parts(rows))

    assert clean.people == 4
    assert clean.ranks[1].images == 6
    assert clean.ranks[1].value == pytest.approx(4 / 6)


def test_without_two_pictures_of_anybody_there_is_nothing() -> None:
    assert identify(parts([row("a", "a", 0, None, CLEAN), row("b", "b", 1, None, CLEAN)])) == []
    assert identify(parts([])) == []


def test_the_shipped_matcher_knows_a_picture_again() -> None:
    matcher = load_matcher(None)
    face = skimage.data.astronaut()[20:180, 150:310]
    darker, other = (face * 0.8).astype(np.uint8), skimage.data.chelsea()[60:220, 150:310]

    vectors = matcher.embed([face, darker, other])

    assert isinstance(matcher, FaceMatcher)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.9 > vectors[0] @ vectors[2]


@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 3), (16, 16), (900, 500)])
def test_pictures_of_any_size_have_gradients(shape: tuple[int, ...]) -> None:
    found = gradients(np.zeros(shape, np.uint8))

    assert np.isfinite(found).all()
    assert found.shape == gradients(np.zeros((96, 96), np.uint8)).shape


@pytest.mark.parametrize("name", ["Brightness", "READY"])
def test_a_matcher_of_ones_own(name: str) -> None:
    matcher = load_matcher(f"tests.unit.test_identification:{name}")

    assert matcher.embed([np.zeros((2, 2), np.uint8)]).tolist() == [[1, 0]]


@pytest.mark.parametrize("name", ["nowhere:it", "json:nothing", "json", "json:dumps", ":x", ""])
def test_a_matcher_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--matcher"):
        load_matcher(name)
