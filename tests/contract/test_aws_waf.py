"""AWS WAFv2 beyond the contract of all gateways: its rule group, IP sets and web ACL, on moto.

moto passes no traffic, so nothing here proves that anything is contained.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actions.gateway.adapters.aws_waf.rules import SHADOW, shadow_id
from bot.action import Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind, subject
from tests.gateways.standins.aws import REGION
from tests.gateways.standins.aws_waf import SCOPE, AwsWaf, visibility

ROOT = Path(__file__).resolve().parents[2]
ORDER = "/api/orders/{order_id}"


def addresses(*values: str) -> tuple[Principal, ...]:
    return tuple(Principal(kind=PrincipalKind.IP, value=value) for value in values)


def control(kind: ControlKind, **more: Any) -> Control:
    return Control(kind=kind, method="GET", path=ORDER, **more)


CLOSE = control(ControlKind.CLOSE)
BLOCK = control(ControlKind.BLOCK, principals=addresses("203.0.113.7", "2001:db8::/32"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsWaf]:
    waf = AwsWaf(tmp_path_factory.mktemp("waf"))
    yield waf
    waf.close()


@pytest.fixture
def waf(running: AwsWaf) -> Iterator[AwsWaf]:
    """A rule group that is referred to, with no control in force."""
    running.gateway.converge(())
    running.server.calls.clear()
    yield running
    running.accept()


class TestSets:
    def test_addresses_are_in_tagged_sets_that_go_with_their_control(self, waf: AwsWaf) -> None:
        """
        A block makes an IP set for each IP version, which says whose it is; once nothing refers to
        a set any more, it is removed.
        """
        waf.gateway.converge([BLOCK])

        made = {each["IPAddressVersion"]: each for each in waf.sets()}
        assert made["IPV4"]["Addresses"] == ["203.0.113.7/32"]
        assert made["IPV6"]["Addresses"] == ["2001:db8::/32"]
        tags = waf.waf.list_tags_for_resource(ResourceARN=made["IPV4"]["ARN"])
        assert tags["TagInfoForResource"]["TagList"] == [
            {"Key": "firedoor", "Value": waf.group_name}
        ]

        waf.gateway.converge([CLOSE])

        assert waf.sets() == []

    def test_edited_set_is_an_edit_and_is_put_right(self, waf: AwsWaf) -> None:
        """
        An address that another hand takes out of a set is seen, put back, and told.
        """
        wanted = waf.gateway.converge([BLOCK])
        (v4,) = [each for each in waf.sets() if each["IPAddressVersion"] == "IPV4"]
        read = waf.waf.get_ip_set(Name=v4["Name"], Scope=SCOPE, Id=v4["Id"])
        waf.waf.update_ip_set(
            Name=v4["Name"], Scope=SCOPE, Id=v4["Id"], Addresses=[], LockToken=read["LockToken"]
        )
        assert waf.gateway.observe() == f"{wanted}, edited"
        told = list[str]()

        assert waf.gateway.converge([BLOCK], Writing(displaced=told.append)) == wanted

        assert waf.gateway.observe() == wanted
        assert len(told) == 1

    def test_killed_in_between_leaves_sets_that_the_next_round_takes(self, waf: AwsWaf) -> None:
        """
        IP sets that an interrupted attempt has made are used, not made again.
        """
        waf.server.refuses = "wafv2:UpdateRuleGroup"
        with pytest.raises(ProviderRefused):
            waf.gateway.converge([BLOCK])
        waf.server.refuses = ""
        assert len(waf.sets()) == 2
        waf.server.calls.clear()

        waf.gateway.converge([BLOCK])

        assert "wafv2:CreateIPSet" not in waf.server.calls
        assert len(waf.sets()) == 2


class TestReference:
    def reference(self, waf: AwsWaf, **changes: Any) -> dict[str, Any]:
        statement = {"RuleGroupReferenceStatement": {"ARN": waf.group_arn}}
        return {
            "Name": "firedoor",
            "Priority": 1,
            "Statement": statement,
            "OverrideAction": {"None": {}},
            "VisibilityConfig": visibility("firedoor"),
            **changes,
        }

    def test_rule_group_that_is_not_referred_to_contains_nothing(self, waf: AwsWaf) -> None:
        """
        Without the operator's reference nothing is said to be in force, and nothing is written.
        """
        waf.gateway.converge([CLOSE])
        before = waf.group()
        allow = {
            "Name": "health",
            "Priority": 0,
            "Statement": {"GeoMatchStatement": {"CountryCodes": ["AQ"]}},
            "Action": {"Allow": {}},
            "VisibilityConfig": visibility("health"),
        }
        overridden = {"Name": "x", "ActionToUse": {"Count": {}}}
        override = {"ARN": waf.group_arn, "RuleActionOverrides": [overridden]}
        others = [
            ([allow], "does not refer"),
            ([allow, self.reference(waf)], "not the first rule"),
            ([self.reference(waf, OverrideAction={"Count": {}})], "only counts"),
            (
                [self.reference(waf, Statement={"RuleGroupReferenceStatement": override})],
                "overrides",
            ),
        ]

        for rules, why in others:
            waf.set_acl_rules(rules)
            assert why in waf.gateway.observe()
            with pytest.raises(ProviderRefused, match=why):
                waf.gateway.converge(())

        assert waf.group() == before

    def test_missing_rule_group_is_refused_with_what_to_make(self, waf: AwsWaf) -> None:
        """
        Firedoor makes no rule group: the operator gives it one.
        """
        other = waf.adapter(rule_group_arn=waf.group_arn[:-1] + "x")

        assert other.observe() == ""
        with pytest.raises(ProviderRefused, match="Make it, with the description `firedoor`"):
            other.converge([CLOSE])

    def test_rules_of_another_hand_are_never_overwritten(self, waf: AwsWaf) -> None:
        """
        A rule group that was never Firedoor's, named by mistake, stays as it is.
        """
        rule = {
            "Name": "theirs",
            "Priority": 0,
            "Statement": {"GeoMatchStatement": {"CountryCodes": ["AQ"]}},
            "Action": {"Block": {}},
            "VisibilityConfig": visibility("theirs"),
        }
        made = waf.waf.create_rule_group(
            Name="theirs",
            Scope=SCOPE,
            Capacity=10,
            Rules=[rule],
            VisibilityConfig=visibility("theirs"),
        )

        with pytest.raises(ProviderRefused, match="not Firedoor's"):
            waf.adapter(rule_group_arn=made["Summary"]["ARN"]).converge([CLOSE])


class TestCapacity:
    def test_what_does_not_fit_is_refused_before_anything_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The capacity is fixed: what takes more is refused, and what was in force stays.
        """
        monkeypatch.setattr(AwsWaf, "capacity", 140)
        small = AwsWaf(tmp_path)
        try:
            version = small.gateway.converge([CLOSE])
            more = Control(kind=ControlKind.CLOSE, method="GET", path="/api/customers/me")
            written = small.server.writes

            with pytest.raises(ProviderRefused, match=r"210 WCU, .* has 140"):
                small.gateway.converge([CLOSE, more])

            assert (small.gateway.observe(), small.server.writes) == (version, written)
        finally:
            small.close()


class TestSupports:
    @pytest.mark.parametrize(
        ("wanted", "why"),
        [
            (control(ControlKind.BLOCK, principals=(subject("c-1"),)), "verifies no tokens"),
            (
                control(
                    ControlKind.ALLOW_ONLY,
                    principals=(Principal(kind=PrincipalKind.API_KEY, value="partner-7"),),
                ),
                "checks no API keys",
            ),
            (control(ControlKind.BLOCK, principals=addresses("0.0.0.0/0")), "everybody"),
            (control(ControlKind.THROTTLE, rate_per_s=0.01), "no limit below 10 requests"),
        ],
    )
    def test_what_it_cannot_tell_is_declared(self, waf: AwsWaf, wanted: Control, why: str) -> None:
        """
        What stands in a header that nobody verified is no basis for a block.
        """
        support = waf.gateway.supports(wanted)

        assert not support.ok
        assert why in support.why

    def test_limit_is_best_effort(self, waf: AwsWaf) -> None:
        """
        AWS checks a rate about every ten seconds, and calls it an estimate.
        """
        support = waf.gateway.supports(control(ControlKind.THROTTLE, rate_per_s=1.0))

        assert (support.ok, support.best_effort) == (True, True)


class TestShadow:
    SHADOW = control(ControlKind.SHADOW, would=ControlKind.CLOSE)

    def test_hits_are_those_of_its_own_metric(self, waf: AwsWaf) -> None:
        """
        What CloudWatch has counted for the shadow's rule is its hits; other rules' are not.
        """
        waf.gateway.converge([self.SHADOW, BLOCK])
        rules = [rule["Name"] for rule in waf.group()["RuleGroup"]["Rules"]]
        (own,) = [n for n in rules if n.startswith(f"{SHADOW}-{shadow_id(self.SHADOW)}")]
        now = datetime.fromtimestamp(time.time(), UTC)
        for rule, hours, hits in [(own, 1, 3), (own, 5, 4), (rules[0], 1, 50), (own, 400, 9)]:
            dimensions = {"Rule": rule, "RuleGroup": "firedoor-edge", "Region": REGION}
            data = {
                "MetricName": "CountedRequests",
                "Dimensions": [{"Name": k, "Value": v} for k, v in dimensions.items()],
                "Timestamp": now - timedelta(hours=hours),
                "Value": float(hits),
            }
            waf.server.client("cloudwatch").put_metric_data(
                Namespace="AWS/WAFV2", MetricData=[data]
            )

        assert waf.gateway.shadow_hits(self.SHADOW) == 7

    def test_only_a_shadow_that_is_in_force_counts(self, waf: AwsWaf) -> None:
        """
        Nothing is said of what nobody counts.
        """
        waf.gateway.converge([CLOSE])

        for other in (self.SHADOW, CLOSE):
            with pytest.raises(BadInput):
                waf.gateway.shadow_hits(other)


class TestErrors:
    def test_denied_reading_says_what_to_grant(self, waf: AwsWaf) -> None:
        """
        That it may not look is no word on what is there.
        """
        waf.server.refuses = "wafv2:GetWebACL"

        with pytest.raises(ProviderUnreachable, match="nothing is known of gateway edge"):
            waf.gateway.observe()

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("ThrottlingException", ProviderUnreachable),
            ("WAFUnavailableEntityException", ProviderUnreachable),
            ("WAFOptimisticLockException", Conflict),
            ("WAFLimitsExceededException", ProviderRefused),
            ("AccessDeniedException", ProviderRefused),
        ],
    )
    def test_what_aws_says_to_a_write_is_told_apart(
        self, waf: AwsWaf, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception]
    ) -> None:
        """
        Patience, another writer and a refusal are three things; of the library's own words, which
        may hold anything, nothing is passed on.
        """
        monkeypatch.setattr(waf.server, "refuses", "wafv2:UpdateRuleGroup")
        monkeypatch.setattr(waf.server, "code", code)

        with pytest.raises(error) as raised:
            waf.gateway.converge([CLOSE])

        assert type(raised.value) is error
        assert code in str(raised.value)
        assert "the body of a refusal" not in str(raised.value)
        assert raised.value.__context__ is None


class TestRights:
    def test_the_policy_grants_what_is_called(self, waf: AwsWaf) -> None:
        """
        The example policy has the calls that are made, and no other.
        """
        waf.gateway.converge([BLOCK])
        waf.gateway.converge([CLOSE])
        policy = json.loads((ROOT / "deploy/gateways/iam-policy-gateway-waf.json").read_text())
        granted = set()
        for statement in policy["Statement"]:
            actions = statement["Action"]
            granted |= {actions} if isinstance(actions, str) else set(actions)

        called = {call for call in waf.server.calls if call.startswith("wafv2:")}

        assert called <= granted
        # A set is tagged as it is made, mended if it was edited; and a rule group that is nearly
        # full, or that holds a shadow, is asked about.
        assert granted - called == {
            "cloudwatch:GetMetricStatistics",
            "wafv2:CheckCapacity",
            "wafv2:TagResource",
            "wafv2:UpdateIPSet",
        }
