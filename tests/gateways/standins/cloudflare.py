"""Cloudflare's Rulesets API for one zone, and its adapter as a subject of the contract.

Forms and rules are those of https://developers.cloudflare.com/ruleset-engine/rulesets-api/ and
.../waf/ (custom rules, rate limiting rules). Of those only what Firedoor may meet is here.
"""

from __future__ import annotations

import copy
import json
import uuid
from pathlib import Path
from typing import Any

from actions.gateway.adapters.cloudflare import CloudflareGateway
from tests.gateways.standins.cloudflare_rules import Call, SyntaxWrong, matches
from tests.gateways.standins.server import JsonServer, Request, Response
from tests.gateways.standins.subject import StandIn
from tests.gateways.upstream import ENDPOINTS

ZONE = "023e105f4ecef8ad9ca31a8372d0c353"
TOKEN = "cf-api-t0ken"
CONFIGURATION = "52973293-cb04-4a97-8f55-e7d2ad1107dd"
PHASES = ("http_request_firewall_custom", "http_ratelimit")

Entity = dict[str, Any]

_RULE = {
    "action",
    "action_parameters",
    "description",
    "enabled",
    "expression",
    "logging",
    "position",
    "ratelimit",
    "ref",
}
_ACTIONS = {"block", "log", "skip", "challenge", "js_challenge", "managed_challenge"}
_PERIODS_S = {10, 15, 20, 30, 40, 45, 60, 90, 120, 180, 240, 300, 480, 600}


class Invalid(Exception):
    """What Cloudflare refuses, as it says it."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.response = Response(status, envelope(None, [{"code": code, "message": message}]))


def envelope(result: Any, errors: list[Entity] | None = None) -> Entity:
    return {"result": result, "success": not errors, "errors": errors or [], "messages": []}


class CloudflareApi(JsonServer):
    """``most`` is how many rules a phase may have by the zone's plan."""

    def __init__(self) -> None:
        super().__init__()
        self.rulesets: dict[str, Entity] = {}
        self.most = 100
        self._ticks = 0

    # --- HTTP ------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        try:
            return self._checked(request)
        except Invalid as invalid:
            return invalid.response

    def _checked(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise Invalid(403, 10000, "Authentication error")
        if request.path[:3] != ("zones", ZONE, "rulesets"):
            why = f"Could not route to /{'/'.join(request.path)}, perhaps your object identifier"
            raise Invalid(404, 7003, f"{why} is invalid?")
        return self._routed(request.method, request.path[3:], request.body)

    def _routed(self, method: str, path: tuple[str, ...], body: Any) -> Response:
        match method, path:
            case "GET", ("phases", phase, "entrypoint"):
                return Response(200, envelope(self._entry_point(phase)))
            case "POST", ():
                return Response(200, envelope(self._created(body)))
            case "POST", (id_, "rules"):
                ruleset = self._ruleset(id_)
                self._place(ruleset, self._rule(body, ruleset, None), body.get("position"))
                return Response(200, envelope(self._bumped(ruleset)))
            case "PATCH", (id_, "rules", rule_id):
                ruleset = self._ruleset(id_)
                before = self._found(ruleset, rule_id)
                rule = self._rule(body, ruleset, before) if set(body) - {"position"} else before
                at = ruleset["rules"].index(before)
                ruleset["rules"][at] = rule
                if "position" in body:
                    ruleset["rules"].remove(rule)
                    self._place(ruleset, rule, body["position"])
                return Response(200, envelope(self._bumped(ruleset)))
            case "DELETE", (id_, "rules", rule_id):
                ruleset = self._ruleset(id_)
                ruleset["rules"].remove(self._found(ruleset, rule_id))
                return Response(200, envelope(self._bumped(ruleset)))
        raise Invalid(405, 10405, "Method not allowed for this authentication scheme")

    # --- rulesets --------------------------------------------------------------------------------

    def _entry_point(self, phase: str) -> Entity:
        found = next((r for r in self.rulesets.values() if r["phase"] == phase), None)
        if found is None:
            why = f"could not find entrypoint ruleset in the {phase} phase at the zone level"
            raise Invalid(404, 10003, why)
        return found

    def _ruleset(self, id_: str) -> Entity:
        if id_ not in self.rulesets:
            raise Invalid(404, 10001, f"could not find ruleset with ID {id_!r}")
        return self.rulesets[id_]

    def _found(self, ruleset: Entity, rule_id: str) -> Entity:
        for rule in ruleset["rules"]:
            if rule["id"] == rule_id:
                return rule  # type: ignore[no-any-return]
        raise Invalid(404, 10002, f"could not find rule with ID {rule_id!r}")

    def _created(self, body: Entity) -> Entity:
        if body.get("kind") != "zone" or body.get("phase") not in PHASES:
            raise Invalid(400, 20019, "unknown phase or kind")
        if any(r["phase"] == body["phase"] for r in self.rulesets.values()):
            why = f"exceeded maximum number of zone rulesets for phase {body['phase']!r}"
            raise Invalid(400, 20217, why)
        ruleset = {
            "id": uuid.uuid4().hex,
            "name": body["name"],
            "description": body.get("description", ""),
            "kind": "zone",
            "version": "0",
            "phase": body["phase"],
            "rules": [],
        }
        rules = [self._rule(rule, ruleset, None) for rule in body.get("rules", [])]
        self.rulesets[str(ruleset["id"])] = {**ruleset, "rules": rules}
        return self._bumped(self.rulesets[str(ruleset["id"])])

    def _bumped(self, ruleset: Entity) -> Entity:
        ruleset["version"] = str(int(ruleset["version"]) + 1)
        ruleset["last_updated"] = self._now()
        return ruleset

    def _now(self) -> str:
        self._ticks += 1
        return f"2026-11-23T12:00:00.{self._ticks:06d}Z"

    def _place(self, ruleset: Entity, rule: Entity, position: Any) -> None:
        if position is None:
            ruleset["rules"].append(rule)
        elif position.get("before") == "":
            ruleset["rules"].insert(0, rule)
        else:
            raise Invalid(400, 20119, "invalid position")

    def _rule(self, body: Any, ruleset: Entity, before: Entity | None) -> Entity:
        if not isinstance(body, dict) or (unknown := sorted(set(body) - _RULE)):
            name = unknown[0] if isinstance(body, dict) else body
            raise Invalid(400, 10014, f"json: unknown field {name!r}")
        if body.get("action") not in _ACTIONS:
            raise Invalid(400, 20015, f"unknown action {body.get('action')!r}")
        self._check_expression(body)
        self._check_answer(body, ruleset["phase"])
        self._check_limit(body, ruleset["phase"])
        others = [rule for rule in ruleset["rules"] if rule is not before]
        if len(others) >= self.most:
            raise Invalid(400, 20118, "exceeded maximum number of rules in the phase")
        id_ = before["id"] if before else uuid.uuid4().hex
        rule = {key: copy.deepcopy(each) for key, each in body.items() if key != "position"}
        rule |= {"id": id_, "ref": body.get("ref") or id_, "enabled": body.get("enabled", True)}
        rule |= {"version": str(int(before["version"]) + 1 if before else 1)}
        if any(rule["ref"] == other["ref"] for other in others):
            raise Invalid(400, 20120, f"rules have the same ref {rule['ref']!r}")
        return {**rule, "last_updated": self._now()}

    def _check_expression(self, body: Entity) -> None:
        expression = body.get("expression", "")
        if not expression or len(expression) > 4096:
            raise Invalid(400, 20127, "invalid expression length")
        if expression == "true":
            return
        try:
            matches(expression, Call())
        except SyntaxWrong as error:
            why = f"Filter parsing error (1:1): {error}"
            raise Invalid(
                400, 20127, f"'{expression[:40]}' is not a valid expression: {why}"
            ) from None

    def _check_answer(self, body: Entity, phase: str) -> None:
        response = (body.get("action_parameters") or {}).get("response")
        if response is None:
            return
        if not 400 <= response["status_code"] <= 499:
            raise Invalid(400, 20094, "response status code must be between 400 and 499")
        types = ("application/json", "text/html", "text/plain", "text/xml")
        if response["content_type"] not in types:
            raise Invalid(400, 20095, f"invalid content type {response['content_type']!r}")
        if len(response["content"]) > (2048 if phase == PHASES[0] else 30 * 1024):
            raise Invalid(400, 20096, "response content is too long")

    def _check_limit(self, body: Entity, phase: str) -> None:
        limit = body.get("ratelimit")
        if (limit is not None) != (phase == PHASES[1] and body["action"] != "skip"):
            raise Invalid(400, 20121, "ratelimit is required in, and only in, http_ratelimit")
        if limit is None:
            return
        if "cf.colo.id" not in limit["characteristics"]:
            raise Invalid(400, 20122, "characteristics must contain cf.colo.id")
        if limit["period"] not in _PERIODS_S or limit["requests_per_period"] < 1:
            raise Invalid(400, 20123, "not entitled to use the period")
        if limit["mitigation_timeout"] == 0:
            raise Invalid(400, 20124, "not entitled to use request throttling with block")

    # --- an operator -----------------------------------------------------------------------------

    def own(self) -> list[Entity]:
        with self._lock:
            rules = [rule for r in self.rulesets.values() for rule in r["rules"]]
            return [copy.deepcopy(r) for r in rules if str(r["ref"]).startswith("firedoor-")]

    def added(self, phase: str, *, first: bool = False, **rule: Any) -> Entity:
        """Be an operator who adds a rule."""
        body = {"expression": "true", **rule}
        with self._lock:
            if not any(r["phase"] == phase for r in self.rulesets.values()):
                self._created({"name": "default", "kind": "zone", "phase": phase, "rules": []})
            ruleset = self._entry_point(phase)
            made = self._rule(body, ruleset, None)
            self._place(ruleset, made, {"before": ""} if first else None)
            self._bumped(ruleset)
            return copy.deepcopy(made)

    def changed(self, ref: str, **change: Any) -> None:
        """Be another hand that changes a rule."""
        with self._lock:
            for ruleset in self.rulesets.values():
                for at, rule in enumerate(ruleset["rules"]):
                    if rule["ref"] == ref:
                        body = {k: v for k, v in rule.items() if k in _RULE} | change
                        ruleset["rules"][at] = self._rule(body, ruleset, rule)
                        self._bumped(ruleset)

    def removed(self, ref: str) -> None:
        with self._lock:
            for ruleset in self.rulesets.values():
                ruleset["rules"] = [rule for rule in ruleset["rules"] if rule["ref"] != ref]
                self._bumped(ruleset)

    def exported(self) -> bytes:
        """An entry point without rules is as none."""
        changing = ("id", "version", "last_updated")
        with self._lock:
            shown = {
                ruleset["phase"]: [
                    {k: v for k, v in rule.items() if k not in changing}
                    for rule in ruleset["rules"]
                ]
                for ruleset in self.rulesets.values()
                if ruleset["rules"]
            }
        return json.dumps(shown, sort_keys=True).encode()


class CloudflareStandIn(StandIn):
    """A zone with one rule of the operator's."""

    kind = "cloudflare"
    adapter_class = CloudflareGateway
    refusal = Invalid(400, 20118, "exceeded maximum number of rules in the phase").response
    credential = "api_token"
    api: CloudflareApi

    def __init__(self, directory: Path) -> None:
        del directory
        self.api = CloudflareApi()
        self.api.added(PHASES[0], action="managed_challenge", ref="operators")
        self.api.start()
        self.gateway = self.adapter()

    def arguments(self) -> dict[str, Any]:
        return {
            "name": "edge-cloudflare",
            "zone_id": ZONE,
            "api_token": TOKEN,
            "api_url": self.api.url,
            "hosts": ("api.example.com",),
            "endpoints": tuple(ENDPOINTS),
            "token_configuration": CONFIGURATION,
            "settle_s": 0.0,
        }

    def export(self) -> bytes:
        return self.api.exported()

    def edit_theirs(self) -> None:
        self.api.added(PHASES[0], action="block", ref="theirs")

    def has_their_edit(self) -> bool:
        return b'"theirs"' in self.export()

    def edit_ours(self) -> None:
        self.api.changed(self.api.own()[0]["ref"], enabled=False)

    def accept(self) -> None:
        super().accept()
        self.api.removed("theirs")
