"""What ``with:`` may hold under the steps of the ladder, and what they leave."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from actions.gateway.rules import MAX_RATE_PER_S
from bot.action import Facts, Params
from bot.model.containment import ControlKind, Principal, PrincipalKind

_RATE = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)/([smh])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}

MOST_ALLOWED = 64
"""Callers that one step may let through; a longer list belongs into the gateway's own rules."""


def rate_per_s(text: str) -> float:
    """Return requests a second of ``1/s``, ``30/m`` or ``100/h``. Raises ValueError."""
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) / _UNITS_S[match[2]] if match else 0.0
    if not 0 < rate <= MAX_RATE_PER_S:
        raise ValueError("a rate is a positive number a second, minute or hour: 1/s, 30/m, 100/h")
    return rate


class Caller(Params):
    """
    One caller: ``{ip: 203.0.113.0/24}``, ``{api_key: partner-7}`` (a key's name at the gateway,
    never the key), ``{subject: c-1001}`` (a verified token's ``sub``), or
    ``{claim: tenant, value: acme}`` (another claim of a verified token).
    """

    ip: str | None = None
    api_key: str | None = None
    subject: str | None = None
    claim: str | None = None
    value: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Caller:
        given = [each for each in (self.ip, self.api_key, self.subject, self.claim) if each]
        if len(given) != 1 or (self.claim is None) != (self.value is None):
            raise ValueError(
                "a caller is one of {ip: …}, {api_key: …}, {subject: …}, {claim: …, value: …}"
            )
        self.principal()
        return self

    def principal(self) -> Principal:
        if self.ip is not None:
            return Principal(kind=PrincipalKind.IP, value=self.ip)
        if self.api_key is not None:
            return Principal(kind=PrincipalKind.API_KEY, value=self.api_key)
        if self.subject is not None:
            return Principal(kind=PrincipalKind.CLAIM, value=self.subject, claim="sub")
        return Principal(kind=PrincipalKind.CLAIM, value=self.value or "", claim=self.claim)


class HoldParams(Params):
    """
    What ``with:`` may hold under each of them.

    ``endpoint``: its key in the inventory, ``GET /api/orders/{order_id}``.
    ``scope``: ``method`` for this method only, ``route`` for every method on the path.
    ``gateway``: needed if several are configured.
    ``probe``: what to look from outside with; needed if several are configured.
    """

    endpoint: str
    scope: Literal["method", "route"] = "method"
    gateway: str | None = None
    probe: str | None = None


class ThrottleParams(HoldParams):
    """``rate``: requests let through over all callers: ``1/s``, ``30/m``, ``100/h``."""

    rate: Annotated[str, Field(examples=["1/s", "30/m"])]

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: str) -> str:
        rate_per_s(value)
        return value


class BlockParams(HoldParams):
    """``principal``: whom to refuse."""

    principal: Annotated[Caller, Field(examples=[{"subject": "c-1001"}, {"ip": "203.0.113.7"}])]


class BlockPrincipalParams(HoldParams):
    """``principal``: the ``sub`` claim of the verified tokens to refuse."""

    principal: Annotated[str, Field(min_length=1, max_length=512)]


class AllowOnlyParams(HoldParams):
    """``principals``: who is let through alone."""

    principals: Annotated[list[Caller], Field(min_length=1, max_length=MOST_ALLOWED)]


class ShadowParams(HoldParams):
    """
    ``would``: what is tried: ``close``, ``block`` or ``allow_only``.
    ``principals``: of a block whom it would refuse, of an allow_only whom it would let through.
    """

    would: Literal[ControlKind.CLOSE, ControlKind.BLOCK, ControlKind.ALLOW_ONLY] = ControlKind.CLOSE
    principals: Annotated[list[Caller], Field(max_length=MOST_ALLOWED)] = []

    @model_validator(mode="after")
    def _names_whom(self) -> ShadowParams:
        if (self.would is ControlKind.CLOSE) == bool(self.principals):
            raise ValueError("`principals` go with `would: block` and `would: allow_only`")
        return self


class HoldFacts(Facts):
    """``containment``: its id, for ``gateway.lift``. ``version``: of the gateway's routes."""

    containment: str
    gateway: str
    version: str
