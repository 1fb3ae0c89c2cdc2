"""firedoor.yaml: checked as a whole, relative to itself, and without a secret in it."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest

from bot.errors import SettingsInvalid
from bot.settings import ROOT, Settings, default_file, load_settings

CANARY = "s3cr3t-canary-0815"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a secret in a file."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text(f"{CANARY}\n")
    return tmp_path


def load(folder: Path, text: str) -> Settings:
    file = folder / "firedoor.yaml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return load_settings(file)


def problems(folder: Path, text: str) -> list[tuple[int, int, str]]:
    """Return line, column and place of everything that is wrong."""
    with pytest.raises(SettingsInvalid) as caught:
        load(folder, text)
    return [(each.line, each.column, each.where) for each in caught.value.problems]


def message(folder: Path, text: str) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load(folder, text)
    return str(caught.value)


class TestPeople:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("people: {sam: [U0SAM], kim: [cli:kim, slack:U0SAM]}", "an id is of one person"),
            ("people: {sam: []}", "at least 1"),
        ],
    )
    def test_an_id_is_of_one_person_and_a_person_has_one(self, folder, text, says):
        """
        Else it could not be told who has agreed.
        """
        assert says in message(folder, text)


class TestTokens:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            (
                "api_tokens: {U0SAM: {file: secrets/token}, U0IRIS: {env: TOKEN}}",
                "U0SAM and U0IRIS",
            ),
            (
                """\
                api_tokens: {U0SAM: {file: secrets/token}}
                webhooks: {alertmanager: {token: {env: TOKEN}}}
                """,
                "webhooks.alertmanager and U0SAM",
            ),
        ],
        ids=["of-two-people", "of-a-webhook"],
    )
    def test_a_token_stands_for_one(self, folder, monkeypatch, text, names):
        """
        Else it could not be told who was heard; the message does not show it.
        """
        monkeypatch.setenv("TOKEN", CANARY)

        shown = message(folder, text)

        assert f"{names} have the same token" in shown
        assert CANARY not in shown
        assert problems(folder, text) == [(1, 1, "api_tokens")]

    def test_different_ones_are_fine_and_so_is_none(self, folder, monkeypatch):
        """
        Nobody needs one.
        """
        monkeypatch.setenv("TOKEN", "another")
        text = "api_tokens: {U0SAM: {file: secrets/token}, 'cli:kim': {env: TOKEN}}"

        tokens = load(folder, text).api_tokens

        assert {who: token.reveal() for who, token in tokens.items()} == {
            "U0SAM": CANARY,
            "cli:kim": "another",
        }
        assert load(folder, "api_tokens: {}").api_tokens == load(folder, "{}").api_tokens == {}


class TestVantagePoints:
    PROBE = """\
        gateways:
          edge: {{kind: caddy, admin_url: "http://127.0.0.1:2019", server: s, public_url: "http://e"}}
        probes:
          orders:
            gateway: edge
            upstream_url: http://orders
            login_path: /login
            owner: {{username: o, password: {{file: secrets/token}}}}
            stranger: {{username: s, password: {{file: secrets/token}}}}
            {more}
        """

    @pytest.mark.parametrize(
        ("connect_to", "address"),
        [
            ("10.0.0.12:443", ("10.0.0.12", 443)),
            ("edge-2.internal:8080", ("edge-2.internal", 8080)),
            ("[2001:db8::2]:443", ("2001:db8::2", 443)),
        ],
    )
    def test_a_node_is_a_host_and_a_port(self, folder, connect_to, address):
        """
        Also one of IP version 6.
        """
        more = f"vantage_points: {{b: {{connect_to: '{connect_to}', source: 192.0.2.7}}}}"

        point = load(folder, self.PROBE.format(more=more)).probes["orders"].vantage_points["b"]

        assert (point.address, point.source, point.seen_as) == (address, "192.0.2.7", None)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ("seen_as: our-office", "it is an IP address"),
            ("seen_as: 10.0.0.0/8", "it is an IP address"),
            ("vantage_points: {b: {source: eth0}}", "it is an IP address"),
            ("vantage_points: {b: {seen_as: '1.2.3'}}", "it is an IP address"),
            ("vantage_points: {b: {connect_to: edge-2}}", "it is host:port"),
            ("vantage_points: {b: {connect_to: 'edge-2:https'}}", "it is host:port"),
            ("vantage_points: {b: {connect_to: 'edge-2:²'}}", "it is host:port"),
            ("vantage_points: {b: {connect_to: 'edge-2:70000'}}", "it is host:port"),
            ("vantage_points: {b: {connect_to: ':443'}}", "it is host:port"),
            ("vantage_points: {gateway: {source: 192.0.2.7}}", "give it another name"),
            ("vantage_points: {upstream: {source: 192.0.2.7}}", "give it another name"),
        ],
    )
    def test_what_cannot_be_looked_from_is_said_at_the_start(self, folder, more, says):
        """
        Not in the middle of a proof.
        """
        assert says in message(folder, self.PROBE.format(more=more))


class TestPaths:
    def test_they_are_relative_to_the_file(self, folder, monkeypatch, tmp_path_factory):
        """
        Where the command is started is irrelevant.
        """
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

        settings = load(
            folder,
            """
            state_dir: data/state
            inventory: [openapi.yaml, /etc/api.yaml]
            runbooks: [books]
            logs: {edge: {kind: envoy_json, files: ["log/*.log"]}}
            gateways:
              edge:
                kind: envoy
                base_routes: base.json
                rds_file: rds/edge.json
                admin_url: http://127.0.0.1:9901
                public_url: http://127.0.0.1:8080
            """,
        )

        assert settings.state == folder / "data" / "state"
        assert settings.inventory == (str(folder / "openapi.yaml"), "/etc/api.yaml")
        assert settings.runbooks == (str(folder / "books"),)
        assert settings.logs["edge"].files == (str(folder / "log" / "*.log"),)
        assert settings.gateways["edge"].base_routes == str(folder / "base.json")
        assert settings.gateways["edge"].rds_file == str(folder / "rds" / "edge.json")

    def test_so_is_the_default_of_the_state(self, folder, monkeypatch, tmp_path_factory):
        """
        A default is relative to the file like what is written in it: one state, wherever started.
        """
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

        assert load(folder, "http: {port: 0}").state == folder / "state"

    def test_the_default_runbooks_are_those_that_come_with_firedoor(self, folder):
        """
        Without settings, the shipped runbooks are there.
        """
        assert load(folder, "{}").runbooks == (str(ROOT / "runbooks"),)

    @pytest.mark.parametrize(
        ("value", "file"),
        [(None, "firedoor.yaml"), ("/etc/firedoor/my.yaml", "/etc/firedoor/my.yaml")],
    )
    def test_the_file_is_named_by_the_environment(self, monkeypatch, value, file):
        """
        ``FIREDOOR_CONFIG`` names the file; else it is firedoor.yaml here.
        """
        monkeypatch.delenv("FIREDOOR_CONFIG", raising=False)
        if value:
            monkeypatch.setenv("FIREDOOR_CONFIG", value)

        assert default_file() == Path(file)


class TestProblems:
    def test_all_are_reported_at_once_each_with_its_place(self, folder):
        """
        One round trip, not one per mistake.
        """
        text = """\
            http: {port: 80000}
            webhooks:
              pagerduty: {token: {file: secrets/token}}
            stakeholders:
              - {name: legal, data: [personal]}
              - {name: security}
            vaults:
              main: {url: http://127.0.0.1:8200, token: {file: secrets/none}}
            credentials:
              orders: {kind: aws_iam_key, user: u, aws: mian, vault: main, path: p}
            surprise: 1
        """

        assert problems(folder, text) == [
            (1, 8, "http.port"),
            (3, 3, "webhooks.pagerduty.[key]"),
            (6, 5, "stakeholders.1.data"),
            (8, 38, "vaults.main.token"),
            (10, 40, "credentials.orders.aws"),
            (11, 1, "surprise"),
        ]

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            pytest.param("http: {port: 1\ngroups: {", (2, 7), id="unclosed"),
            pytest.param("a: 1\n  b: 2", (2, 4), id="wrong-indent"),
            pytest.param("http: *missing", (1, 7), id="unknown-alias"),
            pytest.param("http: @x", (1, 7), id="reserved-sign"),
        ],
    )
    def test_what_is_no_yaml_says_where(self, folder, text, place):
        """
        A slip in the writing is found at its place.
        """
        assert problems(folder, text) == [(*place, "")]

    @pytest.mark.parametrize("text", ["", "- a\n- b", "just words"])
    def test_what_is_no_mapping_is_refused(self, folder, text):
        """
        An empty file is more likely a mistake than a wish.
        """
        assert problems(folder, text) == [(1, 1, "")]

    def test_a_file_that_is_not_there_is_said(self, tmp_path):
        """
        With what to do about it.
        """
        with pytest.raises(SettingsInvalid, match=r"cannot be read.*--config"):
            load_settings(tmp_path / "none.yaml")

    def test_a_file_in_another_encoding_is_said(self, tmp_path):
        """
        Not a traceback.
        """
        file = tmp_path / "firedoor.yaml"
        file.write_bytes("groups: {Zoë: [U1]}".encode("latin-1"))

        with pytest.raises(SettingsInvalid, match="UTF-8"):
            load_settings(file)

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            pytest.param(
                "credentials: {c: {kind: aws_iam_key, user: u, aws: a, vault: v, path: p}}",
                ["credentials.c.aws", "credentials.c.vault"],
                id="no-account-and-no-vault",
            ),
            pytest.param(
                "probes: {p: {gateway: west, upstream_url: u, login_path: /l, "
                "owner: {username: a, password: {file: secrets/token}}, "
                "stranger: {username: b, password: {file: secrets/token}}}}",
                ["probes.p.gateway"],
                id="no-gateway",
            ),
        ],
    )
    def test_a_name_that_points_at_nothing_is_refused(self, folder, text, where):
        """
        Found when the file is read, not when a credential is to be rotated at night.
        """
        assert [each[2] for each in problems(folder, text)] == where

    def test_the_command_refuses_with_exit_code_2(self, folder):
        """
        Bad input: nothing was started.
        """
        with pytest.raises(SettingsInvalid, match="nothing was started") as caught:
            load(folder, "surprise: 1")

        assert caught.value.exit_code == 2


class TestSecrets:
    text = """
        webhooks: {alertmanager: {token: {file: secrets/token}}}
        slack:
          bot_token: {env: BOT_TOKEN}
          app_token: {file: secrets/token}
    """

    def test_they_are_read_from_files_and_the_environment(self, folder, monkeypatch):
        """
        Without the line's end that editors add.
        """
        monkeypatch.setenv("BOT_TOKEN", "xoxb-canary")

        settings = load(folder, self.text)

        assert settings.webhooks["alertmanager"].token.reveal() == CANARY
        assert settings.slack.bot_token.reveal() == "xoxb-canary"

    def test_all_of_them_are_known_to_the_redactor(self, folder, monkeypatch):
        """
        Whatever part of the file they stand in.
        """
        monkeypatch.setenv("BOT_TOKEN", "xoxb-canary")

        assert sorted(load(folder, self.text).secrets()) == sorted([CANARY, CANARY, "xoxb-canary"])

    @pytest.mark.parametrize("show", [repr, str, Settings.model_dump, Settings.model_dump_json])
    def test_no_way_of_showing_the_settings_shows_one(self, folder, monkeypatch, show):
        """
        A settings object in a log line or a traceback is harmless.
        """
        monkeypatch.setenv("BOT_TOKEN", "xoxb-canary")

        shown = str(show(load(folder, self.text)))

        assert "canary" not in shown
        assert "secrets/token" in shown

    @pytest.mark.parametrize(
        "inline",
        [
            pytest.param(CANARY, id="plain"),
            pytest.param(f"{{value: {CANARY}}}", id="as-a-value"),
            pytest.param(f"{{file: secrets/token, value: {CANARY}}}", id="beside-a-file"),
            pytest.param(f"[{CANARY}]", id="in-a-list"),
            pytest.param(f"{{env: BOT_TOKEN, file: {CANARY}}}", id="two-ways"),
        ],
    )
    def test_one_that_is_written_in_the_file_is_refused_and_not_repeated(self, folder, inline):
        """
        A secret in the file is a mistake, and the error does not spread it.
        """
        shown = message(folder, f"webhooks: {{alertmanager: {{token: {inline}}}}}")

        assert "{file: path} or {env: NAME}" in shown
        assert CANARY not in shown

    def test_another_mistake_does_not_show_the_good_ones(self, folder, monkeypatch):
        """
        An error about one part holds nothing of the others.
        """
        monkeypatch.setenv("BOT_TOKEN", "xoxb-canary")

        assert "canary" not in message(folder, textwrap.dedent(self.text) + "surprise: 1")

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            pytest.param("{env: NOT_SET}", "NOT_SET holds no secret", id="variable-not-set"),
            pytest.param("{file: secrets/empty}", "holds no secret", id="empty-file"),
            pytest.param("{file: secrets/none}", "No such file", id="no-file"),
            pytest.param("{file: secrets}", "directory", id="a-folder"),
            pytest.param("{file: secrets/binary}", "not UTF-8", id="no-text"),
            pytest.param("{env: BINARY}", "not UTF-8", id="variable-without-text"),
        ],
    )
    def test_a_source_without_a_secret_is_said(self, folder, monkeypatch, source, expected):
        """
        Nothing starts with an empty password.
        """
        monkeypatch.delenv("NOT_SET", raising=False)
        monkeypatch.setenv("BINARY", os.fsdecode(b"\xff\xfe"))
        (folder / "secrets" / "empty").write_text("\n")
        (folder / "secrets" / "binary").write_bytes(b"\xff\xfe")

        assert expected in message(folder, f"webhooks: {{alertmanager: {{token: {source}}}}}")


class TestStore:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            pytest.param("postgresql://me:pw@db/firedoor", "password stands under", id="password"),
            pytest.param("postgresql://db/f?password=pw", "password stands under", id="in-query"),
            pytest.param("mysql://db/firedoor", "it is postgresql://", id="another-database"),
            pytest.param("postgresql://db", "it is postgresql://", id="no-name"),
        ],
    )
    def test_an_address_that_cannot_be_used_is_said(self, folder, url, expected):
        """
        No secret stands in the file, and nothing is guessed.
        """
        assert expected in message(folder, f"store: {{url: '{url}'}}")


class TestExample:
    def test_the_shipped_example_is_complete_and_good(self, tmp_path):
        """
        The example has every key of the settings, and is read without a problem.
        """
        text = (ROOT / "deploy" / "firedoor.example.yaml").read_text(encoding="utf-8")
        for name in re.findall(r"file: secrets/([a-z-]+)", text):
            file = tmp_path / "secrets" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"the secret {name}")

        settings = load(tmp_path, text)

        assert settings.model_fields_set == set(Settings.model_fields)
