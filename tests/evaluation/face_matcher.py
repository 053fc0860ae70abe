"""Learn the matcher of faces that ships, and write it.

    python -m tests.evaluation.face_matcher --data DIR --work DIR

Learns a linear discriminant (Belhumeur et al. 1997) of the gradients of faces, on those of the
identities that the networks may learn from, and writes `<work>/face-matcher`: model.safetensors and
config.json. Whom it recognises is measured on other people, by `tests.evaluation.identities`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors.numpy import save

from redaction_core.identity import SHIPPED, gradients
from tests.evaluation.independent import options
from tests.evaluation.research_data import identity, learnt_faces

Floats = npt.NDArray[np.float64]

SIDE = 224
COMPONENTS, DIMENSIONS = 300, 128
SHRINKAGE = 0.3
"""Share of its mean variance that is added to the scatter within people, for there is little."""
MOST_OF_ONE = 20
"""Pictures of one person that count, or a few people would say what varies."""


def discriminant(features: Floats, people: list[str]) -> tuple[Floats, Floats]:
    """Find what tells people apart: (N, F) to a mean (F,) and a projection (F, DIMENSIONS)."""
    mean = features.mean(0)
    _, _, axes = np.linalg.svd(features - mean, full_matrices=False)
    main = axes[:COMPONENTS].T
    seen = (features - mean) @ main
    within = np.zeros((COMPONENTS, COMPONENTS))
    freedom = 0
    names = np.array(people)
    for name, count in sorted(Counter(people).items()):
        if count > 1:
            some = seen[names == name][:MOST_OF_ONE]
            off = some - some.mean(0)
            within += off.T @ off
            freedom += len(some) - 1
    within /= freedom
    within += SHRINKAGE * np.trace(within) / COMPONENTS * np.eye(COMPONENTS)
    whiten = np.linalg.cholesky(np.linalg.inv(within))
    between = whiten.T @ (seen.T @ seen / len(seen)) @ whiten
    _, vectors = np.linalg.eigh(between)
    return mean, main @ whiten @ vectors[:, ::-1][:, :DIMENSIONS]


def main() -> int:
    """Give the exit code."""
    flags = options(__doc__).parse_args()
    names, features = [], []
    for name, face in learnt_faces(flags.data):
        names.append(identity(name))
        small = face.resize((SIDE, SIDE), Image.Resampling.BOX)
        features.append(gradients(np.asarray(small)))
    mean, projection = discriminant(np.stack(features).astype(np.float64), names)
    # A scale changes no cosine: this one keeps halves in range.
    projection /= np.abs(projection).max()
    weights = {"mean": mean.astype(np.float16), "projection": projection.astype(np.float16)}
    data = save({name: np.ascontiguousarray(each) for name, each in weights.items()})
    several = sum(count > 1 for count in Counter(names).values())
    config = {
        "components": COMPONENTS,
        "dimensions": DIMENSIONS,
        "images": len(names),
        "people": len(set(names)),
        "people_with_several": several,
        "sha256": hashlib.sha256(data).hexdigest(),
        "shrinkage": SHRINKAGE,
    }
    folder = flags.work / SHIPPED
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(json.dumps(config), f"{len(data):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
