"""Cloudflare, by its Rulesets API.

Firedoor has rules of its own in a zone's phases, known by their ``ref``. It adds, changes and
deletes one rule at a time: PUT of a ruleset would replace the operator's rules with it
(https://developers.cloudflare.com/ruleset-engine/rulesets-api/update/). The version is in the
description of each. The API takes no precondition, so see `own_objects` for how other hands'
changes are found, here by the version that Cloudflare counts for each rule.

Blocking rules go to the top of their phase: a rule of the operator's above could skip them. Limits
go to the end, where Cloudflare wants them.

An entry point ruleset that is not there yet is made with the first rule, and stays when the last
one goes: deleting it could take a rule of the operator's along.

Cloudflare takes a change to all of its data centres within seconds and does not say when it is
done. Converge waits ``settle_s``, and only a look from outside proves it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from actions.gateway.adapters.cloudflare.render import (
    BLOCKING,
    LimitsBy,
    Plan,
    Rule,
    Zone,
    render,
    slowest_rate_per_s,
)
from actions.gateway.adapters.cloudflare.state import (
    CloudflareState,
    Label,
    State,
    is_as_written,
    label_of,
    reason_of,
    ref_of,
    version_of_refs,
)
from actions.gateway.adapters.http_api import HttpApi
from actions.gateway.adapters.own_objects import Step, carry_out
from actions.gateway.rules import rules_of
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict, ProviderRefused
from bot.model.containment import Control, ControlKind, PrincipalKind

API_URL = "https://api.cloudflare.com/client/v4"
SETTLE_S = 3.0

_DEFINITION = (
    "action",
    "action_parameters",
    "description",
    "enabled",
    "expression",
    "ratelimit",
    "ref",
)


class CloudflareGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Args:
        zone_id: The zone, by its identifier.

        api_token: An API token for this zone alone, with the permission "Zone WAF: Edit".

        hosts: The host names of the API. Empty: every host of the zone.

        plan: The zone's plan. Below Business there are no regular expressions in rules, and
            paths cannot be told apart.

        endpoints: Keys of all known endpoints; see ``known`` of `rules.rules_of`.

        limits_by: What a throttle counts, in each of Cloudflare's data centres: the requests of
            each ``address`` by itself, as all plans can, or those of all callers
            (``data_centre``), for which Cloudflare sells Advanced Rate Limiting. ``none``: the
            zone has no rate limiting rule to spare.

        token_configuration: Identifier of a token configuration of API Shield, by which Cloudflare
            verifies the tokens of the API. Without it nobody can be blocked or let through by a
            claim.

        settle_s: How long all data centres may need to take a change up.
    """

    def __init__(
        self,
        *,
        name: str,
        zone_id: str,
        api_token: str,
        hosts: Iterable[str] = (),
        plan: Plan = "business",
        endpoints: Iterable[str] = (),
        limits_by: LimitsBy = "address",
        token_configuration: str | None = None,
        api_url: str = API_URL,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._name = name
        self._zone = Zone(tuple(sorted(hosts)), plan, limits_by, token_configuration)
        self._known = tuple(sorted(endpoints))
        self._settle_s = settle_s
        self._zone_path = f"/zones/{quote(zone_id, safe='')}"
        self._api = HttpApi(
            gateway=name,
            what="Cloudflare's API",
            base_url=api_url,
            headers={"Authorization": f"Bearer {api_token}"},
            secrets=(api_token,),
            reason=reason_of,
        )
        self._cloudflare = CloudflareState(name, self._zone_path, self._api)
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        kinds = {principal.kind for principal in control.principals}
        slowest = slowest_rate_per_s(self._zone.plan)
        if control.kind is ControlKind.SHADOW:
            why = "Cloudflare counts what a rule would refuse by samples only"
            return Support(ok=False, why=why, nearest=self._gentlest())
        if PrincipalKind.API_KEY in kinds:
            why = "Cloudflare checks no API keys, so it cannot tell them apart"
            return Support(ok=False, why=why, nearest=self._gentlest())
        if PrincipalKind.CLAIM in kinds and self._zone.token_configuration is None:
            why = "it is not said to verify tokens (`token_configuration` in firedoor.yaml)"
            return Support(ok=False, why=why, nearest=self._gentlest())
        if control.kind is not ControlKind.THROTTLE:
            # A block of Cloudflare's answers with 400 to 499, and sets no headers.
            return Support(ok=True, own_status=403)
        if self._zone.limits_by == "none":
            why = "the zone has no rate limiting rule for it (`limits_by` in firedoor.yaml)"
            return Support(ok=False, why=why, nearest=ControlKind.BLOCK)
        if control.rate_per_s is not None and control.rate_per_s < slowest:
            why = f"the slowest rate that its plan can hold is {slowest:.2g} requests a second"
            return Support(ok=False, why=why, nearest=ControlKind.BLOCK)
        counted = "each address by itself, " if self._zone.limits_by == "address" else ""
        return Support(
            ok=True, why=f"it counts {counted}per data centre", best_effort=True, own_status=429
        )

    def version_of(self, controls: Sequence[Control]) -> str:
        return version_of_refs([ref_of(self._name, rule) for rule in self._rendered(controls)])

    def prepare(self) -> None:
        """Cloudflare needs nothing of Firedoor's to start."""

    def shadow_hits(self, control: Control) -> int:
        raise BadInput(
            f"Cloudflare counts by samples only, so there is no count for {control.kind} of "
            f"{control.endpoint}."
        )

    def observe(self) -> str:
        """Return the version of Firedoor's rules, made from their content; marked if they are not
        those of one writing (edited or unfinished), or if a rule of the operator's that comes
        before may skip them (passed over)."""
        return self._reported(self._cloudflare.look())

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        wanted = {ref_of(self._name, rule): rule for rule in self._rendered(controls)}
        version = version_of_refs(list(wanted))
        with self._writing:
            state = self._cloudflare.look()
            if self._reported(state) == version:
                return version
            carry_out(
                self._steps(wanted, version, state),
                look=lambda: self._cloudflare.look().own,
                seen=state.own,
                writing=writing,
                gateway=self._name,
            )
            if self._is_edited(state):
                self._tell(state, writing)
            time.sleep(self._settle_s)
            if (reported := self.observe()) != version:
                raise self._conflict(f"reports version {reported}, and {version} was written")
            return version

    # --- what is there ---------------------------------------------------------------------------

    def _rendered(self, controls: Sequence[Control]) -> list[Rule]:
        return render(rules_of(controls, self._known), self._zone)

    def _gentlest(self) -> ControlKind:
        return ControlKind.BLOCK if self._zone.limits_by == "none" else ControlKind.THROTTLE

    def _reported(self, state: State) -> str:
        version = version_of_refs(list(state.own))
        if not state.own:
            return version
        labels = {label_of(rule) for rule in state.own.values()}
        said = sorted(label.version for label in labels if label) or ["(none)"]
        if self._is_edited(state):
            return f"{said[0]}, edited"
        if labels != {Label(version, len(state.own))}:
            return f"{said[0]}, unfinished"
        return f"{version}, passed over" if state.passed_over else version

    def _is_edited(self, state: State) -> bool:
        """Tell whether another hand has changed a rule, or removed one of a set that was whole."""
        if not all(self._is_whole(ref, state) for ref in state.own):
            return True
        labels = {label_of(rule) for rule in state.own.values()}
        if len(labels) != 1 or None in labels:
            return None in labels
        (label,) = labels
        return label is not None and label.count > len(state.own)

    def _is_whole(self, ref: str, state: State) -> bool:
        return is_as_written(self._name, state.phase_of(ref).name, state.own[ref])

    def _tell(self, state: State, writing: Writing) -> None:
        where = ", ".join(
            f"version {phase.version} of ruleset {phase.id}"
            for phase in state.phases.values()
            if phase.id is not None
        )
        writing.displaced(
            f"Firedoor's rules at gateway {self._name} were not as it had left them, by another "
            f"hand or an interrupted writing, and were replaced; Cloudflare keeps what was there "
            f"as {where}. Make lasting changes in rules of your own."
        )

    def _conflict(self, fact: str) -> Conflict:
        return Conflict(
            f"Gateway {self._name} {fact}, so another writer came in between. It is read anew and "
            "tried again."
        )

    # --- steps -----------------------------------------------------------------------------------

    def _steps(self, wanted: Mapping[str, Rule], version: str, state: State) -> list[Step]:
        """Add first, so that what is held both before and after is held all the time."""
        label, steps = Label(version, len(wanted)), list[Step]()
        for ref, rule in wanted.items():
            definition = {**rule.body, "ref": ref, "description": label.of(rule.name)}
            if ref not in state.own:
                steps.append(self._addition(ref, rule.phase, definition))
            elif (
                label_of(state.own[ref]) != label
                or not self._is_whole(ref, state)
                or ref in state.passed_over
            ):
                steps.append(self._change(ref, rule.phase, definition, state))
        return [*steps, *(self._deletion(ref, state) for ref in state.own if ref not in wanted)]

    def _addition(self, ref: str, phase: str, definition: Mapping[str, Any]) -> Step:
        return Step(
            do=lambda: self._add(phase, definition),
            undo=lambda: self._delete(ref),
            touches=frozenset({ref}),
        )

    def _change(self, ref: str, phase: str, definition: Mapping[str, Any], state: State) -> Step:
        before = state.own[ref]
        path = self._rule_path(ref, state)
        old = {key: before[key] for key in _DEFINITION if key in before}
        moved = _position(phase) if ref in state.passed_over else {}
        return Step(
            do=lambda: self._api.write("PATCH", path, {**definition, **moved}),
            undo=lambda: self._api.write("PATCH", path, old),
            touches=frozenset({ref}),
        )

    def _deletion(self, ref: str, state: State) -> Step:
        before, phase = state.own[ref], state.phase_of(ref)
        path = self._rule_path(ref, state)
        old = {key: before[key] for key in _DEFINITION if key in before}
        return Step(
            do=lambda: self._api.write("DELETE", path),
            undo=lambda: self._add(phase.name, old),
            touches=frozenset({ref}),
        )

    def _add(self, phase: str, definition: Mapping[str, Any]) -> None:
        entry = self._cloudflare.phase(phase)
        if entry.id is not None:
            body = {**definition, **_position(phase)}
            self._api.write("POST", self._rules_path(entry.id), body)
            return
        ruleset = {"name": "default", "kind": "zone", "phase": phase, "rules": [definition]}
        try:
            self._api.write("POST", f"{self._zone_path}/rulesets", ruleset)
        except ProviderRefused:
            if self._cloudflare.phase(phase).id is None:
                raise
            raise self._conflict(f"got rules in phase {phase} by another hand") from None

    def _delete(self, ref: str) -> None:
        state = self._cloudflare.look()
        if ref in state.own:
            self._api.write("DELETE", self._rule_path(ref, state))

    def _rule_path(self, ref: str, state: State) -> str:
        rule_id = quote(str(state.own[ref]["id"]), safe="")
        return f"{self._rules_path(state.phase_of(ref).id)}/{rule_id}"

    def _rules_path(self, ruleset_id: str | None) -> str:
        return f"{self._zone_path}/rulesets/{quote(str(ruleset_id), safe='')}/rules"


def _position(phase: str) -> dict[str, Any]:
    """An empty reference is before all others."""
    return {"position": {"before": ""}} if phase == BLOCKING else {}
