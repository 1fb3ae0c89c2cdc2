"""Connection to AWS: access keys of IAM users, and who a key belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from actions import aws_session
from bot.errors import FiredoorError, ProviderRefused, ProviderUnreachable

Status = Literal["Active", "Inactive"]

_NOT_A_KEY = frozenset(
    {"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)


class SlotsFull(ProviderRefused):
    """The user has as many access keys as AWS allows (two)."""


class KeyRefused(ProviderRefused):
    """AWS does not take this access key: unknown, inactive, or not yet known everywhere."""


class NoSuchUser(ProviderRefused):
    """There is no such user, or no such key of it."""


@dataclass(frozen=True)
class AccessKey:
    """What AWS tells about an access key: all but its secret."""

    id: str
    status: Status
    created_at: datetime


@dataclass(frozen=True)
class KeyPair:
    """An access key with its secret, which never shows in a repr."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class AwsIam:
    """
    An AWS account, and the key with which Firedoor manages keys of others there.

    Nothing is taken from the environment's profiles and configuration files. All methods raise:

    - ``ProviderUnreachable``: no connection, a timeout, a 5xx, throttling;
    - ``ProviderRefused``: AWS understood and says no.

    Attributes:
        name: As ``firedoor.yaml`` names it.

        endpoint_url: None for the real AWS; its proxy then comes from the environment.
    """

    name: str
    region: str
    endpoint_url: str | None = None
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        """Return a user's access keys, oldest first."""
        answer = self._call(self._iam, "list_access_keys", UserName=user)
        keys = [
            AccessKey(
                id=str(entry["AccessKeyId"]),
                status=entry["Status"],
                created_at=entry["CreateDate"].astimezone(UTC),
            )
            for entry in answer["AccessKeyMetadata"]
        ]
        return tuple(sorted(keys, key=lambda key: (key.created_at, key.id)))

    def create_key(self, user: str) -> KeyPair:
        """Make an access key. Its secret can be read only here, and only once.

        AWS offers no idempotency token for this call, so it is tried once: a retry by the library
        after a lost answer would make a second key.

        Raises:
            SlotsFull: The user has two already.

            ProviderUnreachable: No usable answer. A key may have been made: list them.
        """
        made = self._call(self._iam_once, "create_access_key", UserName=user)["AccessKey"]
        return KeyPair(str(made["AccessKeyId"]), str(made["SecretAccessKey"]))

    def set_status(self, user: str, key_id: str, status: Status) -> None:
        """Activate or deactivate an access key. Safe to repeat."""
        self._call(self._iam, "update_access_key", UserName=user, AccessKeyId=key_id, Status=status)

    def delete_key(self, user: str, key_id: str) -> None:
        """Delete an access key. Safe to repeat."""
        try:
            self._call(self._iam, "delete_access_key", UserName=user, AccessKeyId=key_id)
        except NoSuchUser:
            return  # it is gone, which is what was wanted

    def last_used(self, key_id: str) -> datetime | None:
        """Return when a key was last used, as far as AWS knows; its knowledge lags by hours."""
        answer = self._call(self._iam, "get_access_key_last_used", AccessKeyId=key_id)
        used = answer.get("AccessKeyLastUsed", {}).get("LastUsedDate")
        return used.astimezone(UTC) if isinstance(used, datetime) else None

    def identity(self, key: KeyPair) -> str:
        """Return the ARN that a key stands for.

        Raises:
            KeyRefused: AWS does not take it.
        """
        answer = self._call(self._client("sts", key), "get_caller_identity")
        return str(answer["Arn"])

    def check(self) -> str:
        """Say as whom Firedoor acts in which account."""
        own = KeyPair(self.access_key_id, self.secret_access_key)
        return f"{self.identity(own)}, region {self.region}"

    @cached_property
    def _session(self) -> Any:
        return aws_session.session()

    @cached_property
    def _iam(self) -> Any:
        return self._client("iam", KeyPair(self.access_key_id, self.secret_access_key))

    @cached_property
    def _iam_once(self) -> Any:
        own = KeyPair(self.access_key_id, self.secret_access_key)
        return self._client("iam", own, attempts=1)

    def _client(self, service: str, key: KeyPair, attempts: int = 3) -> Any:
        return aws_session.client(
            self._session,
            service,
            region=self.region,
            endpoint_url=self.endpoint_url,
            access_key_id=key.id,
            secret_access_key=key.secret,
            attempts=attempts,
        )

    def _call(self, client: Any, operation: str, **parameters: str) -> Mapping[str, Any]:
        """Call AWS. What is raised holds nothing of the library's exception, which holds bodies."""
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
        )
        from botocore.parsers import ResponseParserError

        problem: FiredoorError
        try:
            return dict(getattr(client, operation)(**parameters))
        except ClientError as error:
            details = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            problem = self._problem(operation, str(details.get("Code", "")), int(status))
        except (ConnectionError, HTTPClientError, ResponseParserError) as error:
            problem = ProviderUnreachable(
                f"AWS {self.name!r} gives no usable answer to {operation} "
                f"({type(error).__name__}); check the network, and endpoint_url in firedoor.yaml."
            )
        except BotoCoreError as error:
            problem = ProviderRefused(
                f"{operation} could not be sent to AWS {self.name!r} ({type(error).__name__}); "
                "check its settings in firedoor.yaml."
            )
        raise problem

    def _problem(self, operation: str, code: str, status: int) -> FiredoorError:
        said = f"AWS {self.name!r} answers {code or status} to {operation}"
        if status >= 500 or status == 429 or code in aws_session.BUSY:
            return ProviderUnreachable(f"{said}; try again later.")
        if code == "LimitExceeded":
            return SlotsFull(f"{said}: the user has two access keys, which is all AWS allows.")
        if code == "NoSuchEntity":
            return NoSuchUser(f"{said}: the user or the key does not exist.")
        if code in _NOT_A_KEY:
            return KeyRefused(
                f"{said}: it does not take the access key. If it is Firedoor's own, mend it in "
                "firedoor.yaml."
            )
        return ProviderRefused(f"{said}; grant Firedoor's user what it lacks, then try again.")
