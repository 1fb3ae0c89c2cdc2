"""What every patch has, whatever its format: a head, names of its own, and honesty."""

from __future__ import annotations

import re
import string
import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.handoff import FORMATS, Format, Patch, chosen, patch
from actions.gateway.handoff.cases import Case, Requests, draft_of
from actions.gateway.handoff.texts import decoded_regex, one_line, raw_regex
from actions.gateway.rules import Rules, rules_of
from actions.gateway.templates import decoded_regex as decoded_regex_of_a_close
from actions.gateway.templates import path_regex
from bot.errors import BadInput, NotFound
from bot.model.containment import ANY_METHOD, ControlKind, subject
from tests.gateways.containments import (
    NOW,
    ORDER,
    address,
    api_key,
    containment,
    control,
    rendered,
)
from tests.gateways.hostile import HOSTILE, TEMPLATES

EXPORT = "/api/orders/export"


@pytest.fixture(params=FORMATS)
def format_(request: pytest.FixtureRequest) -> Format:
    return request.param


def head_of(made: Patch) -> list[str]:
    """The comment lines that a text begins with."""
    lines = made.text.splitlines()
    return lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]


class TestHead:
    def test_it_says_what_it_is_whose_why_and_until_when(self, format_: Format) -> None:
        """
        Incident, gateway, and of each containment the id, control, owner, reason, beginning and
        expiry in UTC; the day by which the patch is to be removed; and that Firedoor holds the
        same until then.
        """
        two = [
            containment(),
            containment(
                control(path="/api/customers/me"),
                id="INC-7-R2.block",
                owner="slack:U0SAM",
                expires_at=NOW + timedelta(days=2),
            ),
        ]
        made = patch(format_, [c.control for c in two], containments=two, known=())

        head = "\n".join(head_of(made))
        assert "containment of INC-7 at gateway edge" in head
        for said in (
            "Containment INC-7-R1.close of INC-7",
            "Containment INC-7-R2.block of INC-7",
            f"Control:  GET {ORDER}: closed (503)",
            "Owner:    slack:U0IRIS",
            "Owner:    slack:U0SAM",
            "Reason:   Cross-owner reads",
            "Since:    2026-11-23 12:00 UTC",
            "Expires:  2026-11-23 16:00 UTC",
            "Expires:  2026-11-25 12:00 UTC",
            "Remove by: 2026-11-23",
            "Until 2026-11-23 16:00 UTC Firedoor holds the same",
        ):
            assert said in head

    def test_the_same_containments_make_the_same_text(self, format_: Format) -> None:
        """
        Rendered again, a patch is the same file: a pull request does not change by itself.
        """
        assert rendered(format_, [control()]) == rendered(format_, [control()])

    def test_file_name(self, format_: Format) -> None:
        """
        It names the incident and the gateway, and is a plain name, whatever these are called.
        """
        assert rendered(format_, [control()]).file_name.startswith("firedoor-INC-7-edge.")
        hostile = rendered(format_, [control()], incident_id="../../etc/x y", gateway="a/b\n")
        assert set(hostile.file_name) <= set(string.ascii_letters + string.digits + "-.")
        assert ".." not in hostile.file_name

    def test_what_others_wrote_is_one_line_of_a_comment(self, format_: Format) -> None:
        """
        No owner, reason, id or gateway can end the comment that it stands in: the configuration
        is the same, and so is the number of lines.
        """
        plain = rendered(format_, [control()])
        hostile = rendered(
            format_,
            [control()],
            **dict.fromkeys(("owner", "reason", "id", "incident_id", "gateway"), HOSTILE),
        )

        assert len(head_of(hostile)) == len(head_of(plain))
        bodies = [made.text.splitlines()[len(head_of(made)) :] for made in (plain, hostile)]
        assert bodies[0] == bodies[1]

    @given(text=st.text())
    def test_one_line(self, text: str) -> None:
        """
        It is one line of what can be seen, for every program's idea of a line.
        """
        shown = one_line(text)

        assert shown.isprintable()
        assert len(shown.splitlines()) <= 1

    def test_long_text_is_cut(self) -> None:
        """
        A reason of pages does not hide what comes after it.
        """
        assert len(one_line("x" * 10_000)) < 400

    def test_deck_reads_no_variable_in_a_comment(self) -> None:
        """
        decK puts variables in wherever they stand: an environment's secrets are not for a reason
        to name.
        """
        made = rendered("kong", [control()], reason='${{ env "DECK_TOKEN" }} $${{x}}')

        assert "${{" not in made.text


class TestLeftOut:
    def test_shadow(self, format_: Format) -> None:
        """
        A shadow changes nothing at a gateway, so there is nothing to hand off.
        """
        shadow = control(ControlKind.SHADOW, would=ControlKind.CLOSE)
        made = rendered(format_, [shadow, control(path="/api/login", method="POST")])

        assert any("The shadow on GET /api/orders/{order_id}" in s for s in made.unsupported)
        with pytest.raises(BadInput, match="Nothing of it can be said"):
            rendered(format_, [shadow])

    @pytest.mark.parametrize(
        ("format_", "caller", "why"),
        [
            ("envoy", api_key("partner-7"), "is not known here"),
            ("nginx", subject("c-1"), "verifies no tokens"),
            ("kong", subject("c-1"), "no plugin"),
            ("kong", api_key("${{x"), "as a variable"),
            ("terraform-aws-waf", subject("c-1"), "verifies no tokens"),
            ("terraform-aws-waf", api_key("partner-7"), "checks no keys"),
            ("haproxy", subject("c-\u00fc"), "ASCII"),
        ],
    )
    def test_caller_that_a_format_cannot_tell(self, format_, caller, why) -> None:
        """
        The block of that caller is left out and told, in the text too; the others are refused.
        """
        callers = (address("203.0.113.7"), caller)
        made = rendered(format_, [control(ControlKind.BLOCK, principals=callers)])

        told = [s for s in made.unsupported if s.startswith(f"The block of {caller} on GET")]
        assert len(told) == 1
        assert why in told[0]
        assert why in "\n".join(head_of(made))
        body = "\n".join(made.text.splitlines()[len(head_of(made)) :])
        assert "203.0.113.7" in body

    def test_list_with_somebody_who_cannot_be_told(self, format_: Format) -> None:
        """
        A list of the allowed without one of them would refuse somebody whom Firedoor lets
        through. So it is left out as a whole.
        """
        callers = (address("203.0.113.7"), api_key("partner-7"), subject("c-1"))
        only = control(ControlKind.ALLOW_ONLY, principals=callers)
        made = rendered(format_, [only, control(path="/api/login", method="POST")])

        assert any(s.startswith("Letting only") for s in made.unsupported)
        body = "\n".join(made.text.splitlines()[len(head_of(made)) :])
        assert "203.0.113.7" not in body

    def test_path_too_long(self) -> None:
        """
        What a language takes no expression for is left out; so is what would have to keep such a
        path out of its own.
        """
        long = "/api/" + "segment-of-a-long-path/" * 40
        made = rendered("terraform-aws-waf", [control(path=long), control()])
        assert any("has more than 512 characters" in s for s in made.unsupported)

        long_one = f"/api/{'x' * 600}"
        with pytest.raises(BadInput, match="more than 512 characters"):
            rendered("terraform-aws-waf", [control(path="/api/{id}")], known=[f"GET {long_one}"])

    def test_no_method(self, format_: Format) -> None:
        """
        A method that no request can have is refused, not written down.
        """
        with pytest.raises(BadInput, match="no HTTP method"):
            rendered(format_, [control(method="GET\nX")])


class TestChosen:
    def test_each_once(self) -> None:
        """
        Asking for one twice is asking for it.
        """
        held = containment()
        assert chosen([held.id, held.id], {held.id: held}.get, NOW) == [held]

    def test_unknown(self) -> None:
        """
        An id of nothing is an error that says where ids are found.
        """
        with pytest.raises(NotFound, match="no containment INC-9"):
            chosen(["INC-9"], {}.get, NOW)

    @pytest.mark.parametrize("changes", [{"lifted_at": NOW, "lifted_by": "x"}, {"expires_at": NOW}])
    def test_over(self, changes) -> None:
        """
        A patch of what is over would hold it again.
        """
        held = containment(**changes)
        with pytest.raises(BadInput, match="is over"):
            chosen([held.id], {held.id: held}.get, NOW)

    def test_several_gateways(self) -> None:
        """
        One gateway's configuration says nothing about another's endpoints.
        """
        held = {g: containment(id=g, gateway=g) for g in ("edge", "inner")}
        with pytest.raises(BadInput, match="gateways edge, inner"):
            chosen(held, held.get, NOW)


class TestCases:
    def case(self, rules: list[Rules], path: str, method: str) -> Case:
        return next(
            c for c in draft_of(rules).cases if (c.rules.path, c.rules.method) == (path, method)
        )

    def test_more_specific_endpoint_is_kept_out(self) -> None:
        """
        By its own methods, and of a closed route by those only.
        """
        rules = rules_of([control(method=ANY_METHOD)], [f"GET {EXPORT}"])

        assert self.case(rules, ORDER, ANY_METHOD).requests() == [
            Requests(("GET", "HEAD"), False, (EXPORT,)),
            Requests(("GET", "HEAD"), True, ()),
        ]

    def test_method_beside_its_route(self) -> None:
        """
        Requests that a control on one method has are none of the route's.
        """
        rules = rules_of(
            [
                control(method=ANY_METHOD),
                control(ControlKind.THROTTLE, method="POST", rate_per_s=1.0),
            ]
        )

        assert self.case(rules, ORDER, ANY_METHOD).requests() == [
            Requests(("POST",), True, ()),
        ]

    def test_far_endpoint_is_none_of_its_business(self) -> None:
        """
        Only templates that one path can be of keep each other out.
        """
        rules = rules_of([control(), control(path="/api/customers/me")])

        assert self.case(rules, ORDER, "GET").requests() == [
            Requests(("GET", "HEAD"), False, ()),
        ]

    def test_names_are_of_what_is_said(self, format_: Format) -> None:
        """
        Two patches that say something else have no name in common, so both can stand in one
        configuration.
        """
        one = draft_of(rules_of([control()]))
        other = draft_of(rules_of([control(path="/api/customers/me")]))
        slower = draft_of(rules_of([control(ControlKind.THROTTLE, rate_per_s=1.0)]))
        slow = draft_of(rules_of([control(ControlKind.THROTTLE, rate_per_s=2.0)]))

        assert len({one.tag, other.tag, slower.tag, slow.tag}) == 4


class TestExpressions:
    @pytest.mark.parametrize("template", [*TEMPLATES, ORDER, "/", "/a/{x}-{y}.json", "/{a}{b}/c"])
    @pytest.mark.parametrize("backtracking", [True, False])
    def test_they_are_ascii_on_one_line(self, template: str, backtracking: bool) -> None:
        """
        Nothing in them can end a line, whatever a path holds.
        """
        for regex in (raw_regex, decoded_regex):
            made = regex(template, backtracking=backtracking)
            assert made.isascii()
            assert made.isprintable()

    @given(
        template=st.sampled_from(["/a", "/a/{x}", "/a/{x}-{y}.j", "/{x}/b", "/%41/{x}"]),
        path=st.text(alphabet="aAb/;-.j?v1%4", max_size=14).map(lambda text: f"/{text}"),
    )
    def test_they_match_what_a_live_close_does(self, template: str, path: str) -> None:
        """
        With and without backtracking they are the same set of paths.
        """
        for own, live in (
            (raw_regex, path_regex),
            (decoded_regex, decoded_regex_of_a_close),
        ):
            wanted = re.fullmatch(live(template), path) is not None
            for backtracking in (False, True):
                found = re.search(own(template, backtracking=backtracking), path)
                assert (found is not None) == wanted

    def test_semicolons_cost_no_time(self) -> None:
        """
        A caller cannot keep a gateway busy with a path that nearly matches.
        """
        templates = ("/a/{x}", "/a/{x}.j/b", "/a/{x}.{y}.{z}/b", "/{x}/{y}/{z}", "/a/{x};{y}/c")
        began = time.process_time()
        for text in (";", ".j;", ".", "a;"):
            # As long as nginx lets a request's first line be.
            path = f"/a/{text * (8_000 // len(text))}//x"
            for template in templates:
                assert not re.search(raw_regex(template, backtracking=True), path)
                assert not re.search(decoded_regex(template, backtracking=True), path)
        assert time.process_time() - began < 1.0
