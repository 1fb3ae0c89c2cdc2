"""A stage's method settings, and what Firedoor notes of them in stage variables. Pure.

Firedoor changes two settings of a method, its rate and its burst. What they were stands in a stage
variable that is written in the same call, so that they can be put back by whoever comes next. The
variable ``firedoor`` has the version, and a check over all that is Firedoor's.

A method without settings of its own has the stage's (``*/*``). To limit it, it must get its own,
which then stand for all of the stage's: so those are copied.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.model.base import digest_of

Patch = dict[str, str]

VERSION = "firedoor"
UNFINISHED = "unfinished"
"""In place of the check while a change of several calls is under way."""

_METHOD_NOTE = "firedoor_method_"
_KEY_NOTE = "firedoor_key_"

DEFAULT = "*/*"
"""Key of the settings of all methods that have none of their own."""

_RATE, _BURST = "throttlingRateLimit", "throttlingBurstLimit"

_PATHS = {
    "metricsEnabled": "metrics/enabled",
    "loggingLevel": "logging/loglevel",
    "dataTraceEnabled": "logging/dataTrace",
    _RATE: "throttling/rateLimit",
    _BURST: "throttling/burstLimit",
    "cachingEnabled": "caching/enabled",
    "cacheTtlInSeconds": "caching/ttlInSeconds",
    "cacheDataEncrypted": "caching/dataEncrypted",
    "requireAuthorizationForCacheControl": "caching/requireAuthorizationForCacheControl",
    "unauthorizedCacheControlHeaderStrategy": "caching/unauthorizedCacheControlHeaderStrategy",
}
"""How settings are called when they are read, and when they are written.
https://docs.aws.amazon.com/apigateway/latest/api/patch-operations.html"""

# What API Gateway has where nothing is said: the default quota of an account.
_UNLIMITED = (10_000.0, 5_000)


@dataclass(frozen=True)
class Limit:
    """Requests a second, and how many may come at once."""

    rate: float
    burst: int

    @classmethod
    def of(cls, rate_per_s: float) -> Limit:
        return cls(round(rate_per_s, 6), max(1, math.ceil(rate_per_s)))

    def __str__(self) -> str:
        return f"{_number(self.rate)}:{self.burst}"


def read_limit(text: str) -> Limit | None:
    """Read what `Limit` was written as; None if it was none."""
    found = re.fullmatch(r"([\d.]+):(\d+)", text)
    return Limit(float(found[1]), int(found[2])) if found else None


class Stage:
    """What API Gateway says of a stage.

    Args:
        answer: Of ``GetStage``. Its keys are ``~1path~1{id}/GET``.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        settings: Mapping[str, Mapping[str, Any]] = answer.get("methodSettings") or {}
        self.settings = {_plain(key): dict(value) for key, value in settings.items()}
        self.variables: dict[str, str] = dict(answer.get("variables") or {})

    @property
    def version(self) -> str:
        return self.variables.get(VERSION, "").partition(".")[0]

    @property
    def written_check(self) -> str:
        return self.variables.get(VERSION, "").partition(".")[2]

    @property
    def is_unfinished(self) -> bool:
        return self.written_check == UNFINISHED

    @property
    def has_notes(self) -> bool:
        return any(name.startswith((_METHOD_NOTE, _KEY_NOTE)) for name in self.variables)

    @property
    def noted_keys(self) -> dict[str, bool]:
        """Ids of the API keys that Firedoor holds disabled, and whether they were enabled."""
        return {
            name.removeprefix(_KEY_NOTE): value == "enabled"
            for name, value in self.variables.items()
            if name.startswith(_KEY_NOTE)
        }

    def limit(self, key: str) -> Limit | None:
        """Return the limit of a method's own settings; None if it has none of its own."""
        own = self.settings.get(key)
        return _limit_in(own) if own is not None else None

    def check(self, enabled: Mapping[str, bool | None]) -> str:
        """Return a digest over all that is Firedoor's.

        Args:
            enabled: Whether each of the noted API keys is enabled.
        """
        notes = {n: v for n, v in self.variables.items() if n != VERSION and n.startswith(VERSION)}
        limits = {
            key: str(self.limit(key)) for key in self.settings if _note_of(key) in self.variables
        }
        return digest_of([notes, limits, dict(enabled)])[:8]

    def own_part(self) -> dict[str, Any]:
        """Return what is Firedoor's, to be kept when it was edited."""
        notes = {n: v for n, v in self.variables.items() if n.startswith(VERSION)}
        settings = {k: v for k, v in self.settings.items() if _note_of(k) in self.variables}
        return {"variables": notes, "methodSettings": settings}

    # --- changes ---------------------------------------------------------------------------------

    def limited(self, wanted: Mapping[str, Limit]) -> list[list[Patch]]:
        """Return the operations that bring all methods to these limits, a group for each method;
        the operations of a group must go together. A limit that is lower already stays."""
        groups = []
        for key, limit in sorted(wanted.items()):
            own, note = self.limit(key), _note_of(key)
            before = self.variables.get(note, str(own) if own else "none")
            ceiling = read_limit(before) or self._default_limit()
            goal = Limit(min(limit.rate, ceiling.rate), min(limit.burst, ceiling.burst))
            operations = [] if own == goal else [*self._copied(key), *_set(key, goal)]
            if note not in self.variables:
                operations.append(_replace(f"/variables/{note}", before))
            groups.append(operations)
        keep = {_note_of(key) for key in wanted}
        noted = {_note_of(key): key for key in self.settings}
        for note in sorted(self.variables):
            if note.startswith(_METHOD_NOTE) and note not in keep:
                back = self._put_back(noted[note], self.variables[note]) if note in noted else []
                groups.append([*back, {"op": "remove", "path": f"/variables/{note}"}])
        return [group for group in groups if group]

    def _copied(self, key: str) -> list[Patch]:
        """Return operations that give a method the stage's settings, if it has none of its own."""
        if key in self.settings:
            return []
        return [
            _replace(f"{_path(key)}/{_PATHS[name]}", _text(value))
            for name, value in sorted(self.settings.get(DEFAULT, {}).items())
            if name in _PATHS and name not in (_RATE, _BURST)
        ]

    def _put_back(self, key: str, before: str) -> list[Patch]:
        """Return operations that put a method's limit back. If it had no settings of its own it
        has none again, unless another hand has since given it some that are not the stage's."""
        limit = read_limit(before)
        if limit is not None:
            return _set(key, limit)
        if _rest(self.settings[key]) == _rest(self.settings.get(DEFAULT, {})):
            return [{"op": "remove", "path": _path(key)}]
        return _set(key, self._default_limit())

    def _default_limit(self) -> Limit:
        return _limit_in(self.settings.get(DEFAULT, {}))


_DEFAULTS: Mapping[str, Any] = {
    "metricsEnabled": False,
    "loggingLevel": "OFF",
    "dataTraceEnabled": False,
    "cachingEnabled": False,
    "cacheTtlInSeconds": 300,
    "cacheDataEncrypted": False,
    "requireAuthorizationForCacheControl": True,
    "unauthorizedCacheControlHeaderStrategy": "SUCCEED_WITH_RESPONSE_HEADER",
}
"""What a method's new settings are where nothing is said."""


def method_key(path: str, method: str) -> str:
    """Return the key of a method's settings, as this module has it: ``/path/{id}/GET``."""
    return f"{path}/{method}" if path != "/" else f"/{method}"


def noted(key_id: str, *, was_enabled: bool) -> Patch:
    """Return the operation that notes how an API key was before Firedoor disabled it."""
    return _replace(f"/variables/{_KEY_NOTE}{key_id}", "enabled" if was_enabled else "disabled")


def forgotten(key_id: str) -> Patch:
    return {"op": "remove", "path": f"/variables/{_KEY_NOTE}{key_id}"}


def marked(version: str, check: str) -> Patch:
    return _replace(f"/variables/{VERSION}", f"{version}.{check}")


def unmarked() -> Patch:
    return {"op": "remove", "path": f"/variables/{VERSION}"}


def applied(stage: Stage, groups: Iterable[Iterable[Patch]]) -> Stage:
    """Return the stage as it is once operations are done: those that this module makes."""
    after = Stage({})
    after.settings = {key: dict(value) for key, value in stage.settings.items()}
    after.variables = dict(stage.variables)
    names = {path: name for name, path in _PATHS.items()}
    for each in (operation for group in groups for operation in group):
        _, first, rest = each["path"].split("/", 2)
        if first == "variables":
            if each["op"] == "remove":
                after.variables.pop(rest, None)
            else:
                after.variables[rest] = each["value"]
            continue
        method, _, setting = rest.partition("/")
        key = method_key(first.replace("~1", "/"), method)
        if each["op"] == "remove":
            after.settings.pop(key, None)
        else:
            after.settings.setdefault(key, dict(_DEFAULTS))[names[setting]] = each["value"]
    return after


def _note_of(key: str) -> str:
    return f"{_METHOD_NOTE}{digest_of(key)[:12]}"


def _plain(key: str) -> str:
    """Return a key as this module has it: AWS writes slashes as ``~1``."""
    if key == DEFAULT:
        return key
    return "/" + key.replace("~1", "/").lstrip("/")


def _path(key: str) -> str:
    resource, _, method = key.rpartition("/")
    return f"/{(resource or '/').replace('/', '~1')}/{method}"


def _set(key: str, limit: Limit) -> list[Patch]:
    return [
        _replace(f"{_path(key)}/{_PATHS[_RATE]}", _number(limit.rate)),
        _replace(f"{_path(key)}/{_PATHS[_BURST]}", str(limit.burst)),
    ]


def _replace(path: str, value: str) -> Patch:
    return {"op": "replace", "path": path, "value": value}


def _limit_in(settings: Mapping[str, Any]) -> Limit:
    rate, burst = settings.get(_RATE), settings.get(_BURST)
    return Limit(
        _UNLIMITED[0] if rate is None else float(rate),
        _UNLIMITED[1] if burst is None else int(burst),
    )


def _rest(settings: Mapping[str, Any]) -> dict[str, Any]:
    whole = {**_DEFAULTS, **settings}
    return {name: _text(value) for name, value in whole.items() if name not in (_RATE, _BURST)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: float) -> str:
    """Return a number as text of digits and a point only: a stage variable takes no plus sign."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
