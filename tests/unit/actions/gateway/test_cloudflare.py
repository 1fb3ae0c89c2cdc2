"""The adapter of Cloudflare against a stand-in of its Rulesets API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.action import Writing
from bot.errors import Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind, subject
from tests.gateways.standins.cloudflare import PHASES, CloudflareStandIn, envelope
from tests.gateways.standins.server import Response

BLOCKING, LIMITING = PHASES
ORDER = "/api/orders/{order_id}"
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=ORDER)
OTHER = Control(kind=ControlKind.CLOSE, method="GET", path="/api/customers/me")


def limit(rate_per_s: float) -> Control:
    return Control(kind=ControlKind.THROTTLE, method="GET", path=ORDER, rate_per_s=rate_per_s)


def blocking(principal: Principal) -> Control:
    return Control(kind=ControlKind.BLOCK, method="GET", path=ORDER, principals=(principal,))


@pytest.fixture
def cloudflare(tmp_path: Path) -> Iterator[CloudflareStandIn]:
    cloudflare = CloudflareStandIn(tmp_path)
    yield cloudflare
    cloudflare.close()


def rules(cloudflare: CloudflareStandIn, phase: str) -> list[str]:
    """Return the references of a phase's rules, in order; of Firedoor's only that."""
    found = [r["rules"] for r in cloudflare.api.rulesets.values() if r["phase"] == phase]
    refs = [rule["ref"] for rule in (found[0] if found else [])]
    return ["firedoor" if ref.startswith("firedoor-") else ref for ref in refs]


class TestWire:
    def test_no_ruleset_is_replaced(self, cloudflare: CloudflareStandIn) -> None:
        """
        Rules are added, changed and deleted one at a time; PUT, which replaces all, is never sent.
        """
        for controls in ([CLOSE], [CLOSE, OTHER, limit(2.0)], [OTHER], []):
            cloudflare.gateway.converge(controls)

        calls = [call for call in cloudflare.api.calls if call.is_write]
        assert {call.method for call in calls} == {"POST", "PATCH", "DELETE"}
        assert [call for call in calls if call.path[3:] == ()] == [
            call for call in calls if call.body and "phase" in call.body
        ]

    def test_entry_point_is_made_with_the_first_rule(self, cloudflare: CloudflareStandIn) -> None:
        """
        A phase without rules has no ruleset; it gets one, which stays when the rule goes.
        """
        assert rules(cloudflare, LIMITING) == []
        cloudflare.gateway.converge([limit(2.0)])
        assert rules(cloudflare, LIMITING) == ["firedoor"]

        cloudflare.gateway.converge(())
        cloudflare.gateway.converge([limit(2.0)])

        made = [c for c in cloudflare.api.calls if c.is_write and c.path[2:] == ("rulesets",)]
        assert len(made) == 1

    def test_entry_point_made_by_another_at_once(self, cloudflare: CloudflareStandIn) -> None:
        """
        If somebody else makes it first, that is a conflict, and the next try adds to it.
        """

        def race(request: Any) -> None:
            if request.method == "POST":
                cloudflare.api.sees = lambda _request: None
                cloudflare.api.added(
                    LIMITING,
                    action="block",
                    ref="theirs",
                    ratelimit={
                        "characteristics": ["cf.colo.id"],
                        "period": 10,
                        "requests_per_period": 5,
                        "mitigation_timeout": 10,
                    },
                )

        cloudflare.api.sees = race
        with pytest.raises(Conflict):
            cloudflare.gateway.converge([limit(2.0)])

        cloudflare.gateway.converge([limit(2.0)])
        assert rules(cloudflare, LIMITING) == ["theirs", "firedoor"]

    def test_blocks_come_first_and_limits_last(self, cloudflare: CloudflareStandIn) -> None:
        """
        A rule of the operator's cannot skip a block, and limits are where Cloudflare wants them.
        """
        cloudflare.gateway.converge([CLOSE])
        assert rules(cloudflare, BLOCKING) == ["firedoor", "operators"]

    def test_rule_that_skips_ours_is_passed_under(self, cloudflare: CloudflareStandIn) -> None:
        """
        If the operator puts a skipping rule on top, it is seen, and ours go on top again.
        """
        version = cloudflare.gateway.converge([CLOSE])
        cloudflare.api.added(BLOCKING, first=True, action="skip", ref="skips")
        assert cloudflare.gateway.observe() == f"{version}, passed over"

        told = list[str]()
        cloudflare.gateway.converge([CLOSE], Writing(displaced=told.append))

        assert rules(cloudflare, BLOCKING) == ["firedoor", "skips", "operators"]
        assert cloudflare.gateway.observe() == version
        assert told == []

    def test_rule_that_only_blocks_stays_on_top(self, cloudflare: CloudflareStandIn) -> None:
        """
        Whatever else the operator puts on top lets nobody past ours.
        """
        version = cloudflare.gateway.converge([CLOSE])
        cloudflare.api.added(BLOCKING, first=True, action="block", ref="blocks")
        cloudflare.api.added(BLOCKING, first=True, action="skip", ref="off", enabled=False)
        assert cloudflare.gateway.observe() == version

    def test_zone_that_is_not_there(self, cloudflare: CloudflareStandIn) -> None:
        """
        A 404 for another reason than a phase without rules is not taken for one.
        """
        gateway = cloudflare.adapter(zone_id="../zones/other")
        with pytest.raises(ProviderUnreachable, match="Could not route"):
            gateway.observe()
        assert cloudflare.api.calls[-1].path[:2] == ("zones", "../zones/other")


class TestSupport:
    def test_keys(self, cloudflare: CloudflareStandIn) -> None:
        """
        Cloudflare checks no keys of the API's.
        """
        key = Principal(kind=PrincipalKind.API_KEY, value="partner-7")
        support = cloudflare.gateway.supports(blocking(key))
        assert (support.ok, support.nearest) == (False, ControlKind.THROTTLE)

    def test_claims_need_a_token_configuration(self, cloudflare: CloudflareStandIn) -> None:
        """
        Claims are a basis only if Cloudflare verifies the tokens.
        """
        assert cloudflare.gateway.supports(blocking(subject("c-1"))).ok
        without = cloudflare.adapter(token_configuration=None)
        assert not without.supports(blocking(subject("c-1"))).ok

    def test_limits(self, cloudflare: CloudflareStandIn) -> None:
        """
        What a limit counts is said; a rate slower than the plan's longest period is declined.
        """
        assert "each address by itself" in cloudflare.gateway.supports(limit(2.0)).why
        together = cloudflare.adapter(plan="enterprise", limits_by="data_centre")
        assert "each address" not in together.supports(limit(2.0)).why
        assert not cloudflare.gateway.supports(limit(1 / 601)).ok
        assert together.supports(limit(1 / 601)).ok
        none = cloudflare.adapter(limits_by="none").supports(limit(2.0))
        assert (none.ok, none.nearest) == (False, ControlKind.BLOCK)


class TestOtherHands:
    @pytest.mark.parametrize(
        "change",
        [
            {"enabled": False},
            {"action": "log"},
            {"expression": "true"},
            {"description": "mine"},
            {"action_parameters": {}},
        ],
        ids=str,
    )
    def test_every_edit_is_seen_and_undone(
        self, cloudflare: CloudflareStandIn, change: dict[str, Any]
    ) -> None:
        """
        An edit makes another version; it is undone and told, with where it can be read.
        """
        version = cloudflare.gateway.converge([CLOSE, OTHER])
        exported = cloudflare.export()
        cloudflare.api.changed(cloudflare.api.own()[0]["ref"], **change)
        assert cloudflare.gateway.observe() != version
        (ruleset,) = cloudflare.api.rulesets.values()
        edited = ruleset["version"]

        told = list[str]()
        cloudflare.gateway.converge([CLOSE, OTHER], Writing(displaced=told.append))

        assert cloudflare.export() == exported
        (sentence,) = told
        assert f"version {edited} of ruleset {ruleset['id']}" in sentence

    def test_edit_of_a_limit(self, cloudflare: CloudflareStandIn) -> None:
        """
        A limit that counts something else is not ours any more.
        """
        version = cloudflare.gateway.converge([limit(2.0)])
        (rule,) = cloudflare.api.own()
        changed = {**rule["ratelimit"], "counting_expression": 'http.host == "x"'}
        cloudflare.api.changed(rule["ref"], ratelimit=changed)
        assert cloudflare.gateway.observe() == f"{version}, edited"

    def test_removed_rule_is_seen(self, cloudflare: CloudflareStandIn) -> None:
        """
        A set with a rule missing is not taken for the smaller set.
        """
        cloudflare.gateway.converge([CLOSE, OTHER])
        cloudflare.api.removed(cloudflare.api.own()[0]["ref"])
        gateway = cloudflare.gateway
        assert gateway.observe() not in {
            gateway.version_of(c) for c in ([CLOSE], [OTHER], [CLOSE, OTHER])
        }

        told = list[str]()
        gateway.converge([CLOSE, OTHER], Writing(displaced=told.append))
        assert len(told) == 1

    def test_copy_of_ours_is_theirs(self, cloudflare: CloudflareStandIn) -> None:
        """
        A rule that an operator made from one of Firedoor's is left alone.
        """
        cloudflare.gateway.converge([CLOSE])
        rule = cloudflare.api.own()[0]
        body = {k: rule[k] for k in ("action", "action_parameters", "expression", "description")}
        cloudflare.api.added(BLOCKING, ref="copy", **body)

        cloudflare.gateway.converge(())

        assert rules(cloudflare, BLOCKING) == ["operators", "copy"]

    def test_no_room_for_another_rule(self, cloudflare: CloudflareStandIn) -> None:
        """
        A plan's limit of rules refuses, and leaves what is there.
        """
        before = cloudflare.gateway.converge([CLOSE])
        cloudflare.api.most = 2
        with pytest.raises(ProviderRefused, match="maximum number of rules"):
            cloudflare.gateway.converge([CLOSE, OTHER])
        assert cloudflare.gateway.observe() == before


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        {"id": 5},
        {"id": "x", "rules": "none"},
        {"id": "x", "rules": [5]},
        {"id": "x", "rules": [{"id": "r", "ref": 5}]},
        {"id": "x", "rules": [{"id": "r", "description": [5]}]},
    ],
    ids=str,
)
def test_ruleset_of_another_form(cloudflare: CloudflareStandIn, result: object) -> None:
    """
    What is no ruleset is no answer of Cloudflare's.
    """
    cloudflare.api.instead = [Response(200, envelope(result))]
    with pytest.raises(ProviderUnreachable, match="not of this API"):
        cloudflare.gateway.observe()
