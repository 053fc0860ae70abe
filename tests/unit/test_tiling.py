"""Tiles: every pixel kept once, seen with what lies around it."""

import numpy as np
import pytest

from redaction_core.models.tiling import tiles


@pytest.mark.parametrize("height", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("width", [1, 16, 33])
@pytest.mark.parametrize(("core", "halo"), [(8, 0), (8, 3), (16, 16), (1, 1), (100, 5)])
def test_tiles_put_together_are_the_image(height: int, width: int, core: int, halo: int) -> None:
    image = np.arange(height * width).reshape(height, width)
    kept = np.zeros_like(image)
    times = np.zeros_like(image)

    for tile in tiles(height, width, core=core, halo=halo):
        look = image[tile.rows, tile.columns]
        kept[tile.kept_rows, tile.kept_columns] = look[tile.inner_rows, tile.inner_columns]
        times[tile.kept_rows, tile.kept_columns] += 1
        for seen, keep, size in (
            (tile.rows, tile.kept_rows, height),
            (tile.columns, tile.kept_columns, width),
        ):
            assert keep.start % core == 0
            assert keep.stop - keep.start <= core
            assert seen == slice(max(0, keep.start - halo), min(size, keep.stop + halo))

    assert (times == 1).all()
    assert (kept == image).all()
