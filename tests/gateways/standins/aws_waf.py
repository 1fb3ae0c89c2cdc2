"""AWS WAFv2, on moto: the rule group and its lock tokens, and no request that they are for."""

from __future__ import annotations

import json
from functools import cached_property
from itertools import count
from typing import Any

from actions.gateway.adapters.aws_waf import AwsWafGateway
from tests.gateways.standins.aws import KEY, AwsSubject

SCOPE = "REGIONAL"
_number = count()


def visibility(metric: str) -> dict[str, Any]:
    return {
        "SampledRequestsEnabled": True,
        "CloudWatchMetricsEnabled": True,
        "MetricName": metric,
    }


class AwsWaf(AwsSubject):
    """A web ACL of the operator's, whose first rule refers to Firedoor's rule group."""

    kind = "aws-waf"
    adapter_class = AwsWafGateway
    cut = "actions.gateway.adapters.aws_waf.adapter:AwsWafGateway._update"
    capacity = 1000

    def install(self) -> None:
        number = next(_number)
        self.group_name, self.acl_name = f"firedoor-edge-{number}", f"public-{number}"
        made = self.waf.create_rule_group(
            Name=self.group_name,
            Scope=SCOPE,
            Capacity=self.capacity,
            Description="firedoor",
            Rules=[],
            VisibilityConfig=visibility("firedoor-edge"),
        )
        self.group_arn = made["Summary"]["ARN"]
        reference = {
            "Name": "firedoor",
            "Priority": 0,
            "Statement": {"RuleGroupReferenceStatement": {"ARN": self.group_arn}},
            "OverrideAction": {"None": {}},
            "VisibilityConfig": visibility("firedoor"),
        }
        made = self.waf.create_web_acl(
            Name=self.acl_name,
            Scope=SCOPE,
            DefaultAction={"Allow": {}},
            Rules=[reference],
            VisibilityConfig=visibility("public"),
        )
        self.acl_arn = made["Summary"]["ARN"]
        self._acl_rules = [reference]

    @cached_property
    def waf(self) -> Any:
        return self.server.client("wafv2")

    def arguments(self) -> dict[str, Any]:
        return {
            "name": "edge",
            "rule_group_arn": self.group_arn,
            "web_acl_arn": self.acl_arn,
            "kept_dir": self.kept_dir,
            "endpoint_url": self.endpoint_url,
            "endpoints": ("GET /api/orders/{order_id}", "GET /api/orders/export"),
            "take_timeout_s": 1.0,
            **KEY,
        }

    def group(self) -> dict[str, Any]:
        answer = self.waf.get_rule_group(ARN=self.group_arn)
        return {"RuleGroup": answer["RuleGroup"], "LockToken": answer["LockToken"]}

    def sets(self) -> list[dict[str, Any]]:
        """Return Firedoor's IP sets with their addresses."""
        return [
            self.waf.get_ip_set(Name=each["Name"], Scope=SCOPE, Id=each["Id"])["IPSet"]
            for each in self.waf.list_ip_sets(Scope=SCOPE)["IPSets"]
            if each["Name"].startswith(self.group_name)
        ]

    def set_acl_rules(self, rules: list[dict[str, Any]]) -> None:
        acl = self.waf.get_web_acl(ARN=self.acl_arn)
        self.waf.update_web_acl(
            Name=self.acl_name,
            Scope=SCOPE,
            Id=acl["WebACL"]["Id"],
            DefaultAction={"Allow": {}},
            Rules=rules,
            VisibilityConfig=visibility("public"),
            LockToken=acl["LockToken"],
        )

    def export(self) -> bytes:
        acl = self.waf.get_web_acl(ARN=self.acl_arn)["WebACL"]
        for changing in (acl, group := self.group()["RuleGroup"]):
            changing.pop("LockToken", None)
        return json.dumps([group, self.sets(), acl["Rules"]], sort_keys=True).encode()

    def edit_theirs(self) -> None:
        theirs = {
            "Name": "theirs",
            "Priority": 7,
            "Statement": {"GeoMatchStatement": {"CountryCodes": ["AQ"]}},
            "Action": {"Block": {}},
            "VisibilityConfig": visibility("theirs"),
        }
        self.set_acl_rules([*self._acl_rules, theirs])

    def has_their_edit(self) -> bool:
        rules = self.waf.get_web_acl(ARN=self.acl_arn)["WebACL"]["Rules"]
        return "theirs" in {rule["Name"] for rule in rules}

    def edit_ours(self) -> None:
        group = self.group()
        last = group["RuleGroup"]["Rules"][:1]
        self.waf.update_rule_group(
            Name=self.group_name,
            Scope=SCOPE,
            Id=group["RuleGroup"]["Id"],
            Description=group["RuleGroup"]["Description"],
            Rules=last,
            VisibilityConfig=visibility("firedoor-edge"),
            CustomResponseBodies=group["RuleGroup"]["CustomResponseBodies"],
            LockToken=group["LockToken"],
        )

    def refuse(self) -> None:
        self.server.refuses = "wafv2:UpdateRuleGroup"

    def accept(self) -> None:
        self.server.refuses = ""
        self.server.start()
        self.set_acl_rules(self._acl_rules)
