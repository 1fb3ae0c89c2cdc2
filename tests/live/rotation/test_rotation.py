"""What a rotation does on real servers, what it refuses, and what it never lets out."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from actions.credentials.aws import KeyPair, KeyRefused
from actions.credentials.credential import SECRET_FIELD
from bot.errors import (
    Ambiguous,
    ProviderRefused,
    ProviderUnreachable,
    Refused,
    TimedOut,
    UndoConflict,
    VerificationFailed,
)
from bot.sandbox.aws import ORDERS_USER
from tests.live.rotation.conftest import free_port, limited_vault

pytestmark = pytest.mark.live

MODES = ["routine", "compromise"]


class Overlay:
    """An object with some of its methods replaced."""

    def __init__(self, target: Any, **methods: Any) -> None:
        self._target, self._methods = target, methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._target, name)


@pytest.mark.parametrize("mode", MODES)
class TestRotation:
    def test_leaves_one_live_key_delivered_and_the_old_one_inactive(self, world, mode):
        """The new key works, the old one does not, and everything else in the secret stays."""
        plan = world.plan(mode)
        old_pair = KeyPair(world.old, world.secret_of(world.old))

        outcome = world.apply(plan)
        proof = world.verify(plan)

        new = world.delivered()
        assert outcome.facts == {
            "credential": "orders-service",
            "old": world.old,
            "new": new,
            "vault_version": 2,
        }
        assert world.statuses() == {world.old: "Inactive", new: "Active"}
        assert world.vault.read(world.credential.path).data["team"] == "orders"
        assert proof.ok
        assert [check.name for check in proof.checks] == [
            f"{world.credential.place} delivers the new key",
            "AWS takes the delivered key",
            f"the old key {world.old} is inactive",
            f"AWS refuses the old key {world.old}",
            "only the new key is active",
            "the consumer of orders-service uses the new key",
        ]
        with pytest.raises(KeyRefused):
            world.iam.identity(old_pair)

    def test_the_plan_shows_before_and_after(self, world, mode):
        """Approvals bind to identifiers, statuses and versions."""
        plan = world.plan(mode)

        assert plan.before["vault"]["delivers"] == world.old
        assert plan.before["vault"]["version"] == 1
        assert [(key["id"], key["status"]) for key in plan.after["keys"]] == [
            (world.old, "Inactive"),
            ("(new)", "Active"),
        ]
        assert plan.after["vault"] | {"path": ""} == {
            "name": "main",
            "path": "",
            "version": 2,
            "delivers": "(new)",
        }
        assert world.old in plan.summary
        assert world.plan(mode).digest == plan.digest

    def test_applying_again_changes_nothing(self, world, mode):
        """The driver may call twice for one result."""
        plan = world.plan(mode)
        first = world.apply(plan)
        before = world.statuses()

        assert world.apply(plan).facts == first.facts
        assert world.statuses() == before
        assert len(world.notes.notes) == 3

    def test_undo_restores_key_and_content(self, world, mode):
        """The old key works again and is delivered; the new one does not and is not."""
        plan = world.plan(mode)
        before = world.vault.read(world.credential.path).data
        new = world.apply(plan).facts["new"]
        new_pair = KeyPair(new, world.secret_of(new))

        outcome = world.undo(plan)

        assert world.statuses() == {world.old: "Active", new: "Inactive"}
        after = world.vault.read(world.credential.path)
        assert (after.version, after.data) == (3, before)
        assert outcome.facts["vault_version"] == 3
        with pytest.raises(KeyRefused):
            world.iam.identity(new_pair)

    def test_undo_of_what_was_never_applied_does_nothing(self, world, mode):
        """A step may fail before its first change."""
        plan = world.plan(mode)

        world.undo(plan)

        assert world.statuses() == {world.old: "Active"}
        assert world.vault.read(world.credential.path).version == 1

    def test_no_secret_leaves(self, world, mode, caplog):
        """Canaries: the secrets of both keys and the token are in nothing that is kept or said."""
        caplog.set_level(logging.DEBUG)
        logging.getLogger("botocore").setLevel(logging.NOTSET)
        # A fresh connection, as after a start of the server.
        iam = replace(world.iam)
        plan = world.plan(mode)
        outcome = world.apply(plan, world.through(iam=iam))
        proof = world.verify(plan)
        undone = world.undo(plan)

        said = "\n".join(
            [
                plan.model_dump_json(),
                outcome.model_dump_json(),
                proof.model_dump_json(),
                undone.model_dump_json(),
                json.dumps(world.notes.notes),
                repr(world.credential),
                repr(world.vault.read(world.credential.path)),
                caplog.text,
            ]
        )
        for secret in canaries(world):
            assert secret not in said
        assert "HTTP" in caplog.text


class TestOrder:
    def test_routine_keeps_the_old_key_until_the_consumer_changed_over(self, world):
        """A consumer that does not change over keeps working; the step waits for it."""
        plan = world.plan("routine")
        world.consumer.stuck_with = world.old

        with pytest.raises(TimedOut, match="stays active"):
            world.apply(plan)
        assert world.statuses()[world.old] == "Active"

        world.consumer.stuck_with = None
        world.apply(plan)
        assert world.statuses() == {world.old: "Inactive", world.delivered(): "Active"}

    def test_compromise_takes_the_old_key_out_first(self, world):
        """Even if no new key can be made, the thief's key is dead."""
        plan = world.plan("compromise")

        def create_key(user: str) -> KeyPair:
            assert world.statuses() == {world.old: "Inactive"}
            raise ProviderRefused("no")

        with pytest.raises(ProviderRefused):
            world.apply(plan, world.through(iam=Overlay(world.iam, create_key=create_key)))

    def test_verify_fails_if_the_consumer_uses_another_key(self, world):
        """A compromise rotation does not wait for the consumer, but its proof needs it."""
        plan = world.plan("compromise")
        world.apply(plan)
        world.consumer.stuck_with = world.old

        proof = world.verify(plan)

        assert [check.ok for check in proof.checks] == [True] * 5 + [False]

    def test_verify_fails_if_someone_reactivates_the_old_key(self, world):
        """The proof looks at AWS, not at what we remember."""
        plan = world.plan()
        world.apply(plan)
        world.iam.set_status(ORDERS_USER, world.old, "Active")

        failed = {check.name for check in world.verify(plan).checks if not check.ok}

        assert failed == {
            f"the old key {world.old} is inactive",
            f"AWS refuses the old key {world.old}",
            "only the new key is active",
        }

    def test_a_new_key_that_aws_does_not_take_stops_a_routine_rotation(self, world):
        """The old key stays active."""
        plan = world.plan()

        def identity(key: KeyPair) -> str:
            raise KeyRefused("not yet")

        with pytest.raises(VerificationFailed, match="is still active"):
            world.apply(plan, world.through(iam=Overlay(world.iam, identity=identity)))
        assert world.statuses()[world.old] == "Active"

    def test_waits_until_aws_knows_the_new_key(self, world):
        """IAM is eventually consistent: a new key is refused for a moment."""
        refusals = iter([True, True, False])

        def identity(key: KeyPair) -> str:
            if next(refusals, False):
                raise KeyRefused("not yet")
            return str(world.iam.identity(key))

        plan = world.plan()
        world.apply(plan, world.through(iam=Overlay(world.iam, identity=identity)))

        assert world.verify(plan).ok


class TestRefusals:
    @pytest.mark.parametrize("status", ["Active", "Inactive"])
    def test_a_second_key_is_refused_with_what_to_do(self, world, status):
        """AWS has two places; we never delete what this step did not make."""
        other = world.iam.create_key(ORDERS_USER).id
        world.iam.set_status(ORDERS_USER, other, status)

        with pytest.raises(Refused) as refusal:
            world.plan()

        command = f"aws iam delete-access-key --user-name orders-service --access-key-id {other}"
        assert command in str(refusal.value)
        assert ("deactivate it" in str(refusal.value)) is (status == "Active")
        assert len(world.statuses()) == 2

    def test_a_secret_without_a_key_is_refused(self, world):
        """There is nothing to rotate."""
        world.vault.write(world.credential.path, {"team": "orders"}, cas=1)

        with pytest.raises(Refused, match="delivers no access key"):
            world.plan()

    def test_a_foreign_key_is_refused(self, world):
        """If Vault delivers a key of nobody knows whom, which one is exposed is not clear."""
        data = {"access_key_id": "AKIAFOREIGN", "secret_access_key": "x"}
        world.vault.write(world.credential.path, data, cas=1)

        with pytest.raises(Refused, match="AKIAFOREIGN"):
            world.plan()

    def test_a_rotation_by_someone_else_is_ambiguous(self, world):
        """Half-way through, a foreign delivery is for a person to judge."""
        plan = world.plan()
        world.consumer.stuck_with = world.old
        with pytest.raises(TimedOut):
            world.apply(plan)
        data = {"access_key_id": "AKIAFOREIGN", "secret_access_key": "x"}
        world.vault.write(world.credential.path, data, cas=2)

        with pytest.raises(Ambiguous, match="AKIAFOREIGN"):
            world.apply(plan)


class TestLostSecrets:
    """A key was made, and the process died before it was delivered."""

    @pytest.fixture
    def orphaned(self, world):
        def create_key(user: str) -> KeyPair:
            world.orphan = world.iam.create_key(user)
            raise ProviderUnreachable("the answer was lost")

        plan = world.plan()
        with pytest.raises(ProviderUnreachable):
            world.apply(plan, world.through(iam=Overlay(world.iam, create_key=create_key)))
        assert len(world.statuses()) == 2
        return world, plan

    def test_an_unused_orphan_is_deleted(self, orphaned):
        """Nobody has its secret, and it takes a place."""
        world, plan = orphaned

        world.apply(plan)

        assert world.orphan.id not in world.statuses()
        assert world.verify(plan).ok

    def test_a_used_orphan_is_ambiguous(self, orphaned):
        """Ours has no user, so a used one may be someone else's."""
        world, plan = orphaned
        used = world.iam.list_keys(ORDERS_USER)[0].created_at

        with pytest.raises(Ambiguous, match="was used"):
            world.apply(plan, world.through(iam=Overlay(world.iam, last_used=lambda _: used)))
        assert world.orphan.id in world.statuses()

    def test_a_key_made_at_another_time_is_ambiguous(self, orphaned):
        """What came into being when we made nothing was made by someone else."""
        world, plan = orphaned

        def list_keys(user: str) -> Any:
            return tuple(
                replace(key, created_at=key.created_at + timedelta(hours=1))
                if key.id == world.orphan.id
                else key
                for key in world.iam.list_keys(user)
            )

        with pytest.raises(Ambiguous, match="CloudTrail"):
            world.apply(plan, world.through(iam=Overlay(world.iam, list_keys=list_keys)))
        assert world.orphan.id in world.statuses()

    def test_a_key_that_someone_else_made_is_never_deleted(self, world):
        """Without a note of ours, no key is ours."""
        plan = world.plan()
        stranger = world.iam.create_key(ORDERS_USER).id
        world.notes.write({"intent": "deactivate", "key": world.old})

        with pytest.raises(Ambiguous, match=stranger):
            world.apply(plan)
        assert stranger in world.statuses()

    def test_a_key_that_aws_does_not_list_yet_is_waited_for(self, orphaned):
        """IAM's list lags: the place is taken, but by whom is not to be seen."""
        world, plan = orphaned

        def list_keys(user: str) -> Any:
            return tuple(key for key in world.iam.list_keys(user) if key.id == world.old)

        with pytest.raises(ProviderUnreachable, match="does not list both yet"):
            world.apply(plan, world.through(iam=Overlay(world.iam, list_keys=list_keys)))
        world.apply(plan)
        assert world.verify(plan).ok


class TestDelivery:
    @pytest.mark.parametrize("arrives", [True, False])
    def test_a_write_without_an_answer_is_read_back(self, world, arrives):
        """Whether it arrived or not, one key is made and one version written."""
        lost = iter([True])

        def write(path: str, data: Any, cas: int) -> int:
            if next(lost, False):
                if arrives:
                    world.vault.write(path, data, cas)
                raise ProviderUnreachable("the answer was lost")
            return int(world.vault.write(path, data, cas))

        plan = world.plan()
        facts = world.apply(plan, world.through(vault=Overlay(world.vault, write=write))).facts

        assert facts["vault_version"] == 2
        assert world.verify(plan).ok

    def test_a_change_of_another_field_is_kept(self, world):
        """Someone edits the secret between our look and our write: check-and-set tells us."""
        edits = iter([True])

        def write(path: str, data: Any, cas: int) -> int:
            if next(edits, False):
                current = world.vault.read(path)
                world.vault.write(path, {**current.data, "team": "new"}, current.version)
            return int(world.vault.write(path, data, cas))

        plan = world.plan()
        world.apply(plan, world.through(vault=Overlay(world.vault, write=write)))

        assert world.vault.read(world.credential.path).data["team"] == "new"
        assert world.verify(plan).ok

    def test_a_late_write_of_an_orphan_is_overwritten(self, world):
        """A write of a dead attempt may arrive after its key was deleted."""
        plan = world.plan()
        late: list[Any] = []

        def write(path: str, data: Any, cas: int) -> int:
            late.append((path, data, cas))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            world.apply(plan, world.through(vault=Overlay(world.vault, write=write)))

        def write_after_the_late_one(path: str, data: Any, cas: int) -> int:
            if late:
                world.vault.write(*late.pop())
            return int(world.vault.write(path, data, cas))

        world.apply(plan, world.through(vault=Overlay(world.vault, write=write_after_the_late_one)))

        assert world.vault.read(world.credential.path).version == 3
        assert world.verify(plan).ok

    def test_a_sealed_vault_loses_nothing(self, world, bao_to_seal):
        """Sealed between making and delivering: after unsealing, the next attempt goes on."""
        vault = limited_vault(bao_to_seal)
        old = world.secret_of(world.old)
        vault.write("x", {"access_key_id": world.old, SECRET_FIELD: old}, cas=0)
        world.credential = replace(world.credential, vault=vault, path="x", consumer_url=None)
        plan = world.plan()

        def create_key(user: str) -> KeyPair:
            made = world.iam.create_key(user)
            bao_to_seal.call("PUT", "sys/seal")
            return made

        with pytest.raises(ProviderUnreachable, match="sealed"):
            world.apply(plan, world.through(iam=Overlay(world.iam, create_key=create_key)))
        assert len(world.statuses()) == 2


class TestUndoConflicts:
    def test_a_later_rotation_is_not_taken_back(self, world):
        """Someone else delivered another key since."""
        plan = world.plan()
        world.apply(plan)
        before = world.statuses()
        data = {"access_key_id": "AKIAFOREIGN", "secret_access_key": "x"}
        world.vault.write(world.credential.path, data, cas=2)

        with pytest.raises(UndoConflict, match="AKIAFOREIGN"):
            world.undo(plan)
        assert world.statuses() == before

    def test_a_deleted_old_key_cannot_come_back(self, world):
        """Deletion is final."""
        plan = world.plan()
        world.apply(plan)
        world.iam.delete_key(ORDERS_USER, world.old)

        with pytest.raises(UndoConflict, match="deleted"):
            world.undo(plan)
        assert world.delivered() != world.old

    def test_a_changed_field_is_not_overwritten(self, world):
        """Restoring the old version would lose someone's change; only names are shown."""
        plan = world.plan()
        world.apply(plan)
        before = world.statuses()
        current = world.vault.read(world.credential.path)
        world.vault.write(world.credential.path, {**current.data, "team": "s3cr3t"}, cas=2)

        with pytest.raises(UndoConflict, match="team") as conflict:
            world.undo(plan)
        assert "s3cr3t" not in str(conflict.value)
        assert world.statuses() == before

    def test_undo_keeps_the_new_key_until_the_consumer_changed_back(self, world):
        """Taking back must not break the consumer either."""
        plan = world.plan()
        new = world.apply(plan).facts["new"]
        world.consumer.stuck_with = new

        with pytest.raises(TimedOut, match="stays active"):
            world.undo(plan)
        assert world.statuses() == {world.old: "Active", new: "Active"}

        world.consumer.stuck_with = None
        world.undo(plan)
        assert world.statuses() == {world.old: "Active", new: "Inactive"}


class TestConnections:
    def test_checks_say_what_was_found(self, world):
        """`firedoor doctor` shows the right server, account and secret."""
        assert ":user/firedoor, region us-east-1" in world.iam.check()
        assert "unsealed, token valid for " in world.vault.check()
        said = world.credential.check()
        assert f"version 1 delivers {world.old} of orders-service" in said
        assert "the consumer uses it" in said

    def test_a_credential_that_could_not_be_rotated_fails_its_check(self, world):
        """Better found on a quiet day."""
        world.iam.create_key(ORDERS_USER)

        with pytest.raises(Refused, match="second access key"):
            world.credential.check()

    def test_a_root_token_may_write(self, world, bao):
        """With a token that may ask, the check says more."""
        vault = replace(world.vault, token=bao.root_token)

        assert "not checked" in world.credential.check()
        assert "not checked" not in replace(world.credential, vault=vault).check()
        assert "without end" in vault.check()

    def test_a_token_that_may_only_read_fails_the_check(self, world, bao):
        """The policy is tried before the incident."""
        policy = f"""
            path "secret/data/{world.credential.path}" {{ capabilities = ["read"] }}
            path "sys/capabilities-self" {{ capabilities = ["update"] }}
        """
        bao.call("PUT", "sys/policies/acl/reader", json={"policy": policy})
        made = bao.call("POST", "auth/token/create", json={"policies": ["reader"]})
        vault = replace(world.vault, token=made["auth"]["client_token"])

        with pytest.raises(Refused, match="may not write"):
            replace(world.credential, vault=vault).check()

    def test_servers_that_are_down_are_unreachable(self, world):
        """A retry makes sense, and the message says where."""
        url = f"http://127.0.0.1:{free_port()}"

        for call in (
            replace(world.vault, url=url).check,
            replace(world.iam, endpoint_url=url).check,
            replace(world.credential, consumer_url=url).check,
        ):
            with pytest.raises(ProviderUnreachable, match=r"firedoor\.yaml"):
                call()

    def test_a_sealed_vault_is_unreachable(self, bao_to_seal):
        """Sealed is not refused: unsealing mends it."""
        vault = limited_vault(bao_to_seal)
        bao_to_seal.call("PUT", "sys/seal")

        for call in (vault.check, lambda: vault.read("x")):
            with pytest.raises(ProviderUnreachable, match="sealed"):
                call()

    def test_bad_credentials_are_refused(self, world):
        """A retry is useless, and neither secret is in the error or its chain."""
        canary = "canary-0123456789"

        for call in (
            replace(world.vault, token=canary).check,
            lambda: replace(world.vault, token=canary).write("x", {"a": canary}, cas=0),
            replace(world.iam, secret_access_key=canary, access_key_id="AKIAX").check,
            lambda: replace(world.iam, access_key_id="AKIAX").create_key(ORDERS_USER),
        ):
            with pytest.raises(ProviderRefused) as refusal:
                call()
            error: BaseException = refusal.value
            assert error.__cause__ is error.__context__ is None
            assert canary not in "".join(traceback.format_exception(error))

    def test_what_is_not_permitted_is_refused(self, world):
        """Firedoor's own user may rotate this one user and nothing else."""
        with pytest.raises(ProviderRefused, match="AccessDenied"):
            world.iam.list_keys("firedoor")

    def test_a_full_user_is_told_apart(self, world):
        """AWS allows two keys."""
        world.iam.create_key(ORDERS_USER)

        with pytest.raises(ProviderRefused, match="two access keys"):
            world.iam.create_key(ORDERS_USER)

    def test_the_environment_does_not_decide(self, world, monkeypatch, tmp_path):
        """Profiles, configuration files and endpoints of the shell are not ours."""
        (tmp_path / "config").write_text("[default]\nregion = nowhere\n[profile x]\n")
        monkeypatch.setenv("AWS_PROFILE", "there-is-none")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("VAULT_TOKEN", "x")

        assert "firedoor" in replace(world.iam).check()
        assert "unsealed" in world.vault.check()


def canaries(world: Any) -> list[str]:
    """Every secret of this world, in the forms in which it could leak."""
    secrets = [world.vault.token, world.iam.secret_access_key]
    secrets += [world.secret_of(key_id) for key_id in world.statuses()]
    forms = []
    for secret in secrets:
        forms += [
            secret,
            quote(secret, safe=""),
            json.dumps(secret)[1:-1],
            base64.b64encode(secret.encode()).decode().rstrip("="),
        ]
    return forms
