"""What a set of controls is as rules of AWS WAFv2, read as its documentation says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from actions.gateway.adapters.aws_waf.group import entity
from actions.gateway.adapters.aws_waf.rules import (
    MAX_RATE_RULES,
    Rendered,
    capacity_of,
    is_too_long,
    limit_of,
    problem_of,
    render,
    set_name,
    shadow_id,
)
from actions.gateway.rules import OVERRIDE_HEADERS
from actions.gateway.variants import variants
from bot.errors import BadInput
from bot.model.answers import CLOSED, THROTTLED
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from tests.gateways.standins.waf_reading import Reading, Request, read

ORDER = "/api/orders/{order_id}"
KNOWN = ("GET /api/orders/{order_id}", "GET /api/orders/export", "GET /api/customers/me")


def control(kind: ControlKind, path: str = ORDER, method: str = "GET", **more: Any) -> Control:
    return Control(kind=kind, method=method, path=path, **more)


def addresses(*values: str) -> tuple[Principal, ...]:
    return tuple(Principal(kind=PrincipalKind.IP, value=value) for value in values)


def rendered(*controls: Control) -> Rendered:
    return render(controls, KNOWN, "firedoor-edge")


def reading(made: Rendered, path: str, **more: Any) -> Reading:
    return read(made.rules, made.sets, Request(path=path, **more))


CLOSE = control(ControlKind.CLOSE)


class TestClose:
    def test_method_is_closed_and_the_rest_is_not(self) -> None:
        """
        A closed method answers 503 by every spelling of it; other methods, the neighbours and a
        more specific endpoint are served.
        """
        made = rendered(CLOSE)

        assert reading(made, "/api/orders/4001").blocked == "closed"
        assert reading(made, "/api/orders/4001", method="HEAD").blocked == "closed"
        assert reading(made, "/api/orders/4001", method="DELETE").blocked is None
        for path in ("/api/orders", "/api/orders/export", "/api/customers/me", "/api/orders/1/x"):
            assert reading(made, path).blocked is None

    def test_route_is_closed_for_every_method(self) -> None:
        """
        A closed route answers 503 whatever the method.
        """
        made = rendered(control(ControlKind.CLOSE, method=ANY_METHOD))

        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert reading(made, "/api/orders/4001", method=method).blocked == "closed"

    def test_no_spelling_gets_past(self) -> None:
        """
        Every spelling that a service behind it may take for the path is closed too. Those that
        only a service that decodes twice would take, or one that does not tell cases apart, are
        spellings of another path; and a load balancer of AWS takes the host off a path, and drops
        headers with underscores, itself. Where services take a path from a header or a method from
        a query, the proof tells.
        """
        made, passed = rendered(CLOSE), []
        tried = variants("GET", "/api/orders/4001", [])
        for variant in (v for v in tried if not v.rewrites and "_method" not in v.name):
            headers = {name.lower(): value for name, value in variant.headers.items()}
            found = reading(made, variant.path, method=variant.method, headers=headers)
            if found.blocked is None:
                passed.append(variant.name)

        assert passed == [
            "double encoded slash",
            "overlong slash",
            "double encoded letter",
            "upper case",
            "absolute form",
            "POST with X_HTTP_Method_Override",
            "POST with X_HTTP_Method",
            "POST with X_Method_Override",
        ]

    @pytest.mark.parametrize("header", OVERRIDE_HEADERS)
    @pytest.mark.parametrize("value", ["GET", "get", " GeT ", "head"])
    def test_method_override_counts(self, header: str, value: str) -> None:
        """
        A POST that says it is a GET is one, even if something else is held for POST.
        """
        block = control(ControlKind.BLOCK, method="POST", principals=addresses("203.0.113.7"))
        made = rendered(CLOSE, block)

        found = reading(made, "/api/orders/1", method="POST", headers={header: value})

        assert found.blocked == "closed"

    def test_answer_is_firedoors(self) -> None:
        """
        Status, headers and body are those of every gateway, but for the type of content, which
        WAFv2 does not let anybody choose.
        """
        (_, rule) = rendered(control(ControlKind.CLOSE, path="/api/login")).rules
        response = rule["Action"]["Block"]["CustomResponse"]

        assert response["ResponseCode"] == 503
        headers = {each["Name"]: each["Value"] for each in response["ResponseHeaders"]}
        assert headers == {k: v for k, v in CLOSED.headers.items() if k != "content-type"}
        body = rendered(CLOSE).bodies[response["CustomResponseBodyKey"]]
        assert (body["ContentType"], body["Content"]) == ("APPLICATION_JSON", CLOSED.body)


class TestCallers:
    def test_blocked_addresses_are_refused(self) -> None:
        """
        Blocks of several incidents on one endpoint refuse all whom they name, IPv4 and IPv6.
        """
        made = rendered(
            control(ControlKind.BLOCK, principals=addresses("203.0.113.7", "2001:db8::/32")),
            control(ControlKind.BLOCK, principals=addresses("198.51.100.0/24")),
        )

        for address in ("203.0.113.7", "198.51.100.9", "2001:db8::1"):
            assert reading(made, "/api/orders/1", address=address).blocked == "refused"
        assert reading(made, "/api/orders/1", address="203.0.113.8").blocked is None
        assert reading(made, "/api/orders", address="203.0.113.7").blocked is None

    def test_caller_must_be_on_each_list(self) -> None:
        """
        Each control that allows only some holds.
        """
        made = rendered(
            control(ControlKind.ALLOW_ONLY, principals=addresses("10.0.0.1", "10.0.0.2")),
            control(ControlKind.ALLOW_ONLY, principals=addresses("10.0.0.2", "10.0.0.3")),
        )
        found = [
            reading(made, "/api/orders/1", address=f"10.0.0.{last}").blocked for last in (1, 2, 3)
        ]

        assert found == ["refused", None, "refused"]

    def test_set_is_named_for_what_it_holds(self) -> None:
        """
        Equal addresses have one set, in whatever order and spelling AWS gives them back.
        """
        expanded = "2001:0db8:0000:0000:0000:0000:0000:0000/32"

        assert set_name("p", ["2001:db8::/32"]) == set_name("p", [expanded])
        assert set_name("p", ["10.0.0.0/8", "192.0.2.0/24"]) == set_name(
            "p", ["192.0.2.0/24", "10.0.0.0/8"]
        )
        assert set_name("p", ["10.0.0.0/8"]) != set_name("p", ["10.0.0.0/9"])


class TestThrottle:
    @pytest.mark.parametrize(
        ("rate", "expected"),
        [
            (1.0, (60, 60)),
            (0.5, (30, 60)),
            (1 / 6, (10, 60)),
            (0.1, (12, 120)),
            (1 / 60, (10, 600)),
            (1 / 61, None),
        ],
    )
    def test_limit_is_counted_over_the_shortest_time_that_can(
        self, rate: float, expected: tuple[int, int] | None
    ) -> None:
        """
        WAFv2 takes no limit below ten, so a low rate is counted over a longer time; never more
        than the rate says is let through on average.
        """
        assert limit_of(rate) == expected

    def test_it_counts_all_callers_of_the_endpoint(self) -> None:
        """
        A rate is over all callers, and over nobody else's endpoint.
        """
        made = rendered(control(ControlKind.THROTTLE, rate_per_s=1.0))

        assert len(reading(made, "/api/orders/1").limited) == 1
        assert reading(made, "/api/orders/export").limited == []
        (limit,) = [r for r in made.rules if "RateBasedStatement" in r["Statement"]]
        assert limit["Statement"]["RateBasedStatement"]["AggregateKeyType"] == "CONSTANT"
        assert limit["Action"]["Block"]["CustomResponse"]["ResponseCode"] == THROTTLED.status


class TestShadow:
    def test_it_counts_and_blocks_nobody(self) -> None:
        """
        Who would be refused is counted by a rule of the shadow's own name, and served.
        """
        shadow = control(
            ControlKind.SHADOW, would=ControlKind.BLOCK, principals=addresses("203.0.113.7")
        )
        made = rendered(shadow)

        caught = reading(made, "/api/orders/1", address="203.0.113.7")
        other = reading(made, "/api/orders/1", address="203.0.113.8")

        def mine(found: Reading) -> list[str]:
            return [name for name in found.counted if shadow_id(shadow) in name]

        assert (caught.blocked, len(mine(caught))) == (None, 1)
        assert (other.blocked, mine(other)) == (None, [])


class TestForm:
    def test_it_is_of_the_form_that_wafv2_takes(self) -> None:
        """
        Names, labels and headers are of the characters that the API allows, and each name and each
        priority is there once.
        """
        made = rendered(
            CLOSE,
            control(ControlKind.THROTTLE, path="/a:b/{c}.json", rate_per_s=2.0),
            control(ControlKind.BLOCK, path="/ü/{c}", principals=addresses("203.0.113.7")),
            control(ControlKind.SHADOW, path="/s", would=ControlKind.CLOSE),
        )

        names = [rule["Name"] for rule in made.rules]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[\w-]{1,128}", name) for name in [*names, *made.sets])
        assert [rule["Priority"] for rule in made.rules] == list(range(len(names)))
        labels = re.findall(r'"(?:Name|Key)": "(firedoor:[^"]*)"', json.dumps(made.rules))
        assert labels
        assert all(re.fullmatch(r"[0-9A-Za-z_\-:]+", label) for label in labels)

    def test_nothing_ends_the_web_acl_early(self) -> None:
        """
        No rule allows: that would switch the rules off that the operator has after ours.
        """
        made = rendered(CLOSE, control(ControlKind.THROTTLE, method="POST", rate_per_s=2.0))

        assert not [rule for rule in made.rules if "Allow" in rule["Action"]]

    def test_no_controls_are_no_rules(self) -> None:
        """
        With nothing in force the rule group is empty.
        """
        assert rendered() == Rendered()

    def test_what_it_takes_is_what_the_class_says(self) -> None:
        """
        The figures in the adapter's docstring are those of the rendered rules.
        """
        odd, kept_out, closed = rendered(CLOSE).rules
        assert [capacity_of([each]) for each in (odd, kept_out, closed)] == [13, 39, 79]
        throttle = control(ControlKind.THROTTLE, path="/api/login", rate_per_s=2.0)
        assert capacity_of(rendered(throttle).rules) == 13 + 42

    def test_too_much_is_named(self) -> None:
        """
        What exceeds a fixed quota is said in its words.
        """
        limits = [
            control(ControlKind.THROTTLE, path=f"/limited/{number}", rate_per_s=1.0)
            for number in range(MAX_RATE_RULES + 1)
        ]

        assert problem_of(rendered(*limits[:-1])) == ""
        assert problem_of(rendered(*limits)) == "5 rate limits, and a rule group takes 4"
        assert not is_too_long(ORDER)
        assert is_too_long("/" + "a/" * 60)

    @pytest.mark.parametrize(
        "arn",
        [
            "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/public/1-2",
            "arn:aws:wafv2:eu-central-1:123456789012:regional/rulegroup/name",
            "firedoor-edge",
        ],
    )
    def test_only_a_rule_group_is_taken_for_one(self, arn: str) -> None:
        """
        A wrong ARN in the settings is refused before anything is asked.
        """
        with pytest.raises(BadInput, match="rulegroup"):
            entity(arn, "rulegroup")

    def test_scope_and_region_are_in_the_arn(self) -> None:
        """
        Of CloudFront's rule groups the scope is CLOUDFRONT.
        """
        arn = "arn:aws:wafv2:us-east-1:123456789012:global/rulegroup/firedoor/1-2"
        found = entity(arn, "rulegroup")

        assert (found.scope, found.region) == ("CLOUDFRONT", "us-east-1")
        assert (found.name, found.id) == ("firedoor", "1-2")
