"""Controls at a gateway, and the containments that hold them there."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator, model_validator

from bot.model.base import Frozen, Utc
from bot.model.endpoint import shape_of

ANY_METHOD = "*"
"""In place of a method: the whole route."""


class ControlKind(StrEnum):
    """The ladder, least disruptive first."""

    SHADOW = "shadow"
    THROTTLE = "throttle"
    BLOCK = "block"
    ALLOW_ONLY = "allow_only"
    CLOSE = "close"


class PrincipalKind(StrEnum):
    """By what a gateway knows a caller."""

    IP = "ip"
    API_KEY = "api_key"
    CLAIM = "claim"


class GatewayTrouble(StrEnum):
    """What is told of a gateway by a record ``gateway_drifted``, under ``what``."""

    SILENT = "silent"
    """It gives no answer."""
    ELSEWHERE = "elsewhere"
    """It has something else than it was brought to."""
    REPLACED = "replaced"
    """An edit by another hand was replaced."""
    STUCK = "stuck"
    """It could not be brought to what is wanted."""
    BARRED = "barred"
    """It is not set up any more for something that is in force."""


class Principal(Frozen):
    """
    A caller, as a gateway can know it.

    ``value`` is an address or network in CIDR notation (IP); the *name* under which the gateway
    knows a key that it has checked (API_KEY), never the key; or the value of a claim of a token
    whose signature the gateway has verified (CLAIM). ``claim`` names the claim: ``sub`` mostly.
    """

    kind: PrincipalKind
    value: str = Field(min_length=1, max_length=512)
    claim: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:/-]{1,128}$")

    @model_validator(mode="before")
    @classmethod
    def _subject_by_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("kind") == PrincipalKind.CLAIM:
            return {**data, "claim": data.get("claim") or "sub"}
        return data

    @model_validator(mode="after")
    def _is_consistent(self) -> Principal:
        if (self.claim is None) == (self.kind is PrincipalKind.CLAIM):
            raise ValueError("`claim` goes with kind claim, and with no other")
        if not self.value.isprintable():
            raise ValueError("a principal is printable text")
        if self.kind is PrincipalKind.IP and self.value != _network(self.value):
            # Frozen forbids setting it; there is one spelling of each network.
            object.__setattr__(self, "value", _network(self.value))
        return self

    def __str__(self) -> str:
        match self.kind:
            case PrincipalKind.IP:
                return self.value
            case PrincipalKind.API_KEY:
                return f"API key {self.value}"
            case PrincipalKind.CLAIM if self.claim == "sub":
                return self.value
            case _:
                return f"{self.claim}={self.value}"


_MAPPED_BITS = 96
"""Of ``::ffff:203.0.113.7``, before the IPv4 address (RFC 4291, 2.5.5.2)."""


def _network(text: str) -> str:
    wrong = ValueError(f"{text!r} is no IP address or network (203.0.113.7, 10.0.0.0/8)")
    if "%" in text:
        # A zone (RFC 4007) is a name on one machine, and may be any text: it would go into
        # configurations of gateways as it is.
        raise wrong
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise wrong from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        # Gateways know such a caller by the IPv4 address: a block of this would be of nobody.
        network = ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS), strict=False)
    return str(network)


def subject(value: str) -> Principal:
    """Return whose tokens have this ``sub``."""
    return Principal(kind=PrincipalKind.CLAIM, value=value, claim="sub")


class Control(Frozen):
    """
    What a gateway does with requests to one endpoint.

    ``method`` may be `ANY_METHOD`. ``rate_per_s`` goes with THROTTLE: requests a second let
    through, over all callers, per gateway node. ``principals`` are whom BLOCK refuses, and whom
    ALLOW_ONLY lets through alone. SHADOW changes nothing: it counts what ``would`` (a BLOCK, an
    ALLOW_ONLY or a CLOSE) would refuse.
    """

    kind: ControlKind
    method: str
    path: str
    rate_per_s: float | None = Field(default=None, gt=0)
    principals: tuple[Principal, ...] = ()
    would: ControlKind | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_version_01(cls, data: Any) -> Any:
        """Version 0.1 had one kind of block, of one subject."""
        if not isinstance(data, dict) or "principal" not in data:
            return data
        rest = {key: value for key, value in data.items() if key != "principal"}
        if rest.get("kind") == "block_principal":
            rest["kind"] = ControlKind.BLOCK
        if data["principal"] is not None:
            rest["principals"] = [subject(str(data["principal"]))]
        return rest

    @field_validator("principals")
    @classmethod
    def _in_one_order(cls, value: tuple[Principal, ...]) -> tuple[Principal, ...]:
        """A set, so that equal controls are equal."""
        return tuple(sorted(set(value), key=lambda p: (p.kind, p.claim or "", p.value)))

    @property
    def endpoint(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def place(self) -> str:
        """What it is on, for people: the endpoint, or ``every method of /api/orders``."""
        return f"every method of {self.path}" if self.method == ANY_METHOD else self.endpoint

    def concerns(self, endpoint: str) -> bool:
        """Tell whether it holds for an endpoint, given by its key. HEAD goes with GET, and names of
        parameters make no difference."""
        method, _, path = endpoint.partition(" ")
        return shape_of(path) == shape_of(self.path) and (
            ANY_METHOD in (method, self.method)
            or method == self.method
            or (method, self.method) == ("HEAD", "GET")
        )


class Containment(Frozen):
    """
    A control in force at a gateway, with an owner, a reason and an expiry.

    ``id`` is made from the run and the step that asked for it, so asking twice holds once.
    It is in force from ``since`` until the earlier of ``lifted_at`` and ``expires_at``.
    """

    id: str
    incident_id: str
    run_id: str
    step_id: str
    gateway: str
    control: Control
    owner: str
    reason: str
    since: Utc
    expires_at: Utc
    lifted_at: Utc | None = None
    lifted_by: str | None = None
    handed_over_by: str | None = None
    """Who made the owner the owner; None while that is whoever asked for it."""
