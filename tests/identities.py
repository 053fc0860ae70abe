"""Identities of a real S3 server that may do exactly what a policy of infra/iam says."""

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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

    def revoke(self) -> None:
        """Take the key away: requests signed with it are refused from now on."""
        self.iam("delete_access_key", AccessKeyId=self.key)

    def renew(self) -> None:
        """Make a new key; the old one stays until it is revoked."""
        made = self.iam("create_access_key")["AccessKey"]
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]

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
