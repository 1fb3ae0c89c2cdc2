"""A patch says what the controls say, in every format: to whom, where, and to nobody else."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from actions.gateway.handoff import FORMATS, Format, envoy, haproxy, kong, nginx, terraform
from actions.gateway.handoff.cases import sayable
from actions.gateway.rules import OVERRIDE_HEADERS, Rules, rules_of
from actions.gateway.templates import ODD_SEGMENT, PARAMETER, path_regex
from bot.model.containment import (
    ANY_METHOD,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)
from tests.gateways.containments import address, api_key, control, rendered
from tests.unit.actions.gateway.handoff_readers import READERS, Request

LANGUAGES = {
    "envoy": envoy.LANGUAGE,
    "haproxy": haproxy.LANGUAGE,
    "nginx": nginx.LANGUAGE,
    "kong": kong.LANGUAGE,
    "terraform-aws-waf": terraform.LANGUAGE,
}
TEMPLATES = (
    "/",
    "/o",
    "/o/{id}",
    "/o/export",
    "/o/{id}/items",
    "/o/export/items",
    "/o/{id}/{part}",
    "/{any}/export",
    "/{any}/{other}",
)
METHODS = ("GET", "POST", "DELETE")
NETWORKS = ("198.51.100.0/24", "198.51.100.7/32", "203.0.113.0/24", "2001:db8::/32")
ADDRESSES = ("198.51.100.1", "198.51.100.7", "203.0.113.9", "2001:db8::1", "192.0.2.1")

CALLERS = (*map(address, NETWORKS), api_key("partner-7"), subject("c-1"))

callers = st.lists(st.sampled_from(CALLERS), min_size=1, max_size=3).map(
    lambda chosen: {"principals": tuple(chosen)}
)
kinds = st.one_of(
    st.just((ControlKind.CLOSE, {})),
    st.just((ControlKind.THROTTLE, {"rate_per_s": 5.0})),
    callers.map(lambda more: (ControlKind.BLOCK, more)),
    callers.map(lambda more: (ControlKind.ALLOW_ONLY, more)),
)
endpoints = st.tuples(st.sampled_from(METHODS), st.sampled_from(TEMPLATES))
controls = st.lists(
    st.builds(
        lambda kind, method, path: control(kind[0], method=method, path=path, **kind[1]),
        kinds,
        st.sampled_from((*METHODS, ANY_METHOD)),
        st.sampled_from(TEMPLATES),
    ),
    min_size=1,
    max_size=4,
)
known = st.lists(endpoints.map(" ".join), min_size=2, max_size=8)
words = st.sampled_from(("o", "export", "items", "4001", "expor", "exports"))
paths = st.builds(
    lambda template, filling, ending: PARAMETER.sub(lambda _: filling.pop(), template) + ending,
    st.sampled_from(TEMPLATES),
    st.lists(words, min_size=2, max_size=2),
    st.sampled_from(("", "", "", ";v=1", "?q=/o", "?q=/;o", "/", "/;v=1", "/..%3b/o")),
).map(lambda path: path.replace("//", "/"))
requests = st.builds(
    Request,
    method=st.sampled_from((*METHODS, "HEAD", "PUT")),
    path=paths,
    headers=st.one_of(
        st.just({}),
        st.builds(
            lambda name, method: {name: method},
            st.sampled_from(OVERRIDE_HEADERS),
            st.sampled_from(("GET", "get", "DELETE", "PUT")),
        ),
    ),
    address=st.sampled_from(ADDRESSES),
    key=st.sampled_from(("", "partner-7", "partner-8")),
    sub=st.sampled_from(("", "c-1", "c-2")),
)


def expected(rules: list[Rules], request: Request) -> set[str]:
    """Return what the first endpoint that a request is of gives it.

    A path that servlet containers read in their own way is of none. With a method override a
    request is of two. What is closed is closed either way; else a language may
    look for the first of both, or for that of the method it was sent with.
    """
    if re.search(ODD_SEGMENT, request.path.partition("?")[0]):
        return {"closed"}
    sent = first(rules, request, {request.method})
    overriding = {value.upper() for value in request.headers.values()}
    if not overriding:
        return {sent}
    meant = first(rules, request, overriding)
    either = first(rules, request, {request.method}, overriding)
    return {"closed" if "closed" in (sent, meant) else sent, either}


def first(
    rules: list[Rules], request: Request, methods: set[str], closing: Collection[str] = ()
) -> str:
    """Return what the first endpoint of the methods gives; a closed one is also of ``closing``."""
    for each in rules:
        taken = {*methods, *closing} if each.closed else methods
        if re.fullmatch(path_regex(each.path), request.path) and (
            not each.methods or taken & set(each.methods)
        ):
            return given_by(each, request)
    return ""


def given_by(rules: Rules, request: Request) -> str:
    me = ipaddress.ip_address(request.address)

    def is_it(principal: Principal) -> bool:
        match principal.kind:
            case PrincipalKind.IP:
                return me in ipaddress.ip_network(principal.value)
            case PrincipalKind.API_KEY:
                return request.key == principal.value
            case PrincipalKind.CLAIM:
                return request.sub == principal.value

    def is_one_of(principals: Sequence[Principal]) -> bool:
        return any(map(is_it, principals))

    if rules.closed:
        return "closed"
    if is_one_of(rules.blocked) or not all(map(is_one_of, rules.allowed)):
        return "refused"
    return "limited" if rules.rate_per_s is not None else ""


@pytest.mark.parametrize("format_", FORMATS)
# Without the phase that explains a failure: it runs everything again, line by line.
@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink))
@given(controls=controls, known=known, asked=st.lists(requests, min_size=8, max_size=8))
def test_it_says_what_the_controls_say(
    format_: Format, controls: list[Control], known: list[str], asked: list[Request]
) -> None:
    """
    Each request gets what the first endpoint that it is of gives it: closed, refused, limited or
    nothing. A method override counts on a close; where it could be of two endpoints, a format may
    look at either. What the format cannot tell is left out.
    """
    if format_ == "kong":
        # The rest is done by plugins on routes that are the operator's.
        controls = [control(ControlKind.CLOSE, method=c.method, path=c.path) for c in controls]
    rules = [sayable(each, LANGUAGES[format_])[0] for each in rules_of(controls, known)]
    assume(any(each.is_contained for each in rules))

    read = READERS[format_](rendered(format_, controls, known=known).text)

    for each in asked:
        assert read(each) in expected(rules, each)


@pytest.mark.parametrize("format_", sorted(set(FORMATS) - {"kong"}))
@pytest.mark.parametrize("said", ["GET", "get", "POST, GET", "GET,POST", " get "])
def test_an_override_in_a_list_is_closed_too(format_: Format, said: str) -> None:
    """
    Of several values services take the first, or the last. Kong compares a header as a whole.
    """
    read = READERS[format_](rendered(format_, [control(path="/o/{id}")]).text)

    for header in OVERRIDE_HEADERS:
        assert read(Request("POST", "/o/4001", {header: said})) == "closed"
        assert read(Request("POST", "/o/4001", {header: "FORGET"})) == ""
