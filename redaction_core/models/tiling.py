"""Large images in pieces: memory stays bounded, and a piece sees as far as the whole would."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tile(NamedTuple):
    """A piece of an image: rows and columns to look at, and those of them to keep."""

    rows: slice
    columns: slice
    inner_rows: slice
    """The rows to keep, counted from the first row looked at."""
    inner_columns: slice
    kept_rows: slice
    """The rows to keep, counted from the first row of the image."""
    kept_columns: slice


def tiles(height: int, width: int, *, core: int, halo: int) -> Iterator[Tile]:
    """Cut an image into tiles of `core` pixels a side, each seen with `halo` pixels around it.

    Tiles start at multiples of `core`, and are looked at from multiples of `core` less `halo`.
    """
    for look_y, inner_y, keep_y in _spans(height, core, halo):
        for look_x, inner_x, keep_x in _spans(width, core, halo):
            yield Tile(look_y, look_x, inner_y, inner_x, keep_y, keep_x)


def _spans(size: int, core: int, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    for start in range(0, size, core):
        end = min(size, start + core)
        first = max(0, start - halo)
        look = slice(first, min(size, end + halo))
        yield look, slice(start - first, end - first), slice(start, end)
