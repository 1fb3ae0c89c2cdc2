"""How callers are told apart in Traefik's rules. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from actions.gateway.adapters.traefik.matchers import (
    EVERYTHING,
    any_of,
    is_address,
    networks,
    quoted,
)
from actions.gateway.rules import Rules
from bot.errors import BadInput
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

MAX_SHADOWS = 4
"""On one endpoint: each combination of them is counted by a router of its own."""


@dataclass(frozen=True)
class Settings:
    """
    What an operator says of a Traefik.

    Args:
        responder_url: Answers ``GET /answers/closed``, ``/answers/throttled`` and
            ``/answers/refused`` with the headers and bodies of ``answers``. Without a path.

        forwarded_depth: Which address of ``X-Forwarded-For`` is the caller's, from the right,
            beginning at 1. None: the connection's own.

        identity: The middleware that says who a caller is, in the headers of ``claim_headers``
            (by claim) and ``api_key_header``.

        own_paths: Paths by which Firedoor asks this Traefik.
    """

    responder_url: str
    forwarded_depth: int | None = None
    identity: str | None = None
    claim_headers: Mapping[str, str] = field(default_factory=dict)
    api_key_header: str | None = None
    own_paths: tuple[str, ...] = ()

    def header_of(self, principal: Principal) -> str | None:
        """Return the header that would hold an API key's name or a claim; None if there is none."""
        if self.identity is None:
            return None
        if principal.kind is PrincipalKind.CLAIM:
            return self.claim_headers.get(str(principal.claim))
        return self.api_key_header


@dataclass(frozen=True)
class Callers:
    """Rules for callers; ``are_known`` where the middleware that knows them has been passed."""

    settings: Settings
    are_known: bool

    def refused(self, rules: Rules) -> str | None:
        """Return the rule for whom controls refuse, and not by an address alone; None if there
        can be nobody."""
        blocked = self._one_of(p for p in rules.blocked if not is_address(p))
        outside = [self._none_of(g) for g in rules.allowed if not all(map(is_address, g))]
        refused = [*([] if blocked is None else [blocked]), *outside]
        return any_of(refused) if refused else None

    def counted(self, shadows: Sequence[Control]) -> dict[str, str]:
        """
        Return rules of which exactly one matches a request that any shadow would refuse.

        Traefik counts a request for one router only. So there is one for each combination of
        shadows, by all of their ids with dots in between.
        """
        if len(shadows) > MAX_SHADOWS:
            raise BadInput(
                f"{shadows[0].endpoint} would have {len(shadows)} shadows, and this gateway counts "
                f"at most {MAX_SHADOWS} on one endpoint; nothing was done. Lift one of the others "
                "first."
            )
        matched = {shadow_id(each): self._shadowed(each) for each in shadows}
        possible = [(name, rule) for name, rule in matched.items() if rule is not None]
        found = {}
        for chosen in itertools.product((True, False), repeat=len(possible)):
            if any(chosen):
                picked = list(zip(possible, chosen, strict=True))
                ids = ".".join(name for (name, _), is_in in picked if is_in)
                found[ids] = " && ".join(r if is_in else f"!({r})" for (_, r), is_in in picked)
        return found

    def _shadowed(self, control: Control) -> str | None:
        """Return the rule for whom a shadow would refuse."""
        match control.would:
            case ControlKind.BLOCK:
                return self._one_of(control.principals)
            case ControlKind.ALLOW_ONLY:
                return self._none_of(control.principals)
            case _:
                return EVERYTHING

    def _one_of(self, principals: Iterable[Principal]) -> str | None:
        found = [self._rule(each) for each in principals]
        rules = [rule for rule in found if rule is not None]
        return any_of(rules) if rules else None

    def _none_of(self, principals: Iterable[Principal]) -> str:
        rule = self._one_of(principals)
        return EVERYTHING if rule is None else f"!({rule})"

    def _rule(self, principal: Principal) -> str | None:
        if is_address(principal):
            if self.settings.forwarded_depth is not None:
                raise BadInput(
                    f"Callers are told by `forwarded_depth`, and no rule of Traefik's can look for "
                    f"{principal} there; nothing was done. Block it, or allow addresses alone."
                )
            return f"ClientIP({quoted(networks([principal])[0])})"
        header = self.settings.header_of(principal)
        if header is None:
            raise BadInput(
                f"This gateway is not said to know {principal}; nothing was done. Set `identity` "
                "and the header for it in firedoor.yaml."
            )
        return f"Header({quoted(header)}, {quoted(principal.value)})" if self.are_known else None


def shadow_id(control: Control) -> str:
    """Return what a shadow is called in the names of the routers that count for it."""
    return digest_of(control.model_dump(mode="json"))[:8]
