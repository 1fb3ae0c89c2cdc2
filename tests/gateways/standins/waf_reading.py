"""Rules of WAFv2, read as its documentation says they are. Not WAFv2: a check of what is meant.

https://docs.aws.amazon.com/waf/latest/developerguide/waf-rule-statements.html
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Request:
    """``path`` as it was sent; header names in lower case."""

    path: str
    method: str = "GET"
    address: str = "192.0.2.1"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Reading:
    """What comes of a request: the mark of the answer, if it is blocked; the names of rules that
    counted it, and of rate-based rules that would count it towards their limits."""

    blocked: str | None = None
    counted: list[str] = field(default_factory=list)
    limited: list[str] = field(default_factory=list)


def read(
    rules: Sequence[Mapping[str, Any]], sets: Mapping[str, Sequence[str]], request: Request
) -> Reading:
    """Read rules in the order of their priorities until one of them blocks."""
    reading, labels = Reading(), set[str]()
    for rule in sorted(rules, key=lambda each: int(each["Priority"])):
        statement = rule["Statement"]
        rate = statement.get("RateBasedStatement")
        if rate is not None:
            if _matches(rate["ScopeDownStatement"], sets, request, labels):
                reading.limited.append(rule["Name"])
            continue
        if not _matches(statement, sets, request, labels):
            continue
        labels |= {label["Name"] for label in rule.get("RuleLabels", [])}
        if "Block" in rule["Action"]:
            reading.blocked = rule["Action"]["Block"]["CustomResponse"]["CustomResponseBodyKey"]
            return reading
        reading.counted.append(rule["Name"])
    return reading


def _matches(
    statement: Mapping[str, Any],
    sets: Mapping[str, Sequence[str]],
    request: Request,
    labels: set[str],
) -> bool:
    ((kind, body),) = statement.items()

    def of(inner: Mapping[str, Any]) -> bool:
        return _matches(inner, sets, request, labels)

    match kind:
        case "AndStatement":
            return all(map(of, body["Statements"]))
        case "OrStatement":
            return any(map(of, body["Statements"]))
        case "NotStatement":
            return not of(body["Statement"])
        case "LabelMatchStatement":
            return body["Key"] in labels
        case "IPSetReferenceStatement":
            address = ipaddress.ip_address(request.address)
            networks = map(ipaddress.ip_network, sets[body["ARN"]])
            return any(address in network for network in networks)
        case "RegexMatchStatement":
            text = _field(body["FieldToMatch"], request)
            ordered = sorted(body["TextTransformations"], key=lambda each: int(each["Priority"]))
            for each in ordered:
                text = None if text is None else _transformed(text, each["Type"])
            return text is not None and re.search(body["RegexString"], text) is not None
    raise AssertionError(kind)


def _field(where: Mapping[str, Any], request: Request) -> str | None:
    if "UriPath" in where:
        return request.path.partition("?")[0]
    if "Method" in where:
        return request.method
    return request.headers.get(where["SingleHeader"]["Name"])


def _transformed(text: str, kind: str) -> str:
    match kind:
        case "NONE":
            return text
        case "LOWERCASE":
            return text.lower()
        case "URL_DECODE":
            return unquote(text, errors="surrogateescape")
        case "NORMALIZE_PATH":
            return _normalised(text)
        case "NORMALIZE_PATH_WIN":
            return _normalised(text.replace("\\", "/"))
    raise AssertionError(kind)


def _normalised(path: str) -> str:
    """Take out repeated slashes, and references to the folder itself and the one above."""
    kept: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == ".." and kept:
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    trailing = "/" if parts[-1] in ("", ".", "..") and kept else ""
    return "/" + "/".join(kept) + trailing
