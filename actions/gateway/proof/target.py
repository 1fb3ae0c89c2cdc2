"""What to send to an endpoint without doing harm, should it be open."""

from __future__ import annotations

from dataclasses import dataclass, field

from actions.gateway.variants import SAFE_METHODS
from actions.probe import Answer, Prober, Via, Who
from bot.model.answers import MARK_HEADER
from bot.model.endpoint import Endpoint

MADE_UP = "firedoor-probe"
"""Stands for a path parameter when no real object may be touched."""


@dataclass(frozen=True)
class Target:
    """For a method that changes data: an object that does not exist and a body that is not JSON."""

    endpoint: Endpoint
    path: str
    is_real: bool
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def method(self) -> str:
        return self.endpoint.method

    @property
    def is_safe(self) -> bool:
        """Whether its method only reads."""
        return self.method in SAFE_METHODS

    @property
    def is_harmless(self) -> bool:
        """A DELETE without a path parameter would hit something real, and looks at no body."""
        return self.is_safe or self.body is not None or "{" in self.endpoint.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def target_of(endpoint: Endpoint) -> Target:
    if endpoint.method in SAFE_METHODS and endpoint.example_path is not None:
        return Target(endpoint, endpoint.example_path, is_real=True)
    path = "/".join(
        MADE_UP if part.startswith("{") else part.replace("{", "").replace("}", "")
        for part in endpoint.path.split("/")
    )
    if endpoint.method in SAFE_METHODS:
        return Target(endpoint, path, is_real=False)
    headers = {"Content-Type": "application/json"}
    body = MADE_UP.encode() if endpoint.method != "DELETE" else None
    return Target(endpoint, path, is_real=False, headers=headers, body=body)


def send(target: Target, prober: Prober, who: Who = "owner", via: Via = "gateway") -> Answer:
    return prober.request(
        target.method, target.path, who, via, headers=target.headers, body=target.body
    )


def said(answer: Answer) -> str:
    """Return the status, and whose answer it is if that shows."""
    mark = answer.headers.get(MARK_HEADER)
    return f"{answer.status} ({mark} by the gateway)" if mark else str(answer.status)
