import numpy as np
import pytest

from redaction_core.contact_sheet import Row, contact_sheet

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def flat(colour: tuple[int, int, int], height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def places(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((sheet == colour).all(axis=2))


def test_panels_stand_side_by_side_in_the_order_of_the_columns() -> None:
    row = Row(title="a", note="", panels=tuple(flat(colour) for colour in COLOURS))
    sheet = contact_sheet("Heading", ["one", "two", "three"], [row], "footer", side=160)
    previous_right = 0
    for colour in COLOURS:
        rows, columns = places(sheet, colour)
        # Enlarged by the whole factor 2, pixel for pixel.
        assert len(rows) == 120 * 160
        assert columns.min() > previous_right
        previous_right = int(columns.max())
    tops = {int(places(sheet, colour)[0].min()) for colour in COLOURS}
    assert len(tops) == 1


def test_rows_follow_each_other_and_labels_cover_no_panel() -> None:
    rows = [Row(title="name", note="note", panels=(flat(colour, 50, 50),)) for colour in COLOURS]
    sheet = contact_sheet("Heading", ["one"], rows, "footer", side=50)
    bottom = 0
    for colour in COLOURS:
        found = places(sheet, colour)[0]
        assert len(found) == 50 * 50
        assert found.min() > bottom
        # There is writing between what came before and this panel.
        assert (sheet[bottom : found.min()] < 100).any()
        bottom = int(found.max()) + 1
    assert (sheet[bottom:] < 255).any(), "no footer"


def test_gray_and_large_panels_keep_their_values() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (90, 300), dtype=np.uint8)
    sheet = contact_sheet("h", ["one"], [Row(title="", note="", panels=(gray,))], "f", side=100)
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 1], gray.shape)
    assert (windows == gray).all(axis=(2, 3)).sum() == 1


def test_a_row_with_too_few_panels_is_refused() -> None:
    row = Row(title="a", note="", panels=(flat(COLOURS[0]),))
    with pytest.raises(ValueError, match="2 panels"):
        contact_sheet("h", ["one", "two"], [row], "f")
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet("h", ["one"], [], "f")
