"""Rendering: what the variables of the file say about requests."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.nginx.conf import exactly, quoted
from actions.gateway.adapters.nginx.render import (
    SLOTS,
    Operator,
    render,
    shadow_id,
    slots_of,
    version_in,
)
from bot.errors import BadInput
from bot.model.answers import CLOSED, REFUSED, THROTTLED
from bot.model.containment import (
    ANY_METHOD,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)
from tests.unit.actions.gateway.nginx_reader import Decisions, parsed, request

PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"
OPERATOR = Operator(
    gateway="edge",
    status_address="127.0.0.1:9145",
    api_key_variable="api_client",
    claim_variables={"sub": "verified_sub", "role": "verified_role"},
)


def control(kind: ControlKind, method: str = "GET", path: str = PATH, **more: Any) -> Control:
    return Control(kind=kind, method=method, path=path, **more)


def close(method: str = "GET", path: str = PATH) -> Control:
    return control(ControlKind.CLOSE, method, path)


def throttle(rate_per_s: float, path: str = PATH) -> Control:
    return control(ControlKind.THROTTLE, path=path, rate_per_s=rate_per_s)


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def key(value: str) -> Principal:
    return Principal(kind=PrincipalKind.API_KEY, value=value)


def block(*principals: Principal, method: str = "GET", path: str = PATH) -> Control:
    return control(ControlKind.BLOCK, method, path, principals=principals)


def allow_only(*principals: Principal) -> Control:
    return control(ControlKind.ALLOW_ONLY, principals=principals)


def file_of(*controls: Control, operator: Operator = OPERATOR, known: Any = ()) -> Decisions:
    return Decisions(render(operator, controls, known))


def answer(file: Decisions, method: str, path: str, **more: str) -> str:
    """Return what is said before a token was verified, and if that is nothing, what after it."""
    asked = request(method, path, **more)
    early = file.value("firedoor_answer", {**asked, "verified_sub": "", "verified_role": ""})
    return early or file.value("firedoor_verified_answer", asked)


class TestClosed:
    def test_method_and_head(self) -> None:
        """
        A closed GET is closed to HEAD as well, and to no other method or path.
        """
        file = file_of(close())

        asked = [answer(file, method, ORDER) for method in ("GET", "HEAD", "DELETE", "GETX")]
        assert asked == ["closed", "closed", "", ""]
        assert answer(file, "GET", "/api/orders") == ""
        assert answer(file, "GET", f"{ORDER}/items") == ""

    def test_whole_route(self) -> None:
        """
        A closed route is closed to every method.
        """
        file = file_of(close(ANY_METHOD))

        assert {answer(file, method, ORDER) for method in ("GET", "PUT", "PURGE")} == {"closed"}

    @pytest.mark.parametrize(
        "header",
        ["http_x_http_method_override", "http_x_http_method", "http_x_method_override"],
    )
    def test_any_override_counts(self, header: str) -> None:
        """
        With a header that makes one method another, any method may be the closed one.
        """
        file = file_of(close())

        assert answer(file, "POST", ORDER, **{header: "PATCH"}) == "closed"
        assert answer(file, "POST", "/api/orders", **{header: "GET"}) == ""

    def test_override_counts_before_another_control_of_its_carrier(self) -> None:
        """
        A POST that is limited is not let through as the PUT that is closed.
        """
        file = file_of(close("PUT"), block(address("10.0.0.0/8"), method="POST"))

        assert answer(file, "POST", ORDER, http_x_http_method="PUT") == "closed"
        assert answer(file, "POST", ORDER) == ""
        assert answer(file, "POST", ORDER, address="10.1.2.3") == "refused"

    def test_decoded_or_sent(self) -> None:
        """
        Closed is what is the endpoint by its decoded path, and what is it by the path as sent.
        """
        file = file_of(close())

        for path in (f"/api//{ORDER[5:]}", "/api%2forders/4001", "/%61pi/orders/4001?a=b"):
            assert answer(file, "GET", path) == "closed"
        assert answer(file, "GET", "/api/orders/a%2fb") == "closed"

    def test_known_endpoint_is_kept_out(self) -> None:
        """
        A more specific endpoint of the inventory is not closed with a template that matches it.
        """
        file = file_of(close(), known=("GET /api/orders/export", "GET /api/orders"))

        assert answer(file, "GET", "/api/orders/export") == ""
        assert answer(file, "GET", "/api/orders/exporter") == "closed"

    def test_case_is_folded_if_the_service_does(self) -> None:
        """
        Where a service takes upper case for the same, upper case is closed too.
        """
        folding = Operator(gateway="edge", status_address="127.0.0.1:1", folds_case=True)

        assert answer(file_of(close()), "GET", ORDER.upper()) == ""
        assert answer(file_of(close(), operator=folding), "GET", ORDER.upper()) == "closed"

    def test_expression_that_fails_lets_nothing_through(self) -> None:
        """
        nginx takes a map's default if an expression fails: then nobody knows what the request is
        for, and it is answered as closed. A mere shadow closes nothing.
        """
        shadow = control(ControlKind.SHADOW, would=ControlKind.CLOSE)
        unsure = {"firedoor_decoded": "unsure"}

        for held in (close(), throttle(1.0), block(subject("c-1"))):
            assert answer(file_of(held), "GET", "/other", **unsure) == "closed"
        assert answer(file_of(shadow), "GET", "/other", **unsure) == ""
        (default,) = [
            entry.words[1]
            for made in file_of(close()).named("map")
            if made.words[-1] == "$firedoor_decoded"
            for entry in made.block
            if entry.words[0] == "default"
        ]
        assert default == "unsure"


class TestCallers:
    def test_blocked_by_address_and_key_before_the_token(self) -> None:
        """
        An address and a key are known at once.
        """
        file = file_of(block(address("10.0.0.0/8"), address("2001:db8::/32"), key("partner-7")))

        assert answer(file, "GET", ORDER) == ""
        for caller in ({"address": "10.9.8.7"}, {"address": "2001:db8::1"}):
            assert answer(file, "GET", ORDER, **caller) == "refused"
        assert answer(file, "GET", ORDER, api_client="partner-7") == "refused"
        assert answer(file, "GET", ORDER, api_client="Partner-7") == ""
        assert answer(file, "GET", "/api/orders", api_client="partner-7") == ""

    def test_claims_only_after_the_token_was_verified(self) -> None:
        """
        Nothing that a claim decides is looked at before that, as nginx would remember it.
        """
        asked = request("GET", ORDER, verified_sub="c-1")
        for held in (
            block(subject("c-1")),
            allow_only(subject("c-2")),
            allow_only(subject("c-2"), address("10.0.0.0/8")),
        ):
            file = file_of(held)
            assert file.value("firedoor_answer", asked) == ""
            assert "verified" not in _names_behind(file, "firedoor_answer")
            assert file.value("firedoor_verified_answer", asked) == "refused"

    def test_every_group_must_hold_the_caller(self) -> None:
        """
        Of two lists of who is allowed a caller must be on both, by whatever they are known there.
        """
        file = file_of(
            allow_only(address("10.0.0.0/8"), key("partner-7")),
            allow_only(subject("c-1"), address("10.0.0.0/16")),
        )

        assert answer(file, "GET", ORDER, address="10.0.0.1") == ""
        assert answer(file, "GET", ORDER, address="10.1.0.1") == "refused"
        assert answer(file, "GET", ORDER, address="10.1.0.1", verified_sub="c-1") == ""
        assert answer(file, "GET", ORDER, api_client="partner-7", verified_sub="c-1") == ""
        assert answer(file, "GET", ORDER, verified_sub="c-1") == "refused"

    def test_a_route_s_block_holds_for_its_methods(self) -> None:
        """
        A control on a whole route is one of each method's that has controls of its own.
        """
        file = file_of(block(address("10.0.0.1"), method=ANY_METHOD), throttle(1.0))

        assert answer(file, "GET", ORDER, address="10.0.0.1") == "refused"
        assert answer(file, "PUT", ORDER, address="10.0.0.1") == "refused"

    def test_either_path_may_refuse(self) -> None:
        """
        If a request is one endpoint decoded and another as sent, the controls of both hold.
        """
        file = file_of(
            block(address("10.0.0.1"), path="/files/{name}"),
            block(address("10.0.0.2"), path="/files/{folder}/{name}"),
        )

        found = [answer(file, "GET", "/files/a%2fb", address=f"10.0.0.{n}") for n in (1, 2, 3)]
        assert found == ["refused", "refused", ""]

    def test_what_it_cannot_tell_apart_is_an_error(self) -> None:
        """
        A principal that nginx is not said to know makes no file, and no variable is made up.
        """
        bare = Operator(gateway="edge", status_address="127.0.0.1:1")
        for principal in (key("partner-7"), subject("c-1")):
            with pytest.raises(BadInput, match="nothing was done"):
                render(bare, [block(principal)])
        with pytest.raises(BadInput, match="no name of an nginx variable"):
            render(Operator("edge", "127.0.0.1:1", api_key_variable="$api_client"), [])


def _names_behind(file: Decisions, name: str) -> str:
    """Return all names of variables that one depends on."""
    words = [
        word
        for made in file.named("map")
        if made.words[-1] == f"${name}"
        for word in (made.words[1], *(word for entry in made.block for word in entry.words))
    ]
    names = re.findall(r"\$(\w+)", " ".join(words))
    return " ".join([*names, *(_names_behind(file, each) for each in names)])


class TestLimits:
    def zone(self, file: Decisions, path: str) -> list[tuple[str, str, str]]:
        """Return what a request is counted under, in which zone, at which rate."""
        found = []
        for line in file.named("limit_req_zone"):
            counted = file.value(line.words[1][1:], request("GET", path))
            if counted:
                found.append((counted, line.words[2], line.words[3]))
        return found

    def test_there_are_always_all_zones(self) -> None:
        """
        The operator's lines name each of them.
        """
        for file in (file_of(), file_of(throttle(5.0))):
            names = [line.words[2] for line in file.named("limit_req_zone")]
            assert names == [f"zone=firedoor_{n + 1}:32k" for n in range(len(SLOTS))]

    def test_endpoint_is_counted_by_itself_however_it_is_spelled(self) -> None:
        """
        One rate is one zone, in which each endpoint is counted for itself; others are not.
        """
        file = file_of(throttle(5.0), throttle(5.0, "/api/orders"), throttle(0.5, "/health"))

        (order,) = self.zone(file, ORDER)
        (orders,) = self.zone(file, "/api/orders")
        (health,) = self.zone(file, "/health")
        assert (order[1:], order[2]) == (orders[1:], "rate=5r/s")
        assert order[0] != orders[0]
        assert (health[2], health[1] == order[1]) == ("rate=30r/m", False)
        assert self.zone(file, "/api//orders/4001?x") == [order]
        assert self.zone(file, "/api/orders/a%2fb") == [order]
        assert self.zone(file, "/api/customers") == []

    def test_closed_is_not_counted(self) -> None:
        """
        A closed endpoint lets nothing through that could be limited.
        """
        assert self.zone(file_of(close(), throttle(5.0)), ORDER) == []

    @given(st.floats(1 / 60, 1_000_000))
    def test_rate_is_never_higher_than_asked_for(self, rate_per_s: float) -> None:
        """
        nginx takes whole requests a second or a minute; what is lost is less than one a minute.
        """
        ((_, _, written),) = self.zone(file_of(throttle(rate_per_s)), ORDER)
        count, unit = re.fullmatch(r"rate=(\d+)r/([sm])", written).groups()  # type: ignore[union-attr]
        made = int(count) / {"s": 1, "m": 60}[unit]

        assert rate_per_s - 1 / 60 < made <= rate_per_s * (1 + 1e-6)

    @given(st.sets(st.floats(1 / 60, 1_000), min_size=1, max_size=len(SLOTS)))
    def test_as_many_rates_as_zones_have_one_each(self, rates: set[float]) -> None:
        """
        No two rates share a zone.
        """
        assert len(set(slots_of(rates).values())) == len(rates)

    @given(st.floats(1 / 60, 1_000_000))
    def test_no_zone_lets_more_through_at_once_than_the_rate_in_a_second(self, rate: float) -> None:
        """
        Of the zones that let no more through, it is one that lets the most.
        """
        size = SLOTS[slots_of([rate])[rate]]

        assert size == max(each for each in SLOTS if each <= max(1.0, rate))

    def test_more_rates_than_zones_lower_the_highest(self) -> None:
        """
        What does not fit is limited more than asked for, and never less.
        """
        rates = [float(n) for n in range(1, len(SLOTS) + 4)]
        slots = slots_of(rates)

        assert len({slots[rate] for rate in rates[: len(SLOTS)]}) == len(SLOTS)
        assert {slots[rate] for rate in rates[len(SLOTS) :]} == {slots[rates[len(SLOTS) - 1]]}
        file = file_of(*(throttle(rate, f"/p/{rate:g}") for rate in rates))
        ((_, _, written),) = self.zone(file, f"/p/{rates[-1]:g}")
        assert written == f"rate={len(SLOTS)}r/s"


class TestShadows:
    def test_a_request_has_the_ids_of_those_that_would_refuse_it(self) -> None:
        """
        Each is counted for itself; none refuses anything.
        """
        blocking = control(
            ControlKind.SHADOW, would=ControlKind.BLOCK, principals=(subject("c-1"),)
        )
        allowing = control(
            ControlKind.SHADOW, would=ControlKind.ALLOW_ONLY, principals=(address("10.0.0.0/8"),)
        )
        closing = control(ControlKind.SHADOW, ANY_METHOD, would=ControlKind.CLOSE)
        file = file_of(blocking, allowing, closing, throttle(1.0))

        def named(method: str, **more: str) -> set[str]:
            return set(file.value("firedoor_shadow", request(method, ORDER, **more)).split())

        ids = {each: shadow_id(each) for each in (blocking, allowing, closing)}
        assert named("GET", verified_sub="c-1") == set(ids.values())
        assert named("GET", address="10.0.0.1") == {ids[closing]}
        assert named("PUT") == {ids[closing]}
        assert answer(file, "GET", ORDER, verified_sub="c-1") == ""
        assert file.value("firedoor_shadow", request("GET", "/health")) == ""


class TestVersion:
    def test_file_says_its_version(self) -> None:
        """
        The first line, the status server and `version_in` agree.
        """
        text = render(OPERATOR, [close()])
        version = version_in(text)

        assert re.fullmatch("[0-9a-f]{12}", version)
        assert text.startswith(f"# Firedoor, version {version}")
        assert f'{{"firedoor": "{version}"}}' in text

    def test_edit_by_hand_has_none(self) -> None:
        """
        A file that is not as it was rendered has no version, whatever it says.
        """
        text = render(OPERATOR, [close()])
        for edited in (text + "\n", text.replace('"closed"', '""'), text[1:], "", "# Firedoor"):
            assert version_in(edited) == ""

    def test_what_the_operator_has_is_part_of_it(self) -> None:
        """
        Another gateway, another address, or another variable that is looked at make another file.
        """
        held = [block(subject("c-1"))]
        others = [
            Operator(gateway, f"127.0.0.1:{port}", claim_variables={"sub": variable})
            for gateway, port, variable in (
                ("edge", 9145, "verified_sub"),
                ("other", 9145, "verified_sub"),
                ("edge", 9146, "verified_sub"),
                ("edge", 9145, "sub"),
            )
        ]

        assert len({version_in(render(each, held)) for each in others}) == len(others)

    @given(st.permutations([close(), throttle(1.0), block(subject("c-1")), close("PUT")]))
    def test_order_and_repetition_are_irrelevant(self, controls: list[Control]) -> None:
        """
        A set of controls is one file.
        """
        expected = render(OPERATOR, [close(), throttle(1.0), block(subject("c-1")), close("PUT")])

        assert render(OPERATOR, [*controls, controls[0]]) == expected


class TestText:
    @given(st.text(string.printable + "é\u2028", max_size=20))
    def test_quoted_text_is_read_as_it_was(self, text: str) -> None:
        """
        One parameter, whatever is in it.
        """
        (directive,) = parsed(f"set {quoted(text)};")

        assert directive.words == ["set", text]

    @given(st.text(string.printable, min_size=1), st.text(string.printable))
    def test_exact_key_matches_its_text_only(self, text: str, other: str) -> None:
        """
        Neither a part nor another case, and no line feed after it.
        """
        (directive,) = parsed(f"{exactly(text)} 1;")
        regex = directive.words[0].removeprefix("~").replace(r"\z", r"\Z")

        assert re.search(regex, text)
        for different in {other, text.swapcase(), f"{text}\n", f"x{text}"} - {text}:
            assert not re.search(regex, different)

    def test_bodies_are_said_without_change(self) -> None:
        """
        The answers are the same as at every gateway. nginx would take a dollar sign for a variable.
        """
        file = file_of()

        for each in (CLOSED, REFUSED, THROTTLED):
            assert file.value(f"firedoor_{each.mark}", {}) == each.body
            assert "$" not in each.body
