"""firedoor.yaml of the company."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml

from bot.sandbox import acme, files


@pytest.fixture
def places(tmp_path) -> acme.Places:
    return acme.Places(
        directory=tmp_path,
        runbooks=tmp_path / "books",
        ports={name: 21_000 + number for number, name in enumerate(acme.PORTS)},
        base_routes=tmp_path / "gateway" / "base-routes.json",
        rds_file=tmp_path / "gateway" / "rds" / "edge.json",
        access_log=tmp_path / "gateway" / "access.log",
    )


def strings_in(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []


class TestSettings:
    def test_they_hold_no_secret(self, places, tmp_path):
        """
        Secrets are named by their files only.
        """
        acme.write_fresh_tokens(tmp_path / "secrets")
        secrets = {path.read_text() for path in (tmp_path / "secrets").iterdir()}
        text = yaml.safe_dump(acme.settings_of(places))

        assert len(secrets) >= 4
        assert not [secret for secret in secrets if secret in text]

    def test_paths_are_relative_to_the_file(self, places):
        """
        The directory can be named or mounted anywhere; only the runbooks are the caller's.
        """
        settings = acme.settings_of(places)
        settings.pop("runbooks")

        assert not [text for text in strings_in(settings) if text.startswith(str(places.directory))]
        assert settings["logs"]["edge-access"]["files"] == ["gateway/access*.log"]

    def test_groups_name_people_of_the_workspace(self):
        """
        Whoever may approve exists in the Slack workspace.
        """
        people = {person["id"] for person in acme.PEOPLE}

        assert {member for group in acme.GROUPS.values() for member in group} <= people

    def test_security_approvals_can_be_two_persons(self):
        """
        A runbook may ask security for two approvals.
        """
        assert len(acme.GROUPS["security"]) >= 2


class TestOverrides:
    def test_one_address_is_replaced_and_the_rest_stays(self, places):
        """
        Mappings are merged key by key.
        """
        settings = acme.settings_of(places)
        before = copy.deepcopy(settings)
        changed = acme.overridden(settings, {"vaults": {"main": {"url": "http://127.0.0.1:1"}}})

        assert changed["vaults"]["main"]["url"] == "http://127.0.0.1:1"
        assert before == settings
        changed["vaults"]["main"]["url"] = before["vaults"]["main"]["url"]
        assert before == changed

    def test_a_function_may_do_anything(self, places):
        """
        What a function returns is written as it is.
        """
        assert acme.overridden(
            acme.settings_of(places), lambda settings: {"only": next(iter({"slack"} & {*settings}))}
        ) == {"only": "slack"}

    def test_lists_are_replaced(self, places):
        """
        A list is a value: it is not added to.
        """
        changed = acme.overridden(acme.settings_of(places), {"runbooks": ["a", "b"]})

        assert changed["runbooks"] == ["a", "b"]


class TestSecretFiles:
    def test_they_are_the_owners_only_and_replaced_at_once(self, tmp_path):
        """
        Mode 0600 whatever was there before, and no half-written text beside it.
        """
        path = tmp_path / "token"
        path.write_text("old")
        path.chmod(0o644)
        files.write_secret(path, "new\n")

        assert (path.stat().st_mode & 0o777, files.read_secret(path)) == (0o600, "new")
        assert [path] == list(tmp_path.iterdir())

    def test_people_are_written_for_the_slack_stand_in(self, tmp_path):
        """
        A JSON list of objects with id, name, display and role.
        """
        acme.write_people(tmp_path / "people.json")
        people = json.loads(Path(tmp_path / "people.json").read_text())

        assert all({"id", "name", "display", "role"} == person.keys() for person in people)
        assert len(people) == len({person["id"] for person in people}) > 3
