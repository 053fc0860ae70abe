"""Credentials that end while they are in use: followed where new ones are given, told where not."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.errors import StorageError
from redaction_core.storage import Store, open_store
from tests.command import Command, Ended, Output
from tests.conftest import BUCKET
from tests.faults.harness import differences
from tests.identities import Identity, Profile, policy
from tests.integration.test_s3_retries import ACTIONS
from tests.local_cluster import LocalCluster, local_cluster, wait_until
from tests.poison import packed, picture

IMAGES = 60
FLAGS = ("--redact", "pixelate:4", "--shard-size", "2", "--workers", "1")
ROOT = f"s3://{BUCKET}/credentials"
PLACES = {"INPUT": f"{ROOT}/in", "OUTPUT": f"{ROOT}/out", "MODEL": f"{ROOT}/model"}


@pytest.fixture
def identity(s3_server: EmbeddedS3) -> Identity:
    return Identity.create(s3_server, policy("reconstruct", PLACES))


@pytest.fixture
def profile(
    identity: Identity, s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Profile:
    profile = Profile(tmp_path, s3_server)
    for name, value in profile.environment.items():
        monkeypatch.setenv(name, value)
    profile.be(identity)
    return profile


@pytest.fixture
def store(profile: Profile) -> Store:
    del profile  # for the environment
    store = open_store(f"{ROOT}/out/attempts")
    store.put("key", b"data")
    return store


@pytest.mark.parametrize("action", ACTIONS)
def test_new_credentials_are_followed(
    action: str, store: Store, identity: Identity, profile: Profile
) -> None:
    list(store.list())
    old = identity.renew()
    profile.be(identity)
    identity.revoke(old)

    ACTIONS[action](store)

    assert profile.asked == 2


def test_keys_that_are_replaced_in_a_file_are_followed(
    s3_server: EmbeddedS3, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"

    def write() -> None:
        secret = f"aws_secret_access_key={identity.secret}"
        file.write_text(f"[default]\naws_access_key_id={identity.key}\n{secret}\n")

    write()
    for name, value in Profile(tmp_path, s3_server).environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    store = open_store(f"{ROOT}/out")
    store.put("key", b"data")
    old = identity.renew()
    write()
    identity.revoke(old)

    assert store.read("key").data == b"data"


@pytest.mark.parametrize("action", ACTIONS)
def test_credentials_that_end_are_told_at_once(
    action: str, store: Store, identity: Identity, profile: Profile
) -> None:
    identity.revoke(identity.key)

    with pytest.raises(StorageError, match="check the credentials") as caught:
        ACTIONS[action](store)

    assert identity.key not in str(caught.value)
    assert identity.secret not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert profile.asked == 2


def test_what_a_policy_denies_is_not_tried_with_other_credentials(
    store: Store, profile: Profile
) -> None:
    del store
    inputs = open_store(f"{ROOT}/in")
    asked = profile.asked

    for change in (lambda: inputs.put("new", b""), lambda: inputs.delete(["new"])):
        with pytest.raises(StorageError, match="AccessDenied; check the credentials"):
            change()

    assert profile.asked == asked


@pytest.mark.parametrize("for_s", [1, 300])
def test_credentials_that_cannot_be_renewed_are_one_line(
    for_s: float, identity: Identity, profile: Profile
) -> None:
    profile.be(identity, for_s=for_s)
    store = open_store(f"{ROOT}/out")
    profile.fail("log in again")

    with pytest.raises(StorageError, match=r"log in again.*; check the credentials") as caught:
        list(store.list())

    assert "\n" not in str(caught.value)


@dataclass(kw_only=True)
class Scene:
    """A cluster whose machines have a profile, and images in a bucket."""

    server: EmbeddedS3
    cluster: LocalCluster
    profile: Profile
    folder: Path

    def begin(self, output: str) -> tuple[Identity, Command]:
        """Start a run from the bucket to the bucket as an identity of its own, up to its middle."""
        identity = Identity.create(self.server, policy("reconstruct", PLACES | {"OUTPUT": output}))
        self.profile.be(identity)
        command = self.start(output)
        store = open_store(output)

        def under_way() -> bool:
            assert command.process.poll() is None, (command.log / "stderr").read_text()
            return len(list(store.list("commits/", missing_ok=True))) >= 3

        wait_until(under_way)
        return identity, command

    def start(self, output: str) -> Command:
        """Start the command."""
        log = self.folder / uuid.uuid4().hex
        flags = ("--input", f"{ROOT}/in", "--output", output, *FLAGS)
        return Command.start(log, *flags, environment=self.cluster.environment)


@pytest.fixture(scope="module")
def scene(s3_server: EmbeddedS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("credentials")
    profile = Profile(folder, s3_server)
    with ExitStack() as stack:
        cluster = stack.enter_context(local_cluster(profile.environment))
        cluster.add(cpus=2)
        # This process sees all of the bucket.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        inputs = open_store(f"{ROOT}/in")
        for number in range(IMAGES):
            inputs.put(f"{number:02}.png", packed(picture(32, 32, channels=1, seed=number)))
        yield Scene(server=s3_server, cluster=cluster, profile=profile, folder=folder)


@pytest.fixture(scope="module")
def rotated(scene: Scene) -> tuple[Ended, Output]:
    """Run to the end, with a new key in the middle."""
    output = f"{ROOT}/rotated"
    identity, command = scene.begin(output)
    old = identity.renew()
    scene.profile.be(identity)
    identity.revoke(old)
    return command.wait(), Output.read(output)


def test_a_run_goes_on_with_new_credentials(rotated: tuple[Ended, Output]) -> None:
    ended, output = rotated

    assert ended.code == 0, ended.stderr
    assert "error" not in ended.stderr
    assert ended.result["ok"] == len(output.rows) == len(output.images) == IMAGES


def test_a_run_whose_credentials_end_is_finished_with_new_ones(
    scene: Scene, rotated: tuple[Ended, Output]
) -> None:
    output = f"{ROOT}/ended"
    identity, command = scene.begin(output)
    identity.revoke(identity.key)

    ended = command.wait()

    assert ended.code == 1, ended.stderr
    assert not ended.stdout
    *before, last = ended.stderr.splitlines()
    assert last.startswith("error: cannot ")
    assert "check the credentials" in last
    assert all(line.startswith(("planned ", "reconstruct: ")) for line in before)
    assert identity.key not in ended.stderr
    assert identity.secret not in ended.stderr

    identity.renew()
    scene.profile.be(identity)
    again = scene.start(output).wait()

    assert again.code == 0, again.stderr
    assert "shards are done already" in again.stderr
    assert differences(Output.read(output), rotated[1]) == []
