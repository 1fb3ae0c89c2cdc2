"""Rotate a configured credential: a new key made, delivered and proven, the old one deactivated."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from actions.credentials.credential import AwsKeyCredential, Seen, refuse_if_stuck
from actions.credentials.rotation import Mode, Rotation, before_of
from bot.action import ChangeAction, Context, Facts, Params
from bot.model.outcome import Check, Outcome, Proof
from bot.model.plan import Plan

NEW = "(new)"
"""Stands in a plan for the id that AWS will give."""


class RotateParams(Params):
    """
    What ``with:`` may hold under a ``credentials.rotate`` step.

    ``routine`` keeps the old key working until the consumer has changed over. ``compromise``
    deactivates it first: what uses it, a thief included, fails from then on, and the consumer
    too, until it reads the new key.
    """

    credential: Annotated[str, Field(min_length=1, examples=["orders-service"])]
    mode: Mode = "routine"


class RotateFacts(Facts):
    """``old`` and ``new`` are key ids; ``vault_version`` is the KV version that is current."""

    credential: str
    old: str
    new: str | None
    vault_version: int


class Rotate(ChangeAction[RotateParams]):
    """
    Rotate the access key of an IAM user that a consumer reads from Vault.

    The old key is made inactive and kept, so that a mistake can be undone. Deleting it is for a
    person, later; until then AWS has no place for a third key and the next rotation is refused.

    Sessions that STS issued for the old key live on until they expire: making a key inactive does
    not end them.

    Raises:
        Refused: There is no key to rotate, or no place for another one.

        Ambiguous, VerificationFailed, TimedOut, UndoConflict: As ``rotation.py`` says.

        ProviderUnreachable, ProviderRefused: As AWS and Vault say.
    """

    name = "credentials.rotate"
    params = RotateParams
    facts = RotateFacts
    timeout_s = 180.0

    def observe(self, params: RotateParams, ctx: Context) -> Any:
        credential = _credential(params, ctx)
        seen = credential.look()
        # Refused here and not in plan(), which cannot know that this step has begun: half-way
        # through, a second key is its own.
        if not ctx.notes.read():
            refuse_if_stuck(credential, seen)
        return before_of(credential, seen)

    def plan(self, params: RotateParams, observed: Any) -> Plan:
        old, user = observed["vault"]["delivers"], observed["user"]
        place = observed["vault"]["path"]
        if params.mode == "routine":
            summary = (
                f"Make a new access key for {user}, deliver it to {place}, wait until it is in "
                f"use, then deactivate {old}."
            )
        else:
            summary = (
                f"Deactivate the access key {old} of {user} at once, then make a new one and "
                f"deliver it to {place}. What uses the old key fails from then on; sessions that "
                "STS issued for it live on until they expire."
            )
        after = {
            "user": user,
            "keys": [
                *(
                    {**key, "status": "Inactive"} if key["id"] == old else key
                    for key in observed["keys"]
                ),
                {"id": NEW, "status": "Active"},
            ],
            "vault": {
                **observed["vault"],
                "version": observed["vault"]["version"] + 1,
                "delivers": NEW,
            },
        }
        return Plan(
            action=self.name,
            params=params.model_dump(mode="json"),
            summary=summary,
            before=observed,
            after=after,
        )

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        rotation = _rotation(plan, ctx)
        new, version = rotation.carry_on()
        return _outcome(plan, rotation.old, new, version)

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        credential = _credential(RotateParams.model_validate(plan.params), ctx)
        rotation = Rotation(credential, plan, ctx)
        seen = credential.look()
        new = rotation.new or NEW
        checks = [
            Check(
                name=f"{credential.place} delivers the new key",
                ok=seen.delivers == new,
                expected=new,
                seen=seen.delivers or "no key",
            ),
            _new_key_works(rotation, credential.user),
            *_old_key_is_dead(rotation, seen),
            _one_active(seen, new),
        ]
        if credential.consumer_url is not None:
            checks.append(_consumer_changed_over(rotation, credential, new))
        return Proof(checks=tuple(checks))

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        """Make the old key active again if it was, deliver it again as a new KV version with the
        old version's content, and deactivate the new key.

        In mode ``compromise`` this brings an exposed key back into use.
        """
        rotation = _rotation(plan, ctx)
        new, version = rotation.take_back()
        return _outcome(plan, rotation.old, new, version)


def _credential(params: RotateParams, ctx: Context) -> AwsKeyCredential:
    return ctx.connection(AwsKeyCredential, params.credential)


def _rotation(plan: Plan, ctx: Context) -> Rotation:
    return Rotation(_credential(RotateParams.model_validate(plan.params), ctx), plan, ctx)


def _outcome(plan: Plan, old: str, new: str | None, version: int) -> Outcome:
    facts = RotateFacts(
        credential=plan.params["credential"], old=old, new=new, vault_version=version
    )
    return Outcome(facts=facts.model_dump(mode="json"))


def _new_key_works(rotation: Rotation, user: str) -> Check:
    said = rotation.identity_of_delivered()
    return Check(
        name="AWS takes the delivered key",
        ok=said is not None and said.endswith(f"/{user}"),
        expected=f"the identity of {user}",
        seen=said or "refused",
    )


def _old_key_is_dead(rotation: Rotation, seen: Seen) -> list[Check]:
    old = seen.key(rotation.old)
    status = "deleted" if old is None else old.status
    checks = [
        Check(
            name=f"the old key {rotation.old} is inactive",
            ok=status != "Active",
            expected="Inactive",
            seen=status,
        )
    ]
    is_refused = rotation.old_is_refused()
    if is_refused is not None:
        checks.append(
            Check(
                name=f"AWS refuses the old key {rotation.old}",
                ok=is_refused,
                expected="refused",
                seen="refused" if is_refused else "taken",
            )
        )
    return checks


def _one_active(seen: Seen, new: str) -> Check:
    active = [key.id for key in seen.keys if key.status == "Active"]
    return Check(
        name="only the new key is active",
        ok=active == [new],
        expected=new,
        seen=", ".join(active) or "none",
    )


def _consumer_changed_over(rotation: Rotation, credential: AwsKeyCredential, new: str) -> Check:
    uses = rotation.consumer_uses(new)
    return Check(
        name=f"the consumer of {credential.name} uses the new key",
        ok=uses,
        expected=new,
        seen=new if uses else "another key, one that AWS refuses, or no answer",
    )
