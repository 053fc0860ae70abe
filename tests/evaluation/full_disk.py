"""Jobs on a cluster where a machine's disk is full, and has room again: needs root, to mount one.

python -m tests.evaluation.full_disk
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import open_store
from tests.command import Command, run
from tests.faults.harness import Reconstruction
from tests.local_cluster import local_cluster, wait_until
from tests.unit.training_sets import smooth_images, write_data_set

SIZE = "300m"
"""Ray's own files take some 20 MB."""
FLAGS = {
    "ingest": "--images {0}/input --output {0}/set --size 48 --shard-size 6 --workers 2",
    "reconstruct": "--input {0}/input --output {0}/out --redact pixelate:8 --shard-size 6 "
    "--workers 2 --max-failure-rate 0.1",
    "train": "--data {0}/data --output {0}/net --workers 2 --cpus-per-worker 1 --epochs 1 "
    "--network enhancer --architecture width=8 blocks=1 --redact pixelate:4 --crop 32 "
    "--batch-size 2 --precision float32",
}


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Mount a small one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607 - as above


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def main() -> int:
    """Return 1 if a job neither ends well nor says in one line what a rerun ends."""
    verdicts: dict[str, bool] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedS3(Path(name, "server"), ["disks"]) as server,
        local_cluster(server.environment) as cluster,
    ):
        os.environ.update(server.environment)
        folder, place = Path(name), "s3://disks"
        Reconstruction().write(open_store(place))
        write_data_set(f"{place}/data", smooth_images(14, 64))
        cluster.add()
        with disk(cluster.temp_dir(1)):
            cluster.add(cpus=2)
            full = cluster.temp_dir(1) / "fill"
            for verb in ("ingest", "reconstruct"):
                flags = FLAGS[verb].format(place).split()
                fill(full)
                first = run(folder / verb, *flags, verb=verb, environment=cluster.environment)
                *_, last = first.stderr.splitlines()
                print(f"{verb}, on a full disk: exit {first.code}, {last}", flush=True)
                said = last.startswith("error: processes of the cluster died")
                verdicts[f"{verb} ends well or says why not"] = first.code == 0 or said
                full.unlink()
                again = run(folder / "again", *flags, verb=verb, environment=cluster.environment)
                verdicts[f"{verb}, again"] = again.code == 0
            fill(full)
            log = folder / "train"
            flags = FLAGS["train"].format(place).split()
            train = Command.start(log, *flags, verb="train", environment=cluster.environment)
            wait_until(lambda: "or a disk is full" in (log / "stderr").read_text())
            full.unlink()
            verdicts["train waits, says so, and goes on"] = train.wait().code == 0
    for what, holds in verdicts.items():
        print("PASS" if holds else "FAIL", what)
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
