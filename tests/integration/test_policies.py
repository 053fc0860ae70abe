"""Every job with exactly the rights of its policy in infra/iam: enough, and no more."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import boto3
import pytest

from jobs import audit, ingest, reconstruct, train, verify
from redaction_core.commits import remove_run
from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.errors import StorageError
from redaction_core.storage import open_store
from redaction_core.training.output import remove_training
from tests.command import WITHOUT_RAY, Ended, run, run_here
from tests.conftest import BUCKET
from tests.identities import Identity, policy
from tests.local_cluster import LocalCluster, local_cluster
from tests.poison import packed, picture

OTHER_BUCKET = "other-bucket"
TINY = (
    *("--network", "enhancer", "--architecture", "width=8", "blocks=1", "--redact", "pixelate:4"),
    *("--crop", "16", "--batch-size", "4", "--epochs", "1", "--precision", "float32"),
    *("--workers", "1", "--cpus-per-worker", "1", "--checkpoint-every-s", "0"),
)
ONE = ("--workers", "1")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command, the places that its policy names, and its flags."""

    module: ModuleType
    input: str
    """Name of the flag, too."""
    output: str
    flags: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    remove: Callable[..., object] = remove_run

    @property
    def verb(self) -> str:
        return self.module.__name__.rpartition(".")[2]

    def places(self, root: str) -> dict[str, str]:
        """Give what stands for the policy's placeholders."""
        found = {"INPUT": f"{root}/in", "OUTPUT": f"{root}/{self.output}"}
        found |= {"MODEL": f"{root}/model/model"} if self.model else {}
        return found | ({"INPUT": f"{root}/set"} if self.module is train else {})

    def arguments(self, root: str, **instead: str) -> list[str]:
        """Give the command's flags, with other places in the stead of its own."""
        places = self.places(root) | instead
        flags = ["--output", places["OUTPUT"], *self.flags]
        flags += [self.input, places["INPUT"]] if self.input else []
        return flags + [part for flag in self.model for part in (flag, places["MODEL"])]


JOBS = {
    "ingest": Job(
        module=ingest,
        input="--images",
        output="set",
        flags=(*ONE, "--size", "32", "--val-fraction", "0.3"),
    ),
    "train": Job(module=train, input="--data", output="model", flags=TINY, remove=remove_training),
    "reconstruct": Job(
        module=reconstruct,
        input="--input",
        output="restored",
        model=("--model",),
        flags=(*ONE, "--redact", "pixelate:4", "--max-failure-rate", "0.2"),
    ),
    "audit": Job(
        module=audit,
        input="--images",
        output="audit",
        model=("--enhancer",),
        flags=(*ONE, "--redactions", "pixelate:4", "--max-failure-rate", "0.2"),
    ),
    "verify": Job(module=verify, input="", output="restored"),
}


@dataclass(kw_only=True)
class Walk:
    """All jobs in turn on one cluster, each as an identity that has its policy and nothing else."""

    server: EmbeddedS3
    cluster: LocalCluster
    folder: Path
    root: str
    ended: dict[str, Ended] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    """Without the statement for --overwrite, which no run needs that does not ask for it."""

    def run(self, name: str, *flags: str) -> Ended:
        """Run a job on the cluster, whose machines have its identity."""
        identity = self.identities[name]
        (self.folder / "credentials").write_text(
            f"[default]\naws_access_key_id={identity.key}\n"
            f"aws_secret_access_key={identity.secret}\n"
        )
        job = JOBS[name]
        log = self.folder / uuid.uuid4().hex
        return run(log, *flags, verb=job.verb, environment=self.cluster.environment)


@pytest.fixture(scope="module")
def walk(s3_server: EmbeddedS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("policies")
    root = f"s3://{BUCKET}/policies"
    environment = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
    }
    with acting(s3_server.environment):
        boto3.client("s3").create_bucket(Bucket=OTHER_BUCKET)
        for place in (f"{root}/in", f"{root}/hidden/in", f"s3://{OTHER_BUCKET}/in"):
            store = open_store(place)
            store.put("broken.png", b"no image")
            for number in range(8):
                store.put(f"{number}.png", packed(picture(32, 32, channels=1, seed=number)))
    with ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(environment))
        cluster.add(cpus=2)
        walk = Walk(server=s3_server, cluster=cluster, folder=folder, root=root)
        for name, job in JOBS.items():
            document = policy(name, job.places(root), without=["Overwrite"])
            walk.identities[name] = Identity.create(s3_server, document)
            walk.ended[name] = walk.run(name, *job.arguments(root))
        yield walk


@contextmanager
def acting(environment: Mapping[str, str]) -> Iterator[None]:
    """Be somebody else, without a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | WITHOUT_RAY).items():
            patch.setenv(name, value)
        yield


@pytest.mark.parametrize("name", JOBS)
def test_a_policy_is_enough_for_its_job(name: str, walk: Walk) -> None:
    ended = walk.ended[name]

    assert ended.code == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.result["status"] in ("complete", "intact")


def refused(walk: Walk, name: str, **places: str) -> str:
    """Run the command without a cluster; gives its one line."""
    job, identity = JOBS[name], walk.identities[name]
    flags = job.arguments(walk.root, **places)
    ended = run_here(job.verb, *flags, environment=identity.environment)
    assert ended.code == 1, ended.stderr
    assert not ended.stdout
    return told(ended.stderr, identity)


def told(error: str, identity: Identity) -> str:
    """Check that there is one clear line, which keeps the secret."""
    (line,) = error.splitlines()
    assert line.startswith("error: cannot ")
    assert "check the credentials" in line
    assert identity.key not in line
    assert identity.secret not in line
    return line


@pytest.mark.parametrize("name", JOBS)
def test_another_prefix_to_write_to_is_refused(name: str, walk: Walk) -> None:
    place = f"{walk.root}/hidden/out"
    assert place in refused(walk, name, OUTPUT=place)


@pytest.mark.parametrize("name", JOBS)
def test_another_bucket_to_write_to_is_refused(name: str, walk: Walk) -> None:
    place = f"s3://{OTHER_BUCKET}/out"
    assert place in refused(walk, name, OUTPUT=place)


@pytest.mark.parametrize("place", ["{}/hidden/in", f"s3://{OTHER_BUCKET}/in"])
@pytest.mark.parametrize("name", sorted(JOBS.keys() - {"verify"}))
def test_other_inputs_are_refused(name: str, place: str, walk: Walk) -> None:
    # Below its output, where no run is yet that has other settings.
    output = f"{JOBS[name].places(walk.root)['OUTPUT']}/again"
    place = place.format(walk.root)
    assert place.removesuffix("/in") in refused(walk, name, INPUT=place, OUTPUT=output)


@pytest.mark.parametrize("name", ["ingest", "reconstruct", "audit"])
def test_an_output_among_the_inputs_is_refused(name: str, walk: Walk) -> None:
    # A folder of what may be read; the job's own inputs would be refused as its output.
    with acting(walk.server.environment):
        open_store(f"{walk.root}/in/more").put("a.png", packed(picture(32, 32)))
    places = {"INPUT": f"{walk.root}/in/more", "OUTPUT": f"{walk.root}/in/out"}

    line = refused(walk, name, **places)

    assert "cannot write" in line
    assert f"in {walk.root}/in/out" in line


def test_a_training_among_its_data_is_refused(walk: Walk) -> None:
    # Refused where it first writes, when it has joined the cluster.
    with acting(walk.server.environment):
        source, target = open_store(f"{walk.root}/set"), open_store(f"{walk.root}/set/copy")
        for entry in list(source.list()):
            target.put(entry.key, source.read(entry.key).data)
    flags = JOBS["train"].arguments(walk.root, INPUT=target.location, OUTPUT=f"{walk.root}/set/out")

    ended = walk.run("train", *flags)

    assert ended.code == 1
    first, *rest = ended.stderr.splitlines()
    assert first.startswith("starting 1 worker")
    assert "cannot write run.json in" in told("\n".join(rest), walk.identities["train"])


@pytest.mark.parametrize("name", sorted(JOBS.keys() - {"verify"}))
def test_the_input_cannot_be_changed(name: str, walk: Walk) -> None:
    with acting(walk.identities[name].environment):
        store = open_store(JOBS[name].places(walk.root)["INPUT"])
        key = next(store.list()).key
        for change in (
            lambda: store.put(key, b""),
            lambda: store.put_if_absent("new", b""),
            lambda: store.delete([key]),
        ):
            with pytest.raises(StorageError, match="check the credentials"):
                change()
        assert store.read(key).data


def test_whoever_verifies_changes_nothing(walk: Walk) -> None:
    with acting(walk.identities["verify"].environment):
        store = open_store(f"{walk.root}/restored")
        with pytest.raises(StorageError, match="AccessDenied"):
            store.put("new", b"")
        with pytest.raises(StorageError, match="AccessDenied"):
            store.delete(["_SUCCESS"])


@pytest.mark.parametrize("name", sorted(JOBS.keys() - {"verify"}))
def test_overwriting_takes_a_statement_more(name: str, walk: Walk) -> None:
    job = JOBS[name]
    place, copy = job.places(walk.root)["OUTPUT"], f"{walk.root}/copies/{job.output}"
    with acting(walk.server.environment):
        source, target = open_store(place), open_store(copy)
        for entry in source.list():
            target.put(entry.key, source.read(entry.key).data)
    places = job.places(walk.root) | {"OUTPUT": copy}
    less, whole = (
        Identity.create(walk.server, policy(name, places, without=without))
        for without in (["Overwrite"], [])
    )
    refusal = pytest.raises(
        StorageError, match=r"cannot delete from .*: AccessDenied; check the cr"
    )
    with acting(less.environment), refusal:
        job.remove(open_store(copy))
    with acting(whole.environment):
        job.remove(open_store(copy))
        left = [entry.key for entry in open_store(copy).list()]
    assert [key for key in left if not key.startswith("copy/")] == []
