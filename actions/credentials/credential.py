"""A configured credential: an IAM user's access key that a consumer reads from Vault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import requests

from actions.credentials.aws import AccessKey, AwsIam, KeyPair
from actions.credentials.vault import KvSecret, VaultKv
from bot.errors import ProviderUnreachable, Refused

ID_FIELD = "access_key_id"
SECRET_FIELD = "secret_access_key"  # noqa: S105 - the name of a field
_REPORTED_AS = ("aws_access_key_id", ID_FIELD)
_CONSUMER_TIMEOUT_S = 5.0


class Seen(NamedTuple):
    """
    What AWS and Vault hold now, without any secret.

    ``version`` is the KV version that is current and ``delivers`` the key id in it; 0 and None if
    there is none.
    """

    keys: tuple[AccessKey, ...]
    version: int
    delivers: str | None

    def key(self, key_id: str | None) -> AccessKey | None:
        return next((key for key in self.keys if key.id == key_id), None)


class Consumer(NamedTuple):
    """What the consumer says: the key it uses, and whether AWS takes it (None: it does not say)."""

    key_id: str | None
    works: bool | None


@dataclass(frozen=True)
class AwsKeyCredential:
    """
    Attributes:
        name: As ``firedoor.yaml`` names it, and runbooks under ``credential``.

        user: The IAM user. It has this one credential.

        path: Within the KV mount. The secret's fields ``access_key_id`` and
            ``secret_access_key`` are rotated; all its other fields stay.

        consumer_url: Answers JSON whose ``aws_access_key_id`` (or ``access_key_id``) is the key
            that the consumer uses now. None if there is no such page: then nobody can tell when
            the consumer has changed over.
    """

    name: str
    user: str
    iam: AwsIam
    vault: VaultKv
    path: str
    consumer_url: str | None = None

    @property
    def place(self) -> str:
        """Where the key is delivered, for people."""
        return f"{self.vault.mount}/{self.path}"

    def look(self) -> Seen:
        """Look at AWS and Vault. Raises ProviderUnreachable, ProviderRefused."""
        keys = self.iam.list_keys(self.user)
        secret = self.vault.read(self.path)
        if secret is None:
            return Seen(keys, 0, None)
        return Seen(keys, secret.version, key_id_in(secret))

    def consumer(self) -> Consumer | None:
        """Ask the consumer which key it uses; None without a ``consumer_url``.

        Raises:
            ProviderUnreachable: No usable answer.
        """
        if self.consumer_url is None:
            return None
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(
                    self.consumer_url, timeout=_CONSUMER_TIMEOUT_S, allow_redirects=False
                )
            body = answer.json() if answer.status_code == 200 else None
        except requests.RequestException:
            body = None
        if not isinstance(body, Mapping):
            raise ProviderUnreachable(
                f"The consumer of {self.name!r} at {self.consumer_url} gives no usable answer, so "
                "which key it uses is not known; start it, or mend consumer_url in firedoor.yaml."
            )
        key_id = next((body[name] for name in _REPORTED_AS if body.get(name)), None)
        works = body.get("aws_ok")
        return Consumer(
            None if key_id is None else str(key_id), works if isinstance(works, bool) else None
        )

    def check(self) -> str:
        """Say whether it could be rotated now, without doing it.

        Raises:
            Refused: It could not, for the reason given.

            ProviderUnreachable, ProviderRefused: As its systems say.
        """
        seen = self.look()
        refuse_if_stuck(self, seen)
        found = f"{self.place} version {seen.version} delivers {seen.delivers} of {self.user}"
        consumer = self.consumer()
        if consumer is not None:
            agrees = "it" if consumer.key_id == seen.delivers else consumer.key_id
            found += f", the consumer uses {agrees}"
        may_write = self.vault.may_write(self.path)
        if may_write is False:
            raise Refused(
                f"The token of Vault {self.vault.name!r} may not write {self.place}, so "
                f"{self.name!r} could not be rotated; add create and update to its policy."
            )
        return found + ("" if may_write else ", whether it may be written was not checked")


def key_id_in(secret: KvSecret) -> str | None:
    found = secret.data.get(ID_FIELD)
    return found if isinstance(found, str) and found else None


def pair_in(secret: KvSecret | None) -> KeyPair | None:
    """Return the key that a version of the secret delivers, if it is whole."""
    if secret is None or key_id_in(secret) is None:
        return None
    value = secret.data.get(SECRET_FIELD)
    return KeyPair(str(secret.data[ID_FIELD]), value) if isinstance(value, str) and value else None


def with_pair(secret: KvSecret, pair: KeyPair) -> dict[str, Any]:
    """Return the secret's fields with another key; all other fields stay."""
    return {**secret.data, ID_FIELD: pair.id, SECRET_FIELD: pair.secret}


def other_fields(secret: KvSecret) -> dict[str, Any]:
    return {k: v for k, v in secret.data.items() if k not in {ID_FIELD, SECRET_FIELD}}


def refuse_if_stuck(credential: AwsKeyCredential, seen: Seen) -> None:
    """Refuse what cannot be rotated without touching what is not ours.

    AWS allows a user two access keys (the quota cannot be raised), so a rotation needs one free.

    Raises:
        Refused: Vault delivers no key of the user, or a second key takes the other place.
    """
    user, place = credential.user, credential.place
    if seen.delivers is None:
        raise Refused(
            f"{place} delivers no access key (field {ID_FIELD}), so there is none to rotate; "
            f"write the key that {user} uses there first."
        )
    if seen.key(seen.delivers) is None:
        held = ", ".join(key.id for key in seen.keys) or "none"
        raise Refused(
            f"{place} delivers {seen.delivers}, which is not a key of {user} (its keys: {held}), "
            "so which one to rotate is not clear; find out who changed it and deliver the right "
            "one."
        )
    others = [key for key in seen.keys if key.id != seen.delivers]
    if others:
        _refuse_second(credential, others[0])


def _refuse_second(credential: AwsKeyCredential, other: AccessKey) -> None:
    delete = f"aws iam delete-access-key --user-name {credential.user} --access-key-id {other.id}"
    first = (
        "look who still uses it (aws iam get-access-key-last-used), deactivate it, then delete it"
        if other.status == "Active"
        else "if nobody needs it back, delete it"
    )
    raise Refused(
        f"{credential.user} has a second access key, {other.id} ({other.status}), that "
        f"{credential.place} does not deliver, so AWS has no place for a new one and "
        f"{credential.name!r} was not rotated; Firedoor deletes no key that it did not make in "
        f"the same step: {first}: {delete}"
    )


def waited_for(condition: Callable[[], bool], limit_s: float) -> bool:
    """Ask again, a little later each time, until it holds or ``limit_s`` is over."""
    import time

    deadline, pause_s = time.monotonic() + limit_s, 0.1
    while not condition():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, 2.0)
    return True
