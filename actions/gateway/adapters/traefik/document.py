"""The file that Traefik reads: how it is written, and how it is read again. Pure.

It is JSON, which is YAML too. One middleware that nothing uses has the version in its name, so
that Traefik itself reports which file it took.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actions.gateway.adapters.traefik.operators import OWN, provider_of, qualified
from bot.model.base import digest_of

MARKER = f"{OWN}version-"

_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that JSON may hold as they are, and a quoted text of YAML may not."""

_KINDS = ("routers", "middlewares", "services")


@dataclass(frozen=True)
class Document:
    """``http`` is all of it but the marker; ``text`` the file's content."""

    version: str
    http: Mapping[str, Any]
    text: bytes

    def faults(self, rawdata: Mapping[str, Any]) -> list[str]:
        """Return what in Traefik's report of itself is not as this says, for people to read."""
        found = []
        for kind in _KINDS:
            seen = {name: item for name, item in (rawdata.get(kind) or {}).items() if _is_own(name)}
            wanted = {f"{name}@file": item for name, item in (self.http.get(kind) or {}).items()}
            found += [f"{name} is of another file" for name in sorted(seen.keys() - wanted.keys())]
            for name, item in wanted.items():
                found += _faults(name, item, seen.get(name))
        return found


def document(http: Mapping[str, Any], rules: Sequence[str]) -> Document:
    """
    Return the file for a configuration.

    Args:
        rules: What it does, in words; people see them beside the version.
    """
    said = "; ".join(rules) or "nothing is held"
    version = digest_of({"http": http, "rules": said})[:12]
    marker = {"headers": {"customRequestHeaders": {"X-Firedoor-Rules": said}}}
    middlewares = {**(http.get("middlewares") or {}), f"{MARKER}{version}": marker}
    text = _yaml({"http": {**http, "middlewares": middlewares}})
    return Document(version, http, text)


def read(content: bytes | None) -> Document | None:
    """Return what a file holds; None if it is not, to the byte, as Firedoor writes one."""
    try:
        http = json.loads(content or b"")["http"]
        (name,) = (name for name in http["middlewares"] if name.startswith(MARKER))
        marker = http["middlewares"].pop(name)
        said = marker["headers"]["customRequestHeaders"]["X-Firedoor-Rules"]
        rest = {k: v for k, v in http.items() if k != "middlewares" or v}
        found = document(rest, [said])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if found.text == content else None


def versions_in(rawdata: Mapping[str, Any]) -> list[str]:
    """Return the versions whose markers Traefik reports: one, if only Firedoor writes its file."""
    names = [n for n in rawdata.get("middlewares") or {} if n.startswith(MARKER)]
    return sorted(name.removeprefix(MARKER).partition("@")[0] for name in names)


def _faults(name: str, wanted: Mapping[str, Any], seen: Mapping[str, Any] | None) -> Iterable[str]:
    if seen is None:
        return [f"{name} is missing"]
    if seen["status"] != "enabled":
        return [f"{name}: {error}" for error in seen.get("error") or [seen["status"]]]
    different = [
        key
        for key in ("rule", "priority", "service", "parentRefs")
        if key in wanted and _whole(key, wanted[key], name) != _whole(key, seen.get(key), name)
    ]
    return [f"{name} has another {key}" for key in different]


def _whole(key: str, value: Any, beside: str) -> Any:
    match key:
        case "service":
            return qualified(str(value), beside)
        case "parentRefs":
            return sorted(qualified(str(each), beside) for each in value or ())
        case _:
            return value


def _is_own(name: str) -> bool:
    is_own = name.startswith(OWN) and provider_of(name) == "file"
    return is_own and not name.startswith(MARKER)


def _yaml(value: Any) -> bytes:
    """Return JSON that Traefik reads as YAML, after it ran it as a Go template."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    text = _NOT_IN_YAML.sub(lambda char: f"\\u{ord(char[0]):04x}", text)
    # Two braces begin an expression of the template. They are only ever within strings here.
    return (text.replace("{{", "{\\u007b") + "\n").encode()
