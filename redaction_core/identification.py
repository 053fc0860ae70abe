"""Who is it? How often a picture's nearest clean one, of some other moment, is of the same person.

Each picture is compared with all clean ones but its own (leave one out), and people are ranked by
their most alike picture. Rank 1 and rank 5 are the shares of pictures whose person comes first, or
among the first five; as in the tests of face recognition (Phillips et al. 2000, FERET), with all
people known beforehand ("closed set").
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redaction_core.strength import Mean, mean_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from redaction_core.identity import Vectors

RANKS: Final = (1, 5)
MOST_IMAGES: Final = 10_000
"""Pictures of people that are compared; of more, people are chosen by the hash of their name."""
_AT_ONCE: Final = 512
_EQUAL: Final = 1e-6
"""Cosines that differ by less are equal."""
CLEAN, REDACTED, RESTORED = "clean", "redacted", "restored"
STATES: Final = (CLEAN, REDACTED, RESTORED)


@dataclass(frozen=True, kw_only=True)
class Identified:
    """How often people are recognised in one state of their pictures."""

    redaction: str | None
    """None: clean."""
    state: str
    """Of the pictures that are looked for."""
    gallery: str
    """State of the pictures that they are compared with: clean, or redacted in the same way, as an
    attacker may do with pictures of people whom he knows (McPherson, Shokri and Shmatikov 2016)."""
    ranks: Mapping[int, Mean]
    """Share by rank."""
    chance: Mapping[int, float]
    people: int


def identify(parts: Callable[[], Iterable[pa.Table]]) -> list[Identified]:
    """Compare pictures; nothing where no person has two.

    Args:
        parts: gives the rows of `schemas.EMBEDDINGS`; called twice, so that no more vectors are
            held than are compared.

    Returns:
        Clean ones first, then redactions in the order in which they come.

    """
    people: dict[str, str] = {}
    for part in parts():
        clean = part.filter(pc.equal(part.column("state"), CLEAN))
        keys, groups = (clean.column(name).to_pylist() for name in ("key", "group"))
        people |= {key: group for key, group in zip(keys, groups, strict=True) if group is not None}
    chosen = _choose(people)
    sides: dict[tuple[str | None, str], _Side] = {}
    for part in parts():
        rows = part.filter(pc.is_in(part.column("key"), pa.array(list(chosen), pa.string())))
        if rows.num_rows:
            _gather(sides, rows, chosen)
    if (None, CLEAN) not in sides:
        return []
    clean_side = sides[None, CLEAN]
    results = [_compare(None, CLEAN, clean_side, CLEAN, clean_side)]
    for redaction in dict.fromkeys(name for name, _ in sides if name is not None):
        redacted, restored = sides[redaction, REDACTED], sides[redaction, RESTORED]
        results += [
            _compare(redaction, REDACTED, redacted, CLEAN, clean_side),
            _compare(redaction, REDACTED, redacted, REDACTED, redacted),
            _compare(redaction, RESTORED, restored, CLEAN, clean_side),
        ]
    return [each for each in results if each is not None]


def _gather(
    sides: dict[tuple[str | None, str], _Side], rows: pa.Table, people: Mapping[str, str]
) -> None:
    column = rows.column("embedding").combine_chunks()
    vectors = column.flatten().to_numpy().reshape(rows.num_rows, -1)
    names = ("redaction", "state", "key")
    lines = zip(*(rows.column(name).to_pylist() for name in names), vectors, strict=True)
    for redaction, state, key, vector in lines:
        side = sides.setdefault((redaction, state), _Side())
        side.keys.append(key)
        side.names.append(people[key])
        side.vectors.append(vector)


@dataclass(kw_only=True)
class _Side:
    """Pictures in one state."""

    keys: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)


def _choose(people: Mapping[str, str]) -> dict[str, str]:
    """Take people, whole, up to as many pictures as can be compared."""
    counts = Counter(people.values())
    left, kept = MOST_IMAGES, set()
    for name in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if counts[name] <= left:
            left -= counts[name]
            kept.add(name)
    return {key: name for key, name in people.items() if name in kept}


def _compare(
    redaction: str | None, state: str, probes: _Side, of_gallery: str, gallery: _Side
) -> Identified | None:
    people = {name: number for number, name in enumerate(dict.fromkeys(gallery.names))}
    order = np.argsort([people[name] for name in gallery.names], kind="stable")
    persons = np.array([people[name] for name in gallery.names], np.intp)[order]
    starts = np.flatnonzero(np.diff(persons, prepend=-1))
    at = {gallery.keys[place]: column for column, place in enumerate(order)}
    others = Counter(gallery.names)
    counted = [
        place
        for place, (key, name) in enumerate(zip(probes.keys, probes.names, strict=True))
        if others[name] - (key in at) > 0
    ]
    if not counted:
        return None
    places: list[int] = []
    known = np.stack(gallery.vectors)[order]
    for first in range(0, len(counted), _AT_ONCE):
        some = counted[first : first + _AT_ONCE]
        alike = np.stack([probes.vectors[place] for place in some]) @ known.T
        for line, place in enumerate(some):
            if (own := at.get(probes.keys[place])) is not None:
                alike[line, own] = -np.inf
        best = np.maximum.reduceat(alike, starts, axis=1)
        right = best[np.arange(len(some)), [people[probes.names[place]] for place in some]]
        # Equal ones stand before the right one, which counts itself: where nothing is to be seen,
        # all are, and nobody is recognised.
        places += (best >= right[:, None] - _EQUAL).sum(1).tolist()
    units = [probes.names[place] for place in counted]
    ranks = {rank: _share(np.array(places) <= rank, units) for rank in RANKS}
    return Identified(
        redaction=redaction,
        state=state,
        gallery=of_gallery,
        ranks=ranks,
        chance={rank: min(1.0, rank / len(people)) for rank in RANKS},
        people=len(people),
    )


def _share(hits: npt.NDArray[np.bool_], units: Sequence[str]) -> Mean:
    found = mean_of(hits.astype(np.float64), units)
    assert found is not None  # noqa: S101 - hits are never NaN
    return found
