"""Do intervals hold what they say? Coverage and interval score on held-back images.

    python -m tests.evaluation.intervals --data DIR --work DIR

Faces of identities that nothing was learnt from, 224 and 112 pixels a side, and CIFAR-10's test
images. An interval of 90 % must hold 90 of 100 true values, over all images (within 2 points), and
in each tenth of the images (within 5), ordered by the error that the network expects: that is what
can be known without the originals. Ordered by the error that they turn out to have, the figures are
printed too; the tenth with the largest errors is then chosen for being missed. Interval scores
(Gneiting and Raftery 2007) are compared with those of the constant half width that is best on these
very images. Exits with 1 where a figure misses its mark.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from redaction_core.checkpoints import load_model, shipped
from redaction_core.inference import Restorer, best_precision, pixels_of, planes_of
from redaction_core.redaction import Hiding, Redaction, parse, redact
from redaction_core.uncertainty import (
    LEVELS,
    calibration_of,
    errors_and_scales,
    interval_score,
    spread,
)
from tests.evaluation.independent import Verdicts, options, print_table
from tests.evaluation.research_data import cifar_files, held_out_faces, some

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

FACES = (
    *(f"pixelate:{block}" for block in (2, 4, 8, 16)),
    *("pixelate:4:nearest", "pixelate:8:nearest", "blur:1", "blur:2", "blur:4"),
)
HOLES = ("box:4x4@center", "box:8x8@center", "freeform:0.2@random")
FACE_HOLES = ("freeform:0.2@random", "box:0.05@center")
WITHIN, WITHIN_A_TENTH = 0.02, 0.05
AT_ONCE = 16
KEPT = 4000
"""Values of an image that are kept, spread evenly over it."""


def off(
    images: list[Pixels], how: Redaction, restorer: Restorer
) -> Iterator[tuple[Floats, Floats]]:
    """Redact and restore images; yields errors and scales of each."""
    for start in range(0, len(images), AT_ONCE):
        clean = torch.stack([planes_of(image) for image in images[start : start + AT_ONCE]])
        keys = [f"{start + place}" for place in range(len(clean))]
        redacted = redact(how, clean, keys)
        if redacted.hidden is not None:
            results = restorer.fill(list(redacted.images_u8), list(redacted.hidden))
        else:
            assert not isinstance(how, Hiding)
            results = restorer.enhance(list(redacted.images_u8), how)
        for place, (image, scale) in enumerate(results):
            assert scale is not None
            hidden = None if redacted.hidden is None else redacted.hidden[place, 0].numpy()
            errors, scales = errors_and_scales(
                pixels_of(image), images[start + place], scale[0].numpy(), hidden
            )
            every = max(1, len(errors) // KEPT)
            yield errors[::every].astype(np.float64), scales[::every].astype(np.float64)


def restorer_for(how: Redaction, model: str | None) -> Restorer:
    """Load a model, or the shipped one, that undoes a redaction."""
    network = "redacto" if isinstance(how, Hiding) else "enhancer"
    loaded = load_model(model or shipped(network), expected=network)
    device = torch.device("cpu")
    return Restorer(loaded, device=device, precision=best_precision(device))


def tenths(order_by: list[float], covered: list[Floats]) -> list[float]:
    """Give the share of covered values in each tenth of the images."""
    order = np.argsort(order_by, kind="stable")
    return [
        float(np.concatenate([covered[place] for place in some_]).mean())
        for some_ in np.array_split(order, 10)
    ]


def best_constant(errors: Floats, level: float) -> float:
    """Give the interval score of the best constant half width: the quantile, as is known."""
    return interval_score(errors, np.full_like(errors, np.quantile(errors, level)), level)


def judge(
    name: str, images: list[Pixels], text: str, model: str | None, verdicts: Verdicts
) -> list[tuple[object, ...]]:
    """Measure one redaction of one set; gives rows of a table."""
    how = parse(text)
    restorer = restorer_for(how, model)
    calibration = calibration_of(restorer.model)
    assert calibration is not None, f"{restorer.model.name} has no calibration"
    found = list(off(images, how, restorer))
    by_truth = [float(errors.mean()) for errors, _ in found]
    spread_out = [spread(errors) for errors, _ in found]
    everything = np.concatenate(spread_out)
    rows: list[tuple[object, ...]] = []
    each_factors = [calibration.of(how, float(scale.mean())) for _, scale in found]
    by_word = [each.mean * each.scale for each in each_factors]
    for level in LEVELS:
        widths = [
            factors.of(level) * scale
            for factors, (_, scale) in zip(each_factors, found, strict=True)
        ]
        covered = [errors <= width for width, errors in zip(widths, spread_out, strict=True)]
        share = float(np.concatenate(covered).mean())
        word, truth = tenths(by_word, covered), tenths(by_truth, covered)
        score = interval_score(everything, np.concatenate(widths), level)
        constant = best_constant(everything, level)
        where = f"{name} {text}, {level:.0%}"
        verdicts.add(f"{where}: holds {share:.1%}", abs(share - level) <= WITHIN)
        worst = max(abs(each - level) for each in word)
        verdicts.add(f"{where}: in tenths off by {worst:.1%}", worst <= WITHIN_A_TENTH)
        verdicts.add(f"{where}: score {score:.4f} < {constant:.4f}", score < constant)
        low, high = (f"{each:.3f}" for each in (min(truth), max(truth)))
        rows.append(
            (
                f"{name} {text}",
                f"{level:.0%}",
                share,
                f"{min(word):.3f} to {max(word):.3f}",
                f"{low} to {high}",
                1 - score / constant,
            )
        )
    expected, true = float(np.mean(by_word)), float(np.mean(by_truth))
    correlation = float(np.corrcoef(np.log(by_word), np.log(np.maximum(by_truth, 1e-4)))[0, 1])
    print(f"{name} {text}: MAE {true:.5f}, expected {expected:.5f}, ", end="")
    print(f"correlation of their logarithms over images {correlation:.2f}", flush=True)
    return rows


def main() -> int:
    """Give the exit code."""
    parser = options(__doc__)
    parser.add_argument("--redacto-model", help="the same for hidden pixels")
    flags = parser.parse_args()
    verdicts = Verdicts()
    table: list[tuple[object, ...]] = []
    faces = [face for _, face in some(held_out_faces(flags.data), flags.limit)]
    for side in (224, 112):
        size = (side, side)
        shrunk = [np.asarray(face.resize(size, Image.Resampling.BICUBIC)) for face in faces]
        for text in FACES:
            table += judge(f"faces {side}", shrunk, text, flags.model, verdicts)
        for text in FACE_HOLES:
            table += judge(f"faces {side}", shrunk, text, flags.redacto_model, verdicts)
    files = some(list(cifar_files(flags.data, "test").values()), flags.limit)
    cifar = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    for text in HOLES:
        table += judge("CIFAR-10", cifar, text, flags.redacto_model, verdicts)
    header = (
        "images",
        "nominal",
        "held",
        "tenths by expected",
        "tenths by true",
        "score better by",
    )
    print_table(header, table)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
