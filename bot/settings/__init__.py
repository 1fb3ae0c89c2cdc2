"""firedoor.yaml: the only reader of the environment and of the settings file.

Paths in the file are relative to the file. A secret is never written in it: ``{file: path}`` or
``{env: NAME}`` says where it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from bot.errors import Problem, SettingsInvalid
from bot.service.groups import actor_of
from bot.settings.gateways import GatewaySettings
from bot.settings.parts import Part, SecretSource, absolute

DEFAULT_FILE = "firedoor.yaml"
FILE_VARIABLE = "FIREDOOR_CONFIG"

ROOT = Path(__file__).resolve().parents[2]
"""Where ``templates/`` and ``runbooks/`` lie."""


class StoreSettings(Part):
    """A PostgreSQL database in place of the file in the state folder."""

    url: str
    """``postgresql://user@host:port/database``, without a password."""
    password: SecretSource | None = None

    @field_validator("url")
    @classmethod
    def _is_postgres(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "postgresql" or not parts.path.strip("/"):
            raise ValueError("it is postgresql://user@host:port/database")
        if parts.password or "password=" in parts.query:
            raise ValueError("the password stands under `password`, as {file: path} or {env: NAME}")
        return value


class Http(Part):
    """Where ``firedoor serve`` listens."""

    host: str = "127.0.0.1"
    port: int = Field(default=8300, ge=0, le=65535)


class Webhook(Part):
    """The bearer token that a source must present."""

    token: SecretSource


class Slack(Part):
    bot_token: SecretSource
    app_token: SecretSource
    api_url: str = "https://slack.com/api/"
    incidents_channel: str = "#incidents"
    """Where every new incident is announced, with the channel it is worked on in."""


class Email(Part):
    host: str
    port: int = Field(default=587, ge=1, le=65535)
    sender: str
    username: str | None = None
    password: SecretSource | None = None
    tls: Literal["none", "starttls", "tls"] = "starttls"


class Stakeholder(Part):
    """An audience, told when the affected data is of one of these classifications."""

    name: str
    data: tuple[str, ...]
    channels: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()


class LogSettings(Part):
    kind: Literal["envoy_json"]
    files: tuple[str, ...]

    @field_validator("files")
    @classmethod
    def _paths(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(absolute(item, info) for item in value)


class VaultSettings(Part):
    """HashiCorp Vault or OpenBao, with a KV v2 mount."""

    url: str
    token: SecretSource
    kv_mount: str = "secret"


class AwsSettings(Part):
    region: str
    endpoint_url: str | None = None
    access_key_id: SecretSource
    secret_access_key: SecretSource


class AwsKeySettings(Part):
    """An IAM user's access key that lives in a vault."""

    kind: Literal["aws_iam_key"]
    user: str
    aws: str
    vault: str
    path: str
    consumer_url: str | None = None


def _is_address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError("it is an IP address, such as 203.0.113.10") from None
    return value


Address = Annotated[str, AfterValidator(_is_address)]


class ProbeUser(Part):
    username: str
    password: SecretSource


class ProbeSettings(Part):
    """Two test customers: one owns the inventory's example object, the other does not."""

    gateway: str
    upstream_url: str
    login_path: str
    owner: ProbeUser
    stranger: ProbeUser
    vantage_points: dict[str, VantagePointSettings] = {}
    seen_as: Address | None = None
    repeats: int = Field(default=3, ge=1, le=20)

    @field_validator("vantage_points")
    @classmethod
    def _names(cls, value: dict[str, VantagePointSettings]) -> dict[str, VantagePointSettings]:
        taken = sorted(value.keys() & {"gateway", "upstream"})
        if taken:
            raise ValueError(f"{taken[0]} is a place of its own already; give it another name")
        return value


class VantagePointSettings(Part):
    """Another place to look from (``source``), or another node to look at (``connect_to``)."""

    connect_to: str | None = None
    """``host:port``; requests still name the public host."""
    source: Address | None = None
    seen_as: Address | None = None

    @field_validator("connect_to")
    @classmethod
    def _has_port(cls, value: str | None) -> str | None:
        if value is not None:
            host, _, port = value.rpartition(":")
            if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
                raise ValueError("it is host:port")
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        if self.connect_to is None:
            return None
        host, _, port = self.connect_to.rpartition(":")
        return host.strip("[]"), int(port)


class GuardRailSettings(Part):
    """What no containment may do, whatever a runbook says; see ``bot/service/guards.py``."""

    protected: tuple[str, ...] = ()
    max_share: float | None = Field(default=None, ge=0, le=1)
    max_per_hour_by_alerts: int | None = Field(default=None, ge=0)


class Settings(Part):
    """The whole file. See ``deploy/README.md`` for what each part is for."""

    state_dir: str = Field(default="state", validate_default=True)
    store: StoreSettings | None = None
    http: Http = Http()
    webhooks: dict[Literal["alertmanager"], Webhook] = {}
    api_tokens: dict[str, SecretSource] = {}
    guard_rails: GuardRailSettings = GuardRailSettings()
    slack: Slack | None = None
    email: Email | None = None
    groups: dict[str, tuple[str, ...]] = {}
    people: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    stakeholders: tuple[Stakeholder, ...] = ()
    gateways: dict[str, GatewaySettings] = {}
    logs: dict[str, LogSettings] = {}
    vaults: dict[str, VaultSettings] = {}
    aws: dict[str, AwsSettings] = {}
    credentials: dict[str, AwsKeySettings] = {}
    probes: dict[str, ProbeSettings] = {}
    inventory: tuple[str, ...] = ()
    runbooks: tuple[str, ...] = (str(ROOT / "runbooks"),)

    _paths = field_validator("state_dir")(absolute)

    @field_validator("inventory", "runbooks")
    @classmethod
    def _lists(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(absolute(item, info) for item in value)

    @field_validator("api_tokens")
    @classmethod
    def _tokens(
        cls, value: dict[str, SecretSource], info: ValidationInfo
    ) -> dict[str, SecretSource]:
        hooks: Mapping[str, Webhook] = info.data.get("webhooks", {})
        whose = {hook.token.reveal(): f"webhooks.{name}" for name, hook in hooks.items()}
        for who, token in value.items():
            other = whose.setdefault(token.reveal(), who)
            if other != who:
                raise ValueError(f"{other} and {who} have the same token; each needs its own")
        return value

    @field_validator("people")
    @classmethod
    def _people(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        names: dict[str, str] = {}
        for name, ids in value.items():
            for each in ids:
                other = names.setdefault(actor_of(each), name)
                if other != name:
                    raise ValueError(f"{each} is {other} and {name}; an id is of one person")
        return value

    @property
    def state(self) -> Path:
        return Path(self.state_dir)

    def secrets(self) -> list[str]:
        """Return every secret value, for the redactor only."""
        found: list[str] = []

        def collect(value: Any) -> None:
            if isinstance(value, SecretSource):
                found.append(value.reveal())
            elif isinstance(value, BaseModel):
                for name in type(value).model_fields:
                    collect(getattr(value, name))
            elif isinstance(value, dict):
                for item in value.values():
                    collect(item)
            elif isinstance(value, list | tuple):
                for item in value:
                    collect(item)

        collect(self)
        return found


def default_file() -> Path:
    """Return the file of ``$FIREDOOR_CONFIG``, or ``firedoor.yaml`` here."""
    return Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))  # noqa: TID251  # the one place


def load_settings(file: Path) -> Settings:
    """
    Read and check a settings file.

    Raises:
        SettingsInvalid: With every problem of the file, each with line and column.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        message = f"the file cannot be read ({error.strerror}); name another with --config"
        raise SettingsInvalid(str(file), [Problem(1, 1, "", message)]) from None
    except UnicodeDecodeError:
        message = "the file is not UTF-8; save it as UTF-8"
        raise SettingsInvalid(str(file), [Problem(1, 1, "", message)]) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = getattr(error, "problem", None) or "this is not YAML"
        raise SettingsInvalid(str(file), [Problem(line, column, "", what)]) from None
    problems = [_problem(node, path, message) for path, message in _dangling(data)]
    try:
        settings = Settings.model_validate(data, context={"base": file.resolve().parent})
    except ValidationError as error:
        problems += [_problem(node, _place(item["loc"]), item["msg"]) for item in error.errors()]
        raise SettingsInvalid(str(file), problems) from None
    if problems:
        raise SettingsInvalid(str(file), problems)
    return settings


def _place(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where a problem stands in the file: the kind of a gateway is no key there."""
    if path[:1] == ("gateways",) and len(path) > 3:
        return (*path[:2], *path[3:])
    return path


_POINTS = {
    "credentials": {"aws": "aws", "vault": "vaults"},
    "probes": {"gateway": "gateways"},
    "gateways": {"aws": "aws"},
}
"""Which keys of a part name an entry of another part."""


def _dangling(data: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find names that point at nothing, in settings whose shape is not checked yet."""
    for part, keys in _POINTS.items():
        for name, entry in _mapping(_mapping(data).get(part)).items():
            for key, there in keys.items():
                wanted, known = _mapping(entry).get(key), _mapping(_mapping(data).get(there))
                if isinstance(wanted, str) and wanted not in known:
                    listed = ", ".join(sorted(map(str, known))) or "none"
                    message = f"{wanted!r} is not under `{there}` (there: {listed})"
                    yield (part, str(name), key), message


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _problem(node: yaml.Node | None, path: Sequence[int | str], message: str) -> Problem:
    """Point at the deepest part of ``path`` that stands in the file."""
    line, column = 1, 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, column = pair[0].start_mark.line + 1, pair[0].start_mark.column + 1
            node = pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line, column = node.start_mark.line + 1, node.start_mark.column + 1
    where = ".".join(str(part) for part in path)
    return Problem(line, column, where, message.removeprefix("Value error, "))
