"""Runs in a bucket whose network spoils answers, compared with one in peace."""

import io
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow.parquet as pq

from redaction_core.commits import Run
from redaction_core.storage import Store, open_store
from redaction_core.verification import Checked, check_shard, check_whole, checks_of
from tests.command import Ended, Output, run
from tests.data_sets import DataSet, Ingestion
from tests.faults.harness import Scene, differences, in_bucket, odd_lines
from tests.integration.faulty_proxy import FaultyProxy
from tests.poison import packed, picture

RATE = 0.1
PICTURES = 24


class Pictures(Ingestion):
    """A folder of images to ingest, with one copy, and one that is no image."""

    def __init__(self) -> None:
        """Need no origin."""

    def write(self, place: Store) -> None:
        """Write the images."""
        for number in range(PICTURES):
            place.put(f"pictures/{number:02}.png", packed(picture(64, 64, seed=number)))
        place.put("pictures/copy.png", packed(picture(64, 64, seed=1)))
        place.put("pictures/text.png", b"not an image")

    def flags(self, root: str) -> Sequence[str]:
        """Give all flags but the output."""
        flags = ("--size", "48", "--val-fraction", "0.4", "--shard-size", "6", "--workers", "2")
        return ("--images", f"{root}/pictures", *flags)

    def begin(self, output: str) -> None:
        """See `Subject.begin`."""

    def check(self, output: str) -> None:
        """See `Subject.check`."""
        found = DataSet.read(output)
        assert (found.summary["ok"], found.summary["duplicates"]) == (PICTURES + 1, 1)


class Audits:
    """A folder of images to audit."""

    verb = "audit"
    workers = ("ShardWorker",)

    def write(self, place: Store) -> None:
        """See `Subject.write`."""
        for number in range(12):
            place.put(f"faces/{number:02}.png", packed(picture(64, 64, seed=number)))

    def flags(self, root: str) -> Sequence[str]:
        """See `Subject.flags`."""
        flags = ("--redactions", "pixelate:4,8", "--shard-size", "4", "--workers", "2")
        return ("--images", f"{root}/faces", *flags)

    def begin(self, output: str) -> None:
        """See `Subject.begin`."""

    def read(self, output: str) -> Output:
        """See `Subject.read`."""
        store, found = open_store(output), Output.read(output)
        for name in [each for each in found.names if each.startswith("audit/")]:
            table = pq.read_table(io.BytesIO(store.read(name).data)).drop_columns(["seconds"])
            keyed = [row | {"key": f"{row['key']} {row['redaction']}"} for row in table.to_pylist()]
            found.rows += keyed
        found.rows.sort(key=lambda row: row["key"])
        return found

    def check(self, output: str) -> None:
        """See `Subject.check`."""
        assert len(self.read(output).rows) == 24


@dataclass(frozen=True, kw_only=True)
class Voyage:
    """An output in the bucket of a scene, and commands that write it through a proxy."""

    scene: Scene
    proxy: FaultyProxy
    output: str

    @classmethod
    def of(cls, scene: Scene, proxy: FaultyProxy, name: str) -> "Voyage":
        """Take the name of the output."""
        return cls(scene=scene, proxy=proxy, output=f"{in_bucket(scene.folder)}/{name}")

    def run(self, environment: Mapping[str, str]) -> Ended:
        """Run the command of the scene; a rerun goes on."""
        subject = self.scene.subject
        return run(
            self.scene.folder / "logs" / uuid.uuid4().hex,
            *(*subject.flags(in_bucket(self.scene.folder)), "--output", self.output),
            verb=subject.verb,
            environment={"AWS_ENDPOINT_URL": self.proxy.endpoint, **environment},
        )

    def problems(self, ended: Ended) -> list[str]:
        """Say in which ways the command, and what it left, are not those of a run in peace."""
        if ended.code:
            return [f"ended with {ended.code}: {ended.stderr[-500:]}"]
        found = odd_lines(ended)
        found += differences(self.scene.subject.read(self.output), self.scene.expected)
        return found + audited(self.output)

    def refusal(self, ended: Ended) -> list[str]:
        """Say in which ways a command that gave up did not say so as it should."""
        server, lines = self.scene.server, ended.stderr.splitlines()
        found = odd_lines(ended)
        found += [] if ended.code == 1 else [f"ended with {ended.code}, not 1"]
        errors = [line for line in lines if line.startswith("error: ")]
        found += [] if len(errors) == 1 and lines[-1] == errors[0] else [f"errors: {errors}"]
        said = ended.stderr + ended.stdout
        if server.access_key in said or server.secret_key in said:
            found.append("credentials are told")
        return found


def audited(output: str) -> list[str]:
    """Check an output against its plan, as `jobs.verify` does."""
    planned, checked = Run.read(open_store(output)), Checked()
    for check in checks_of(planned):
        checked += check_shard(check)
    checked += check_whole(planned, checked)
    return [f"audit: {problem.where} {problem.what}" for problem in checked.problems]


@contextmanager
def leading_to(endpoint: str) -> Iterator[None]:
    """Have all commands and stores use an endpoint."""
    before = os.environ["AWS_ENDPOINT_URL"]
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    try:
        yield
    finally:
        os.environ["AWS_ENDPOINT_URL"] = before


def figures(proxy: FaultyProxy) -> str:
    """Tell in one line what a proxy did."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in proxy.spoilt.most_common())
    return f"{proxy.requests} requests, {proxy.spoilt.total()} spoilt ({kinds})"
