"""Carrying a rotation forward, and back, from wherever an earlier attempt left it.

Rules that everything here follows:

1. Look before each decision; what is found decides, notes only explain it.
2. A note is durable before the call that it announces.
3. Only a key that this step made may be deleted, and only if it was never delivered and never used.
4. What neither looking nor the notes explain is Ambiguous: a person looks.
5. A new key's secret lives in local variables, from AWS's answer to Vault's, and nowhere else.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from actions.credentials.aws import AccessKey, KeyPair, KeyRefused, SlotsFull
from actions.credentials.credential import (
    AwsKeyCredential,
    Seen,
    key_id_in,
    other_fields,
    pair_in,
    waited_for,
    with_pair,
)
from actions.credentials.notes import RotationNotes
from actions.credentials.vault import CasMismatch, KvSecret
from bot.action import Context
from bot.errors import (
    Ambiguous,
    ProviderUnreachable,
    TimedOut,
    UndoConflict,
    VerificationFailed,
)
from bot.model.plan import Plan

Mode = Literal["routine", "compromise"]

AWS_SETTLES_S = 30.0
"""How long IAM may take until a new or changed key is known everywhere; seconds, as a rule."""

CONSUMER_SWITCHES_S = 60.0
"""How long the consumer may take to read its new key."""

WRITE_ATTEMPTS = 4
WRITE_PAUSE_S = 0.5


class Rotation:
    """One attempt at one plan."""

    def __init__(self, credential: AwsKeyCredential, plan: Plan, ctx: Context) -> None:
        self._credential = credential
        self._iam, self._vault = credential.iam, credential.vault
        self._user, self._path = credential.user, credential.path
        self._notes = RotationNotes(ctx)
        self._mode: Mode = plan.params["mode"]
        before = plan.before
        self.old: str = before["vault"]["delivers"]
        self._old_version: int = before["vault"]["version"]
        self._old_status = {key["id"]: key["status"] for key in before["keys"]}

    # --- forward -------------------------------------------------------------------------------

    def carry_on(self) -> tuple[str, int]:
        """Do what is left to do and return the new key's id and its KV version.

        Raises:
            Ambiguous: Something is there that neither this step nor the plan explains.

            VerificationFailed: AWS does not take the new key.

            TimedOut: The consumer does not change over; the old key is still active.

            ProviderUnreachable, ProviderRefused: As the systems say. Calling again is safe.
        """
        seen = self._credential.look()
        self._refuse_strangers(seen)
        if self._mode == "compromise":
            self._deactivate_old(seen)
        new = seen.delivers
        if new is None or new == self.old or seen.key(new) is None:
            new = self._replace(seen)
        version = self._prove(new)
        if self._mode == "routine":
            self._wait_for_consumer(new)
        self._deactivate_old(self._credential.look())
        return new, version

    def _refuse_strangers(self, seen: Seen) -> None:
        """Raise Ambiguous if Vault delivers a key of which we know nothing."""
        if seen.delivers != self.old and seen.delivers not in self._notes.made:
            raise Ambiguous(
                f"{self._credential.place} now delivers {seen.delivers or 'no key'} (version "
                f"{seen.version}), neither {self.old} nor a key that this step made, so someone "
                f"else rotated {self._credential.name!r} meanwhile; this step stopped. Look who "
                f"wrote that version, and which of the keys of {self._user} must stay active: "
                f"{_listed(seen)}."
            )

    def _replace(self, seen: Seen) -> str:
        """Make a key and deliver it, after taking away an orphan of an earlier attempt."""
        self._delete_orphan(seen)
        pair = self._create()
        self._notes.will_deliver(pair.id)
        self._deliver(pair)
        return pair.id

    def _create(self) -> KeyPair:
        known = self._iam.list_keys(self._user)
        again = self._notes.tried_to_create
        self._notes.will_create(known)
        full: SlotsFull
        try:
            return self._iam.create_key(self._user)
        except SlotsFull as error:
            full = error
        if again and len(known) < 2:
            # IAM is eventually consistent: an earlier attempt's key counts before it is listed.
            raise ProviderUnreachable(
                f"AWS counts two keys of {self._user} but does not list both yet; nothing was "
                "made. Try again in a few seconds."
            )
        raise full

    def _delete_orphan(self, seen: Seen) -> None:
        """Delete the key that an interrupted attempt made and whose secret died with it."""
        unknown = [key for key in seen.keys if key.id not in self._old_status]
        if len(unknown) > 1 or not all(self._notes.may_have_made(key) for key in unknown):
            raise Ambiguous(_strange_keys(self._credential, unknown))
        for key in unknown:
            used = self._iam.last_used(key.id)
            if used is not None:
                raise Ambiguous(_used_key(self._credential, key, f"{used:%Y-%m-%d %H:%M} UTC"))
            self._notes.will_delete(key.id)
            self._iam.delete_key(self._user, key.id)

    def _deliver(self, pair: KeyPair) -> None:
        """Write the key on top of the version that is there, whatever became of earlier tries."""
        trouble: ProviderUnreachable | None = None
        for attempt in range(WRITE_ATTEMPTS):
            if attempt:
                time.sleep(WRITE_PAUSE_S)
            current = self._current()
            if key_id_in(current) == pair.id:
                return  # a write without a usable answer did arrive
            self._refuse_strangers(Seen((), current.version, key_id_in(current)))
            try:
                self._vault.write(self._path, with_pair(current, pair), cas=current.version)
            except CasMismatch:
                continue
            except ProviderUnreachable as error:
                trouble = error
                continue
            return
        raise trouble or self._contended()

    def _prove(self, new: str) -> int:
        """Wait until AWS takes what Vault delivers, and return the KV version."""
        current = self._current()
        pair = pair_in(current)
        if pair is None or pair.id != new:
            raise Ambiguous(
                f"{self._credential.place} does not deliver {new} any more (version "
                f"{current.version}): someone else writes there. Look who, then decide."
            )
        if not waited_for(lambda: self._is_taken(pair), AWS_SETTLES_S):
            state = "is inactive already" if self._mode == "compromise" else "is still active"
            raise VerificationFailed(
                f"AWS does not take the new key {new} of {self._user} {AWS_SETTLES_S:g} s after "
                f"it was delivered; the old key {self.old} {state}. Look at the key in IAM, "
                "then retry."
            )
        return current.version

    def _wait_for_consumer(self, new: str) -> None:
        if not waited_for(lambda: self._consumer_uses(new), CONSUMER_SWITCHES_S):
            raise TimedOut(
                f"The consumer of {self._credential.name!r} does not use the new key {new} "
                f"{CONSUMER_SWITCHES_S:g} s after it was delivered; the old key {self.old} stays "
                "active, so nothing breaks. Make the consumer read its key again, then retry."
            )

    def _deactivate_old(self, seen: Seen) -> None:
        old = seen.key(self.old)
        if old is not None and old.status == "Active":
            self._notes.will_deactivate(self.old)
            self._iam.set_status(self._user, self.old, "Inactive")

    # --- back ----------------------------------------------------------------------------------

    def take_back(self) -> tuple[str | None, int]:
        """Bring back the old key's status and the old version's content; the keys that this step
        made end inactive, one whose secret is lost is deleted.

        Returns:
            The id of the key that is no longer used (None if none was delivered), and the KV
            version that delivers the old one.

        Raises:
            UndoConflict: Someone else changed what would be restored.

            TimedOut: The consumer does not change back; the new key is still active.
        """
        seen = self._credential.look()
        self._refuse_foreign_changes(seen)
        content = None if seen.delivers == self.old else self._old_content()
        status = self._old_status[self.old]
        old = seen.key(self.old)
        assert old is not None  # noqa: S101 - checked above
        if old.status != status:
            self._iam.set_status(self._user, self.old, status)
        if seen.version == self._old_version:
            self._delete_orphan(seen)  # nothing was delivered
            return None, seen.version
        version = seen.version if content is None else self._write_back(content)
        made = [key for key in seen.keys if key.id in self._notes.made and key.status == "Active"]
        if made and status == "Active":
            self._wait_for_consumer_back()
        for key in made:
            self._iam.set_status(self._user, key.id, "Inactive")
        return self.new, version

    def _refuse_foreign_changes(self, seen: Seen) -> None:
        """Raise UndoConflict, with what differs, unless only this step changed something."""
        found: list[str] = []
        if seen.key(self.old) is None:
            found.append(f"{self.old} was deleted and cannot come back")
        if seen.delivers not in {self.old, *self._notes.made}:
            found.append(f"{self._credential.place} delivers {seen.delivers or 'no key'}")
        found += [
            f"{key.id} ({key.status}) was made by someone else"
            for key in seen.keys
            if key.id not in self._old_status and not self._notes.may_have_made(key)
        ]
        if found:
            raise UndoConflict(
                f"{self._credential.name!r} was changed since by someone else, so nothing was "
                f"taken back: {'; '.join(found)}. Compare the keys of {self._user} with "
                f"{self._credential.place} and decide by hand."
            )

    def _old_content(self) -> KvSecret:
        """Return what Vault held before, if only the key differs from what it holds now."""
        old = self._vault.read(self._path, version=self._old_version)
        if old is None or key_id_in(old) != self.old:
            raise UndoConflict(
                f"Version {self._old_version} of {self._credential.place} is gone, and with it "
                f"the secret of {self.old}, so nothing was taken back; the new key stays."
            )
        self._refuse_other_content(old, self._current())
        return old

    def _write_back(self, old: KvSecret) -> int:
        """Write the old version's content as a new version and return its number."""
        trouble: ProviderUnreachable | None = None
        for attempt in range(WRITE_ATTEMPTS):
            if attempt:
                time.sleep(WRITE_PAUSE_S)
            current = self._current()
            if key_id_in(current) == self.old:
                return current.version  # a write without a usable answer did arrive
            self._refuse_other_content(old, current)
            try:
                return self._vault.write(self._path, old.data, cas=current.version)
            except CasMismatch:
                continue
            except ProviderUnreachable as error:
                trouble = error
        raise trouble or self._contended()

    def _refuse_other_content(self, old: KvSecret, current: KvSecret) -> None:
        before, now = other_fields(old), other_fields(current)
        changed = sorted(
            name for name in before.keys() | now.keys() if before.get(name) != now.get(name)
        )
        if changed or key_id_in(current) not in self._notes.made:
            raise UndoConflict(
                f"{self._credential.place} was changed since by someone else (version "
                f"{current.version}, fields: {', '.join(changed) or 'the key'}), so its content "
                "was not taken back. Merge it by hand."
            )

    def _wait_for_consumer_back(self) -> None:
        if not waited_for(lambda: self._consumer_uses(self.old), CONSUMER_SWITCHES_S):
            raise TimedOut(
                f"The consumer of {self._credential.name!r} does not use {self.old} again "
                f"{CONSUMER_SWITCHES_S:g} s after it was delivered; the new key stays active, so "
                "nothing breaks. Make the consumer read its key again, then retry."
            )

    # --- looking -------------------------------------------------------------------------------

    @property
    def new(self) -> str | None:
        """The id of the key that this step made last."""
        return self._notes.made[-1] if self._notes.made else None

    def identity_of_delivered(self) -> str | None:
        """Return whom AWS takes the delivered key for; None if it refuses it."""
        pair = pair_in(self._vault.read(self._path))
        if pair is None or not waited_for(lambda: self._is_taken(pair), AWS_SETTLES_S):
            return None
        return self._iam.identity(pair)

    def old_is_refused(self) -> bool | None:
        """Tell whether AWS refuses the old key; None if its secret is not kept any more."""
        pair = pair_in(self._vault.read(self._path, version=self._old_version))
        if pair is None or pair.id != self.old:
            return None
        return waited_for(lambda: not self._is_taken(pair), AWS_SETTLES_S)

    def consumer_uses(self, key_id: str) -> bool:
        """Wait until the consumer uses a key."""
        return waited_for(lambda: self._consumer_uses(key_id), CONSUMER_SWITCHES_S)

    def _current(self) -> KvSecret:
        current = self._vault.read(self._path)
        if current is None:
            raise Ambiguous(
                f"{self._credential.place} was deleted while {self._credential.name!r} was being "
                "rotated; this step stopped. Look who deleted it, restore it, then retry."
            )
        return current

    def _is_taken(self, pair: KeyPair) -> bool:
        try:
            self._iam.identity(pair)
        except KeyRefused:
            return False
        return True

    def _consumer_uses(self, key_id: str) -> bool:
        try:
            consumer = self._credential.consumer()
        except ProviderUnreachable:
            return False  # it may be restarting to read its key; the limit ends the wait
        return consumer is None or (consumer.key_id == key_id and consumer.works is not False)

    def _contended(self) -> Ambiguous:
        return Ambiguous(
            f"Someone else keeps writing {self._credential.place}, so the key could not be "
            "delivered on top of it. Look who writes there, then retry."
        )


def _listed(seen: Seen) -> str:
    return ", ".join(f"{key.id} ({key.status})" for key in seen.keys) or "none"


def _strange_keys(credential: AwsKeyCredential, keys: list[AccessKey]) -> str:
    listed = ", ".join(f"{k.id} (made {k.created_at:%Y-%m-%d %H:%M:%S} UTC)" for k in keys)
    return (
        f"{credential.user} has access keys that neither the plan nor this step explains: "
        f"{listed}; nothing more was done. Look in CloudTrail who made them. Deactivate and "
        "delete what nobody needs, then retry."
    )


def _used_key(credential: AwsKeyCredential, key: AccessKey, used: str) -> str:
    return (
        f"{credential.user} has the access key {key.id}, made while an interrupted attempt of "
        f"this step was making one, but it was used ({used}), so it may be someone else's; "
        "nothing more was done. Look in CloudTrail who uses it. Deactivate and delete it if "
        "nobody needs it, then retry."
    )


def before_of(credential: AwsKeyCredential, seen: Seen) -> dict[str, Any]:
    """Return what a plan compares: identifiers, statuses and versions."""
    return {
        "user": credential.user,
        "keys": [
            {"id": key.id, "status": key.status, "created_at": key.created_at.isoformat()}
            for key in seen.keys
        ],
        "vault": {
            "name": credential.vault.name,
            "path": credential.place,
            "version": seen.version,
            "delivers": seen.delivers,
        },
    }
