"""HAProxy's maps: what they say of a request, and the way from one version to another."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.adapters.haproxy.maps import Maps, Step, lines, parsed, steps
from actions.gateway.adapters.haproxy.render import render, shadow_id, window_of
from bot.errors import BadInput
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is
from tests.unit.actions.gateway import haproxy_lookup as lookup
from tests.unit.actions.gateway.haproxy_lookup import Caller, looked_up

ORDER = "/api/orders/{order_id}"
GET_ORDER = "GET/api/orders/4001"
EXAMPLE = Path(__file__).resolve().parents[4] / "deploy" / "gateways" / "haproxy.example.cfg"
ADDRESSES = ("203.0.113.9", "203.0.113.200", "10.1.2.3", "2001:db8::7", "198.51.100.1")
NETWORKS = ("203.0.113.0/24", "203.0.113.0/28", "10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32")
NAMES = ("c-owner", "c-mallory")


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def control(kind: ControlKind = ControlKind.CLOSE, path: str = ORDER, **more: object) -> Control:
    return Control.model_validate({"kind": kind, "method": "GET", "path": path, **more})


def block(*principals: Principal, path: str = ORDER) -> Control:
    return control(ControlKind.BLOCK, path, principals=principals)


def allow(*principals: Principal, path: str = ORDER) -> Control:
    return control(ControlKind.ALLOW_ONLY, path, principals=principals)


def shadow(would: ControlKind, *principals: Principal) -> Control:
    return control(ControlKind.SHADOW, would=would, principals=principals)


def named(name: str, where: str = ADDRESSES[0]) -> Caller:
    return Caller(address=where, names={"claim.sub": name})


# --- sets of controls, and what they mean --------------------------------------------------------

principals = st.lists(
    st.sampled_from([*map(address, NETWORKS), *map(subject_is, NAMES)]), min_size=1, max_size=3
)
kinds = st.sampled_from([ControlKind.BLOCK, ControlKind.ALLOW_ONLY])
paths = st.sampled_from([ORDER, "/api/orders"])
controls = st.one_of(
    st.builds(control, st.just(ControlKind.CLOSE), paths),
    st.builds(
        lambda kind, path, who: control(kind, path, principals=who), kinds, paths, principals
    ),
    st.builds(lambda kind, who: shadow(kind, *who), kinds, principals),
    st.just(shadow(ControlKind.CLOSE)),
)
# At most four shadows: no more are counted on one endpoint.
sets = st.lists(controls, max_size=5).filter(
    lambda found: len({c for c in found if c.kind is ControlKind.SHADOW}) <= 4
)
callers = st.builds(named, st.sampled_from(NAMES), st.sampled_from(ADDRESSES))


def is_named(caller: Caller, control: Control) -> bool:
    asked = ipaddress.ip_address(caller.address)
    return any(
        asked in ipaddress.ip_network(p.value)
        if p.kind is PrincipalKind.IP
        else caller.names.get("claim.sub") == p.value
        for p in control.principals
    )


def refuses(control: Control, kind: ControlKind | None, caller: Caller) -> bool:
    match kind:
        case ControlKind.BLOCK:
            return is_named(caller, control)
        case ControlKind.ALLOW_ONLY:
            return not is_named(caller, control)
        case _:
            return True


def meant(found: list[Control], path: str, caller: Caller) -> lookup.Found:
    """Return what a set of controls means for a caller, said without any map."""
    here = [c for c in found if c.path == path]
    if any(c.kind is ControlKind.CLOSE for c in here):
        return lookup.Found(lookup.CLOSED)
    shadows = [c for c in here if c.kind is ControlKind.SHADOW]
    refused = any(refuses(c, c.kind, caller) for c in here if c not in shadows)
    counted = frozenset(shadow_id(c) for c in shadows if refuses(c, c.would, caller))
    return lookup.Found(lookup.REFUSED if refused else lookup.PASSED, counted)


class TestRender:
    @given(sets, callers)
    def test_maps_say_what_the_controls_say(self, found: list[Control], caller: Caller) -> None:
        """
        Of every caller at every endpoint, whatever other networks and lists there are.
        """
        maps = render(found)

        assert looked_up(maps, GET_ORDER, caller) == meant(found, ORDER, caller)
        assert looked_up(maps, "GET/api/orders", caller) == meant(found, "/api/orders", caller)
        assert looked_up(maps, "POST/api/orders", caller) == lookup.Found(lookup.PASSED)

    def test_nothing_is_held_without_controls(self) -> None:
        """
        Only the version is there, which no request matches.
        """
        maps = render([], ["GET /api/orders/export"])

        assert maps == Maps(routes=(("$.version", maps.version),))
        for request in ("GET/", "GET/$.version", "$.version", "GET/x\n.version"):
            assert not lookup.word_of(maps.routes, request)

    def test_known_endpoint_is_kept_out(self) -> None:
        """
        What a less specific template would match too is found before it, and is free.
        """
        maps = render([control(method=ANY_METHOD)], ["GET /api/orders/export"])

        assert lookup.word_of(maps.routes, "GET/api/orders/export") == "free"
        assert lookup.word_of(maps.routes, "GET/api/orders/exports") == "closed"
        assert lookup.word_of(maps.routes, "PUT/api/orders/export") == "closed"

    @pytest.mark.parametrize(
        "spelled",
        ["/api/orders/4001/", "/api/orders;v=1/4001", "/api/orders/4001;v=1", "/api/orders/a%2Fb"],
    )
    def test_spellings(self, spelled: str) -> None:
        """
        A path is found as it was sent and as a service reads it.
        """
        assert lookup.word_of(render([control()]).routes, f"GET{spelled}") == "closed"
        assert lookup.word_of(render([control()]).routes, f"HEAD{spelled}") == "closed"
        assert not lookup.word_of(render([control()]).routes, f"POST{spelled}")

    @pytest.mark.parametrize(
        "spelled", ["/api/x/..;/orders/4001", "/;v=1/api/orders", "/a/.;", "/api/%3Bv/orders/1"]
    )
    def test_odd_paths_are_closed_while_anything_is_held(self, spelled: str) -> None:
        """
        A service that drops path parameters before it walks reads them as any other path.
        """
        limited = control(ControlKind.THROTTLE, rate_per_s=1.0)
        known = ["GET /api/orders/export"]

        assert lookup.word_of(render([limited], known).routes, f"PUT{spelled}") == "closed"
        assert not lookup.word_of(render([], known).routes, f"PUT{spelled}")

    @pytest.mark.parametrize(
        "path", ["/a b/{x}", "/a\n$.version x/{x}", "/ü%20{x}", "/#{x}", "/a\\ b"]
    )
    def test_any_path_is_one_line(self, path: str) -> None:
        """
        Whatever is in a template, it can neither end its key nor add a line.
        """
        maps = render([control(path=path)])

        assert parsed("\n".join(lines(maps.routes)).split("\n")) == maps.routes
        assert len(maps.routes) == 3

    def test_decoded_path_of_odd_letters(self) -> None:
        """
        What cannot stand in a key is written as bytes, and matches them.
        """
        (regex, _) = render([control(path="/a b/ü")]).routes[-1]

        assert re.search(regex.encode(), "GET/a b/ü".encode())
        assert re.search(regex.encode(), b"GET/a%20b/%C3%BC")
        assert not re.search(regex.encode(), b"GET/a b/u")

    def test_subjects_are_hashed(self) -> None:
        """
        What a caller is called is in no map, so no name can be a command.
        """
        maps = render([block(subject_is('x"; clear map routes.map'))])

        assert not any("clear" in line for line in lines(maps.members))

    def test_folded_case(self) -> None:
        """
        Where a service does not tell cases apart, a closed endpoint has all of its spellings.
        """
        request = "GET/API/Orders/4001"

        assert lookup.word_of(render([control()], fold_case=True).routes, request) == "closed"
        assert not lookup.word_of(render([control()]).routes, request)

    def test_no_path_keeps_the_expression_busy(self) -> None:
        """
        A path that fails only at its end is done with in a time that grows with its length.
        """
        regex = render([control()]).routes[-1][0]
        began = time.monotonic()

        assert not re.search(regex, f"GET/api/orders/{';' * 15_000}/x")
        assert time.monotonic() - began < 0.5

    @pytest.mark.parametrize(
        ("rate_per_s", "window"),
        [
            (1 / 3600, (1, 3_600_000)),
            (0.3, (1, 3_334)),
            (1.0, (1, 1_000)),
            (2.5, (3, 1_200)),
            (5_000.0, (5_000, 1_000)),
        ],
    )
    def test_window_has_the_rate(self, rate_per_s: float, window: tuple[int, int]) -> None:
        """
        On average so many are let through as the rate says, never more, for any rate.
        """
        found = looked_up(
            render([control(ControlKind.THROTTLE, rate_per_s=rate_per_s)]), GET_ORDER, Caller()
        )

        assert found.limit == window == window_of(rate_per_s)
        assert window[0] / window[1] * 1000 <= rate_per_s * 1.000_001

    def test_more_shadows_than_can_be_counted(self) -> None:
        """
        Five shadows of one endpoint are refused, with a way out.
        """
        found = [shadow(ControlKind.BLOCK, subject_is(f"c-{n}")) for n in range(5)]

        with pytest.raises(BadInput, match="Lift one"):
            render(found)

    def test_path_that_fits_no_line(self) -> None:
        """
        HAProxy would break it in two, so it is refused.
        """
        with pytest.raises(BadInput, match="15000 bytes"):
            render([control(path="/" + "x{y}" * 3_000)])


class TestSteps:
    @given(sets, sets, callers)
    def test_no_moment_lets_a_caller_through(
        self, old: list[Control], new: list[Control], caller: Caller
    ) -> None:
        """
        In each moment a request is answered as of the old set or as of the new one. One whose
        lookups fall into different moments may be refused besides, but passes only if one of the
        sets lets it through.
        """
        before, after = render(old), render(new)
        moments = _moments(before, steps(before, after))
        switch = [m.routes == after.routes for m in moments]
        then, now = meant(old, ORDER, caller), meant(new, ORDER, caller)

        for moment, is_new in zip(moments, switch, strict=True):
            if before.routes != after.routes:
                assert looked_up(moment, GET_ORDER, caller) == (now if is_new else then)
        for first, *later in combinations_with_replacement(moments, 4):
            found = looked_up(first, GET_ORDER, caller, later=later)
            assert found.answer in {then.answer, now.answer, lookup.REFUSED}

    @given(sets, sets)
    def test_they_end_at_what_is_wanted(self, old: list[Control], new: list[Control]) -> None:
        """
        Nothing of the old set is left, each step changes something, and no other hand is seen in
        what is between.
        """
        before, after = render(old), render(new)
        moments = _moments(before, steps(before, after))

        assert moments[-1] == after
        assert len(set(moments)) == len(moments)
        for between in moments[1:-1]:
            assert between.is_ours
            assert _moments(between, steps(between, before))[-1] == before

    def test_close_is_one_step(self) -> None:
        """
        What names no callers is in force with one change.
        """
        assert [step.name for step in steps(render([]), render([control()]))] == ["routes"]

    def test_other_hands_are_not_taken_along(self) -> None:
        """
        What another hand put into a map is gone with the first change of it.
        """
        before = render([block(address("10.0.0.0/8"))])
        edited = Maps(before.routes, before.networks, (*before.members, ("by", "hand")))
        assert not edited.is_ours

        for step in steps(edited, render([block(address("10.0.0.0/9"))])):
            assert ("by", "hand") not in step.entries

    def test_hundreds_of_networks(self) -> None:
        """
        A botnet's addresses are listed within a moment.
        """
        bots = [address(f"10.{n // 200}.{n % 200}.0/24") for n in range(1_000)]
        began = time.monotonic()

        maps = render([block(*bots)])
        way = steps(render([block(*bots[:500]), allow(*bots[:9], path="/x")]), maps)

        assert len(maps.networks) == 1_000
        assert way[-1].name == "members"
        assert time.monotonic() - began < 2.0


def _moments(before: Maps, way: list[Step]) -> list[Maps]:
    """Return the maps before, and after each step."""
    found = [before]
    for step in way:
        now = {name: found[-1].of(name) for name in ("routes", "networks", "members")}
        found.append(Maps(**{**now, step.name: step.entries}))
    return found


class TestExample:
    @pytest.mark.parametrize("answer", [CLOSED, THROTTLED, REFUSED])
    def test_answers_are_those_of_every_gateway(self, answer: ControlAnswer) -> None:
        """
        The operator's configuration gives the same status, headers and bytes.
        """
        said = next(
            line.strip()
            for line in EXAMPLE.read_text().splitlines()
            if f"hdr x-firedoor {answer.mark} " in line
        )

        assert said.startswith(f"http-request return status {answer.status} ")
        assert f"string '{answer.body}'" in said
        assert f"content-type {answer.headers['content-type']} " in said
        for name, value in answer.headers.items():
            if name != "content-type":
                assert f"hdr {name} {value} " in said
        assert json.loads(answer.body)["status"] == answer.status
