"""A gateway's node of a few lines: it answers as it is told, and else as the service behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

import jwt

from actions.gateway.rules import OVERRIDE_HEADERS
from bot.model.answers import ControlAnswer
from tests.gateways.upstream import Tokens, Upstream

Answer = tuple[int, Any, Mapping[str, str]]
"""Status, what the body says, and headers."""


@dataclass(frozen=True)
class Asked:
    """What a rule is asked about. ``path`` is as a careful gateway reads it; ``number`` counts the
    requests on one connection from 1."""

    method: str
    path: str
    spelled: str
    source: str
    subject: str | None
    headers: Mapping[str, str]
    number: int

    @property
    def is_order(self) -> bool:
        """Whether the service would take it for one order."""
        parts = self.path.split("/")
        return parts[:3] == ["", "api", "orders"] and len(parts) == 4 and parts[3] != "export"


Rule = Callable[[Asked], Answer | None]
"""Returns an answer of the node itself; None lets a request through."""


def of(answer: ControlAnswer) -> Answer:
    return answer.status, json.loads(answer.body), dict(answer.headers)


class Gate(Upstream):
    """``rules`` are asked in their order, for each request; ``asked`` holds what came."""

    def __init__(self, tokens: Tokens, *rules: Rule) -> None:
        self.rules: list[Rule] = list(rules)
        self.asked: list[Asked] = []
        super().__init__(0, tokens)

    def route(self, method: str, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        asked = self._asked(method, request)
        self.asked.append(asked)
        for rule in self.rules:
            answer = rule(asked)
            if answer is not None:
                return answer
        return super().route(method, request, body)

    def _asked(self, method: str, request: BaseHTTPRequestHandler) -> Asked:
        path = unquote(request.path.partition("?")[0].partition("#")[0]).replace("\\", "/").lower()
        parts: list[str] = []
        for part in (each.partition(";")[0].rstrip("\x00?") for each in path.split("/")):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        subject = None
        if token:
            subject = jwt.decode(token, options={"verify_signature": False}).get("sub")
        # Whatever the service makes of them: a gateway cannot know.
        overrides = [
            word.strip().upper()
            for name, value in request.headers.items()
            if name.lower().replace("_", "-") in OVERRIDE_HEADERS
            for word in value.split(",")
        ]
        number = sum(1 for each in self.paths_by_client if each == request.client_address) + 1
        self.paths_by_client.append(request.client_address)
        return Asked(
            method=next((o for o in overrides if o != request.command), request.command),
            path="/" + "/".join(parts),
            spelled=request.path,
            source=request.client_address[0],
            subject=subject,
            headers=dict(request.headers),
            number=number,
        )

    def reset(self) -> None:
        super().reset()
        self.paths_by_client: list[Any] = []
