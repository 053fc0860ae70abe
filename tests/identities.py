"""Identities of a real S3 server that may do exactly what a policy of infra/iam says."""

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any, Self

import boto3

from redaction_core.embedded_s3 import EmbeddedS3

POLICIES = Path(__file__).resolve().parents[1] / "infra" / "iam"


def policy(job: str, places: Mapping[str, str], *, without: Collection[str] = ()) -> str:
    """Fill in a job's policy as `envsubst` does, and leave out statements by their Sid.

    `places` are locations by kind: INPUT, OUTPUT, MODEL. Raises KeyError where one is missing.
    """
    values = {}
    for kind, location in places.items():
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        values |= {f"{kind}_BUCKET": bucket, f"{kind}_PREFIX": prefix}
    text = (POLICIES / f"{job}.json").read_text()
    document = json.loads(Template(text).substitute(values))
    kept = [each for each in document["Statement"] if each["Sid"] not in without]
    return json.dumps({**document, "Statement": kept})


@dataclass(kw_only=True)
class Identity:
    """A user of the server, with one policy and one key at a time."""

    server: EmbeddedS3
    name: str
    key: str = ""
    secret: str = field(default="", repr=False)

    @classmethod
    def create(cls, server: EmbeddedS3, document: str) -> Self:
        """Make a user, attach the policy as it is, and give it a key."""
        found = cls(server=server, name=uuid.uuid4().hex)
        found.iam("create_user")
        found.iam("put_user_policy", PolicyName="job", PolicyDocument=document)
        found.renew()
        return found

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which our stores find the server and are this user."""
        return self.server.environment | {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def renew(self) -> str:
        """Make a new key, and give the old one, which stays until it is revoked."""
        old = self.key
        made = self.iam("create_access_key")["AccessKey"]
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]
        return old

    def revoke(self, key: str) -> None:
        """Take a key away: requests signed with it are refused from now on."""
        self.iam("delete_access_key", AccessKeyId=key)

    def iam(self, action: str, **values: str) -> dict[str, Any]:
        """Ask the server's IAM API, as its root."""
        client = boto3.client(
            "iam",
            endpoint_url=self.server.endpoint,
            aws_access_key_id=self.server.access_key,
            aws_secret_access_key=self.server.secret_key,
            region_name="us-east-1",
        )
        try:
            found: dict[str, Any] = getattr(client, action)(UserName=self.name, **values)
        finally:
            client.close()
        return found


class Profile:
    """An AWS profile whose credentials a process gives: those of whom it is told to be.

    botocore asks the process again before they expire, and where our stores open anew.
    """

    def __init__(self, folder: Path, server: EmbeddedS3) -> None:
        """Take an empty folder for the configuration."""
        self._folder = folder
        process = folder / "process"
        process.write_text(f"#!/bin/sh\necho asked >> {folder}/asked\ncat {folder}/current\n")
        process.chmod(0o700)
        (folder / "config").write_text(f"[default]\ncredential_process = {process}\n")
        self.environment = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        }

    @property
    def asked(self) -> int:
        """How often the process was asked."""
        return len((self._folder / "asked").read_text().splitlines())

    def be(self, identity: Identity, *, for_s: float = 3600) -> None:
        """Give the key that an identity has now, as one that expires after a time."""
        ends = datetime.now(UTC) + timedelta(seconds=for_s)
        given = {
            "Version": 1,
            "AccessKeyId": identity.key,
            "SecretAccessKey": identity.secret,
            "Expiration": ends.isoformat(),
        }
        # At once: the process may be asked at any moment.
        (self._folder / "next").write_text(json.dumps(given))
        (self._folder / "next").replace(self._folder / "current")

    def fail(self, reason: str) -> None:
        """Have the process fail from now on."""
        (self._folder / "process").write_text(f"#!/bin/sh\necho '{reason}' >&2\nexit 1\n")
