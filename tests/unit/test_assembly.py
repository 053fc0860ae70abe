"""Pictures for a run's report: of every kind of image, and of those that are gone."""

from pathlib import Path

import numpy as np
import pytest

from redaction_core.images import SUFFIXES, Format
from redaction_core.loading import Task
from redaction_core.plan import planned
from redaction_core.redaction import Blur, Box, Pixelate, Redaction
from redaction_core.report.assembly import Draw, draw
from tests.unit.shards import picture, put, run, task


def drawn_of(given: Task) -> tuple[int, bool]:
    """Count the panels of the one image of a task, and say whether there is a pair for people."""
    (item,) = planned(given.inputs.list(), SUFFIXES[given.format])
    found = draw(Draw(task=given, item=item, number=0))
    return len(found.panels), found.pair is not None


@pytest.mark.parametrize("image_format", SUFFIXES)
@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3)])
def test_every_format_is_drawn(
    tmp_path: Path, image_format: Format, shape: tuple[int, ...]
) -> None:
    put(tmp_path / "in", "a.png", picture(*shape))
    given = task(tmp_path, redaction=Pixelate(block=4), format=image_format)
    run(given)

    assert drawn_of(given) == (6, True)


@pytest.mark.parametrize(
    ("redaction", "network", "panels"),
    [
        (Blur(sigma=1), "enhancer", 6),
        (Box(fraction=0.1, random=True), "redacto", 7),
    ],
)
def test_every_kind_of_redaction_is_drawn(
    tmp_path: Path, redaction: Redaction, network: str, panels: int
) -> None:
    put(tmp_path / "in", "a.png", picture(24, 20))
    given = task(tmp_path, redaction=redaction, network=network)
    run(given, network)

    assert drawn_of(given) == (panels, True)


def test_without_originals_there_is_no_pair(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", np.kron(picture(6, 5), np.ones((4, 4), np.uint8)))
    given = task(tmp_path)
    run(given)

    panels, pair = drawn_of(given)

    assert panels > 1
    assert not pair


@pytest.mark.parametrize("damage", ["input", "output", "size"])
def test_an_image_that_is_gone_is_left_out(tmp_path: Path, damage: str) -> None:
    put(tmp_path / "in", "a.png", picture(24, 20))
    given = task(tmp_path, redaction=Pixelate(block=4))
    run(given)
    (item,) = planned(given.inputs.list(), ".png")
    if damage == "size":
        put(tmp_path / "out" / "images", "a.png", picture(12, 20))
    else:
        folder = tmp_path / "in" if damage == "input" else tmp_path / "out" / "images"
        (folder / "a.png").unlink()

    found = draw(Draw(task=given, item=item, number=3))

    assert (found.number, found.panels, found.pair) == (3, (), None)
