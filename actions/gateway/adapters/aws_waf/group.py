"""A rule group, its IP sets, and the web ACL that refers to it, as WAFv2 has them now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from actions.gateway.adapters.aws_client import AwsClient, unknown_answer
from actions.gateway.adapters.aws_waf.rules import set_name, version_of
from bot.errors import BadInput

OWN = "firedoor"
"""What the description of a rule group that is Firedoor's begins with; a version follows."""

_ARN = re.compile(
    r"arn:[\w-]+:wafv2:(?P<region>[\w-]+):(?P<account>\d+):"
    r"(?P<scope>regional|global)/(?P<kind>rulegroup|webacl)/(?P<name>[\w-]+)/(?P<id>[\w-]+)"
)


@dataclass(frozen=True)
class Entity:
    """What an ARN of WAFv2 names. ``scope`` is as its API has it."""

    arn: str
    region: str
    scope: str
    name: str
    id: str


def entity(arn: str, kind: str) -> Entity:
    """Read an ARN. Raises BadInput if it is none of this kind."""
    found = _ARN.fullmatch(arn)
    if found is None or found["kind"] != kind:
        raise BadInput(
            f"{arn!r} is not the ARN of a {kind} of AWS WAFv2; no gateway was made of it. The "
            f"console and `aws wafv2` show it: arn:aws:wafv2:REGION:ACCOUNT:regional/{kind}/NAME/ID"
        )
    scope = "REGIONAL" if found["scope"] == "regional" else "CLOUDFRONT"
    return Entity(arn, found["region"], scope, found["name"], found["id"])


@dataclass(frozen=True)
class Group:
    """
    What WAFv2 says of the rule group.

    ``rules`` name IP sets where WAFv2 has ARNs. ``wrong_sets`` are those of them that do not hold
    what their names say.
    """

    token: str
    capacity: int
    description: str
    visibility: Mapping[str, Any]
    rules: tuple[Mapping[str, Any], ...]
    bodies: Mapping[str, Any]
    wrong_sets: frozenset[str]

    @property
    def version(self) -> str:
        return version_of(self.rules, self.bodies)

    @property
    def is_foreign(self) -> bool:
        """Whether it holds rules, and was never Firedoor's."""
        return bool(self.rules) and not self.description.startswith(OWN)

    @property
    def is_edited(self) -> bool:
        if self.wrong_sets:
            return True
        return bool(self.rules or self.bodies) and self.description != described(self.version)

    @property
    def reported(self) -> str:
        return f"{self.version}, edited" if self.is_edited else self.version


def described(version: str) -> str:
    """Return the description that goes with rules of a version."""
    return f"{OWN} {version}"


def read_group(client: AwsClient, gateway: str, own: Entity) -> Group | None:
    """Return the rule group with the content of its IP sets checked; None if it does not exist."""
    answer = client.find("get_rule_group", Name=own.name, Scope=own.scope, Id=own.id)
    if answer is None:
        return None
    try:
        group = answer["RuleGroup"]
        rules: list[Mapping[str, Any]] = list(group.get("Rules", []))
        arns = {arn for rule in rules for arn in _set_arns(rule["Statement"])}
        found = Group(
            token=str(answer["LockToken"]),
            capacity=int(group["Capacity"]),
            description=str(group.get("Description", "")),
            visibility=group["VisibilityConfig"],
            rules=tuple(with_arns(rule, {arn: _name_in(arn) for arn in arns}) for rule in rules),
            bodies=group.get("CustomResponseBodies", {}),
            wrong_sets=frozenset(),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise unknown_answer(gateway, "its rule group") from None
    wrong = {_name_in(arn) for arn in arns if not _is_as_named(client, gateway, own, arn)}
    return Group(**{**vars(found), "wrong_sets": frozenset(wrong)})


def list_sets(client: AwsClient, gateway: str, own: Entity) -> dict[str, Mapping[str, Any]]:
    """Return what WAFv2 lists of all IP sets that are Firedoor's, by name."""
    sets: dict[str, Mapping[str, Any]] = {}
    more: dict[str, Any] = {}
    while True:
        answer = client.find("list_ip_sets", Scope=own.scope, Limit=100, **more)
        try:
            listed = (answer or {})["IPSets"]
            sets |= {s["Name"]: s for s in listed if s["Name"].startswith(f"{own.name}-v")}
            marker = (answer or {}).get("NextMarker")
        except (AttributeError, KeyError, TypeError):
            raise unknown_answer(gateway, "its IP sets") from None
        if not marker or not listed:
            return sets
        more = {"NextMarker": marker}


def why_out_of_force(client: AwsClient, gateway: str, own: Entity, web_acl: Entity) -> str:
    """Say why the web ACL does not do what the rule group says; empty if it does.

    Firedoor's rule group must be the web ACL's first rule, as one before it could let requests
    through, and nothing may override what it says.
    """
    answer = client.find("get_web_acl", Name=web_acl.name, Scope=web_acl.scope, Id=web_acl.id)
    if answer is None:
        return f"there is no web ACL {web_acl.name}"
    try:
        rules = sorted(answer["WebACL"].get("Rules", []), key=lambda rule: int(rule["Priority"]))
        references = [rule for rule in rules if _referred(rule).get("ARN") == own.arn]
        if not references:
            return f"web ACL {web_acl.name} does not refer to rule group {own.name}"
        referred = _referred(references[0])
        if "Count" in references[0].get("OverrideAction", {}):
            return f"web ACL {web_acl.name} only counts what rule group {own.name} would do"
        if referred.get("ExcludedRules") or referred.get("RuleActionOverrides"):
            return f"web ACL {web_acl.name} overrides rules of rule group {own.name}"
        if references[0] is not rules[0]:
            return f"rule group {own.name} is not the first rule of web ACL {web_acl.name}"
    except (AttributeError, KeyError, TypeError, ValueError):
        raise unknown_answer(gateway, "the web ACL") from None
    return ""


def _referred(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    referred: Mapping[str, Any] = rule["Statement"].get("RuleGroupReferenceStatement", {})
    return referred


def _is_as_named(client: AwsClient, gateway: str, own: Entity, arn: str) -> bool:
    """Tell whether the IP set holds what its name says."""
    *_, name, id_ = arn.split("/")
    answer = client.find("get_ip_set", Name=name, Scope=own.scope, Id=id_)
    if answer is None:
        return False
    try:
        return set_name(own.name, answer["IPSet"]["Addresses"]) == name
    except (AttributeError, KeyError, TypeError, ValueError):
        raise unknown_answer(gateway, f"IP set {name}") from None


def _name_in(arn: str) -> str:
    return arn.split("/")[-2]


def _set_arns(statement: Any) -> Iterator[str]:
    """Walk over the ARNs of all IP sets in a statement."""
    if isinstance(statement, dict):
        for key, value in statement.items():
            if key == "IPSetReferenceStatement":
                yield str(value["ARN"])
            else:
                yield from _set_arns(value)
    elif isinstance(statement, list):
        for each in statement:
            yield from _set_arns(each)


def with_arns(part: Any, arns: Mapping[str, str]) -> Any:
    """Return a rule, or a part of one, in which what stands for each IP set is replaced."""
    if isinstance(part, list):
        return [with_arns(each, arns) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: {**value, "ARN": arns[value["ARN"]]}
        if key == "IPSetReferenceStatement"
        else with_arns(value, arns)
        for key, value in part.items()
    }
