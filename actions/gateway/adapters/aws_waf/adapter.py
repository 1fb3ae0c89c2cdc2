"""AWS WAFv2, by a rule group of Firedoor's own that the operator's web ACL refers to.

WAFv2 takes a change by a lock token of the reading it is built on, and spreads it in seconds to
minutes. What it says of the rule group is what it was told, not what each of its places does: only
a look from outside shows that.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from actions.gateway.adapters.aws_client import AwsClient
from actions.gateway.adapters.aws_waf.group import (
    OWN,
    Group,
    described,
    entity,
    list_sets,
    read_group,
    why_out_of_force,
    with_arns,
)
from actions.gateway.adapters.aws_waf.rules import (
    MIN_LIMIT,
    SHADOW,
    WINDOWS_S,
    Rendered,
    capacity_of,
    is_too_long,
    limit_of,
    problem_of,
    render,
    shadow_id,
)
from actions.gateway.adapters.kept import keep
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

TAKE_TIMEOUT_S = 5.0
POLL_S = 0.5
"""WAFv2 takes five readings a second of an account."""

HITS_FOR = timedelta(days=14)
HITS_PERIOD_S = 3600


class AwsWafGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    Claims and API keys are in headers that WAFv2 does not verify, so it is no basis for a block of
    them. An address is that of the connection: behind a CDN it is the CDN's, so there the web ACL
    must be the CDN's own. Bodies are Firedoor's, with the type ``application/json``. Metrics of
    shadows come minutes late.

    Args:
        rule_group_arn: Of a rule group that only Firedoor writes, with the description
            ``firedoor``. Its capacity is fixed when it is made: a closed method takes some 80
            WCU, another control 45, a more specific endpoint that is to stay open 40, and all
            together 13.

        web_acl_arn: Of the web ACL whose first rule refers to the rule group, with override
            action None. The operator sets that once; without it the rule group does nothing.

        kept_dir: A folder for what another hand had made of the rule group.

        endpoints: Keys of all known endpoints; see ``known`` of `rules.render`.

        endpoint_url: None for the real AWS.
    """

    def __init__(
        self,
        *,
        name: str,
        rule_group_arn: str,
        web_acl_arn: str,
        kept_dir: Path,
        access_key_id: str,
        secret_access_key: str,
        endpoints: Iterable[str] = (),
        endpoint_url: str | None = None,
        take_timeout_s: float = TAKE_TIMEOUT_S,
    ) -> None:
        self._name, self._kept_dir = name, kept_dir
        self._own = entity(rule_group_arn, "rulegroup")
        self._web_acl = entity(web_acl_arn, "webacl")
        self._known = tuple(sorted(endpoints))
        self._take_timeout_s = take_timeout_s
        self._writing = threading.Lock()
        settings: dict[str, Any] = {
            "gateway": name,
            "region": self._own.region,
            "endpoint_url": endpoint_url,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        self._waf = AwsClient(service="wafv2", **settings)
        self._metrics = AwsClient(service="cloudwatch", **settings)

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        """Tell whether it can do what a control asks for. Whether the web ACL refers to the rule
        group at all is seen when it is observed and converged."""
        if is_too_long(control.path):
            return Support(ok=False, why="its path makes an expression that AWS WAF does not take")
        for principal in control.principals:
            why = _unknowable(principal)
            if why:
                return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)
        if control.kind is ControlKind.THROTTLE:
            if limit_of(control.rate_per_s or 0.0) is None:
                least = f"{MIN_LIMIT} requests in {WINDOWS_S[-1]} s"
                why = f"AWS WAF has no limit below {least}"
                return Support(ok=False, why=why, nearest=ControlKind.CLOSE)
            return Support(ok=True, best_effort=True)
        return Support(ok=True)

    def version_of(self, controls: Sequence[Control]) -> str:
        return self._rendered(controls).version

    def prepare(self) -> None:
        """Nothing is needed to start: the operator makes the rule group."""

    def observe(self) -> str:
        """Return the version of the rules that WAFv2 has; marked if they are not as Firedoor wrote
        them, or if the web ACL does not do what they say. Empty if there is no rule group."""
        group = read_group(self._waf, self._name, self._own)
        if group is None:
            return ""
        why = why_out_of_force(self._waf, self._name, self._own, self._web_acl)
        return f"{group.reported}, not in force: {why}" if why else group.reported

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a shadow has counted in the last 14 days, as far as CloudWatch
        knows: some minutes late, and with those of an earlier shadow that asked for the same.

        Raises:
            BadInput: It is no shadow, or not in force.
        """
        group = read_group(self._waf, self._name, self._own)
        start = f"{SHADOW}-{shadow_id(control)}-"
        names = [str(r["Name"]) for r in (group.rules if group else ())]
        counting = [name for name in names if name.startswith(start)]
        if control.kind is not ControlKind.SHADOW or group is None or not counting:
            raise BadInput(
                f"Gateway {self._name} holds no shadow of {control.endpoint} that is this one, so "
                "nothing is counted. `firedoor containments list` shows what it holds."
            )
        return sum(self._counted(name, str(group.visibility["MetricName"])) for name in counting)

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring the rule group to exactly this set and return the version that WAFv2 reports.

        Raises:
            Conflict: Another writer was faster; nothing was written.

            ProviderUnreachable: No usable answer, or the version is not reported in time.

            ProviderRefused: WAFv2 refuses the rules, or the rule group does not do anything: it
                is missing, too small, or not what the web ACL's first rule refers to. The rules
                that were there are there still.
        """
        rendered = self._rendered(controls)
        with self._writing:
            group = self._group_to_write()
            if group.reported == rendered.version:
                return rendered.version
            listed = list_sets(self._waf, self._name, self._own)
            self._refuse_unfit(rendered, group, listed)
            arns = self._make_sets(rendered, group, listed, writing)
            kept = keep(self._kept_dir, self._name, vars(group)) if group.is_edited else ""
            self._update(rendered, group, arns, writing)
            if kept:
                writing.displaced(
                    f"Rule group {self._own.name} of gateway {self._name} had been changed by "
                    f"another hand and was replaced; {kept}. Make lasting changes in the web ACL."
                )
            self._drop_sets(set(listed) - set(rendered.sets), listed, writing)
            self._wait_reported(rendered.version)
        return rendered.version

    # --- inside --------------------------------------------------------------------------------

    def _rendered(self, controls: Sequence[Control]) -> Rendered:
        return render(controls, self._known, self._own.name)

    def _group_to_write(self) -> Group:
        group = read_group(self._waf, self._name, self._own)
        if group is None:
            raise ProviderRefused(
                f"Gateway {self._name} has no rule group {self._own.name}; nothing was written. "
                f"Make it, with the description `{OWN}`, and let the web ACL refer to it."
            )
        if group.is_foreign:
            raise ProviderRefused(
                f"Rule group {self._own.name} of gateway {self._name} has rules that are not "
                "Firedoor's; nothing was written. Give Firedoor a rule group of its own, or empty "
                f"this one and describe it as `{OWN}`."
            )
        why = why_out_of_force(self._waf, self._name, self._own, self._web_acl)
        if why:
            raise ProviderRefused(
                f"Gateway {self._name} would contain nothing, as {why}; nothing was written. Make "
                "it the web ACL's first rule, with override action None."
            )
        return group

    def _refuse_unfit(
        self, rendered: Rendered, group: Group, listed: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Refuse what is known to be too much before anything is written."""
        problem = problem_of(rendered)
        if not problem and capacity_of(rendered.rules) > group.capacity:
            needed = self._needed(rendered, listed)
            if needed > group.capacity:
                problem = f"{needed} WCU, and rule group {self._own.name} has {group.capacity}"
        if problem:
            raise ProviderRefused(
                f"What is to be in force at gateway {self._name} takes {problem}; the rules that "
                "were there are there still. Lift what is not needed, or give Firedoor a larger "
                "rule group: the capacity of this one cannot be changed."
            )

    def _needed(self, rendered: Rendered, listed: Mapping[str, Mapping[str, Any]]) -> int:
        """Return what rules take in WCU: what AWS says, or, if it does not say, what its
        documentation does, which may be too much."""
        if set(rendered.sets) <= set(listed):
            arns = {name: str(listed[name]["ARN"]) for name in rendered.sets}
            rules = [with_arns(rule, arns) for rule in rendered.rules]
            with contextlib.suppress(ProviderUnreachable, KeyError, TypeError, ValueError):
                answer = self._waf.find("check_capacity", Scope=self._own.scope, Rules=rules)
                return int((answer or {})["Capacity"])
        return capacity_of(rendered.rules)

    def _make_sets(
        self,
        rendered: Rendered,
        group: Group,
        listed: Mapping[str, Mapping[str, Any]],
        writing: Writing,
    ) -> dict[str, str]:
        """Make the IP sets that are missing, mend those that are not as named; return ARNs."""
        arns = {}
        for name, addresses in rendered.sets.items():
            if name not in listed:
                writing.begin()
                made = self._waf.write(
                    "create_ip_set",
                    Name=name,
                    Scope=self._own.scope,
                    Description=f"{OWN} {self._own.name}",
                    IPAddressVersion=f"IPV{ipaddress.ip_network(addresses[0]).version}",
                    Addresses=list(addresses),
                    Tags=[{"Key": OWN, "Value": self._own.name}],
                )
                arns[name] = str(made["Summary"]["ARN"])
                continue
            arns[name] = str(listed[name]["ARN"])
            if name in group.wrong_sets:
                writing.begin()
                self._waf.write(
                    "update_ip_set",
                    Name=name,
                    Scope=self._own.scope,
                    Id=listed[name]["Id"],
                    Addresses=list(addresses),
                    LockToken=listed[name]["LockToken"],
                )
        return arns

    def _update(
        self, rendered: Rendered, group: Group, arns: Mapping[str, str], writing: Writing
    ) -> None:
        bodies = {"CustomResponseBodies": rendered.bodies} if rendered.bodies else {}
        writing.begin()
        self._waf.write(
            "update_rule_group",
            Name=self._own.name,
            Scope=self._own.scope,
            Id=self._own.id,
            Description=described(rendered.version) if rendered.rules else OWN,
            Rules=[with_arns(rule, arns) for rule in rendered.rules],
            VisibilityConfig=group.visibility,
            LockToken=group.token,
            **bodies,
        )

    def _drop_sets(
        self, unused: Iterable[str], listed: Mapping[str, Mapping[str, Any]], writing: Writing
    ) -> None:
        """Remove IP sets that nothing refers to any more. They do nothing, so that WAFv2 does not
        let go of one yet is no failure: it is removed with the next change."""
        for name in sorted(unused):
            writing.begin()
            with contextlib.suppress(ProviderRefused, ProviderUnreachable):
                self._waf.write(
                    "delete_ip_set",
                    Name=name,
                    Scope=self._own.scope,
                    Id=listed[name]["Id"],
                    LockToken=listed[name]["LockToken"],
                )

    def _wait_reported(self, wanted: str) -> None:
        began = time.monotonic()
        while True:
            seen = self.observe()
            if seen == wanted:
                return
            if time.monotonic() - began > self._take_timeout_s:
                raise ProviderUnreachable(
                    f"Gateway {self._name} reports version {seen or '(none)'} after {wanted} was "
                    "written; the containment may not be in force. It is tried again; look at "
                    f"rule group {self._own.name} if it stays so."
                )
            time.sleep(POLL_S)

    def _counted(self, rule: str, group_metric: str) -> int:
        now = datetime.fromtimestamp(time.time(), UTC)
        dimensions = {"Rule": rule, "RuleGroup": group_metric}
        if self._own.scope == "REGIONAL":
            dimensions["Region"] = self._own.region
        answer = self._metrics.find(
            "get_metric_statistics",
            Namespace="AWS/WAFV2",
            MetricName="CountedRequests",
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - HITS_FOR,
            EndTime=now + timedelta(seconds=60),
            Period=HITS_PERIOD_S,
            Statistics=["Sum"],
        )
        return round(sum(float(each["Sum"]) for each in (answer or {}).get("Datapoints", [])))


def _unknowable(principal: Principal) -> str:
    """Say why AWS WAF cannot tell a caller; empty if it can."""
    match principal.kind:
        case PrincipalKind.CLAIM:
            return "AWS WAF verifies no tokens, so whoever writes one could frame another caller"
        case PrincipalKind.API_KEY:
            return "AWS WAF checks no API keys"
        case _ if principal.value.endswith("/0"):
            return "AWS WAF takes no network that is everybody"
    return ""
