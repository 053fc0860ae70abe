"""Write the data sets that the weights that ship are trained on, from the research data.

    python -m tests.evaluation.development_sets --data DIR --work DIR

DIR of --data holds faces.tar, cifar10.zip and photos.zip. Of the faces only those of identities
that nobody measures on go in (see `research_data`). Each set is written by the real `jobs.ingest`:
`<work>/faces` (gray, 350x350), `<work>/photos` (colour, 384x384) and `<work>/cifar` (colour, 32x32;
its test images are in the split test, which training leaves alone). A rerun goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.evaluation.research_data import is_learnt_from

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = r"([^/]+)_\d+\.jpg$"


def ingest(images: Path, output: Path, *flags: str) -> None:
    """Run the real command in a process of its own."""
    command = ("--images", str(images), "--output", str(output), *flags)
    print("$ python -m jobs.ingest", *command, flush=True)
    subprocess.run([sys.executable, "-m", "jobs.ingest", *command], check=True, cwd=ROOT)


def write_faces(data: Path, folder: Path) -> None:
    """Write the files of the faces to learn from."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(data / "faces.tar") as archive:
        for member in archive:
            if not (member.isfile() and member.name.startswith("faces/")):
                continue
            path = folder / Path(member.name).name
            # A file that is written anew is another one to the command, which goes by its time.
            if is_learnt_from(member.name) and not path.exists():
                stream = archive.extractfile(member)
                assert stream is not None
                path.write_bytes(stream.read())


def write_photos(data: Path, folder: Path) -> None:
    """Write the files of the photographs; all of them may be learnt from."""
    with zipfile.ZipFile(data / "photos.zip") as archive:
        for name in archive.namelist():
            if name.lower().endswith((".jpg", ".png")):
                path = folder / name.replace("/", "_")
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    path.write_bytes(archive.read(name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    work: Path = options.work.resolve()
    write_faces(options.data, work / "faces-files")
    write_photos(options.data, work / "photos-files")
    ingest(work / "faces-files", work / "faces", "--size", "350", "--group-by", IDENTITY)
    ingest(work / "photos-files", work / "photos", "--size", "384", "--color", "rgb")
    cifar = (options.data / "cifar10.zip").resolve()
    ingest(cifar, work / "cifar", "--size", "32", "--color", "rgb", "--val-fraction", "0.02")


if __name__ == "__main__":
    main()
