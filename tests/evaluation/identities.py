"""Are people recognised in redacted and restored faces? The real audit, on people held back.

    python -m tests.evaluation.identities --data DIR --work DIR

All faces, at 224x224, of people with several pictures whom neither the networks nor the matcher
learnt from; mosaics of means and of samples, and blur. Prints a table with chance beside it, and
says where the restored face is recognised less often than the redacted one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

from PIL import Image

from tests.evaluation.independent import fresh, options, print_table
from tests.evaluation.research_data import held_out_faces, identity

SIDE = 224
REDACTIONS = ("pixelate:4,8,16", "pixelate:4,8,16:nearest", "blur:2,4")


def main() -> int:
    """Give the exit code."""
    flags = options(__doc__).parse_args()
    faces = held_out_faces(flags.data)
    pictures = Counter(identity(name) for name, _ in faces)
    several = [(name, face) for name, face in faces if pictures[identity(name)] > 1][: flags.limit]
    folder = fresh(flags.work / "faces")
    for name, face in several:
        face.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    output = flags.work / "audit"
    command = [sys.executable, "-m", "jobs.audit", "--images", folder, "--output", output]
    command += ["--redactions", *REDACTIONS, "--group-by", r"^(.+)_\d+\.png$", "--identify"]
    subprocess.run([*map(str, command), "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((output / "audit.json").read_text())["identification"]
    table = []
    for each in found:
        ranks, chance = each["ranks"], each["chance"]
        table.append(
            (
                each["redaction"] or "none",
                each["state"],
                each["gallery"],
                *(_share(ranks[rank]) for rank in ("1", "5")),
                f"{chance['1']:.1%}, {chance['5']:.1%}",
            )
        )
    print(f"{len(several)} pictures of {found[0]['people']} people")
    print_table(("redaction", "picture", "among", "rank 1", "rank 5", "chance"), table)
    value = {(each["redaction"], each["state"], each["gallery"]): each for each in found}
    for redaction in dict.fromkeys(each["redaction"] for each in found[1:]):
        redacted, restored = (
            value[redaction, state, "clean"]["ranks"]["1"]["value"]
            for state in ("redacted", "restored")
        )
        word = "above" if restored > redacted else "not above"
        print(f"{redaction}: restored {restored:.1%}, {word} redacted {redacted:.1%}")
    return 0


def _share(found: dict[str, float]) -> str:
    return f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


if __name__ == "__main__":
    sys.exit(main())
