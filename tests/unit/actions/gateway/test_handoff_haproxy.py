"""What is particular to HAProxy: words, counters, and who callers are."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.gateway.handoff.haproxy import quoted
from bot.model.containment import ControlKind, Principal, PrincipalKind, subject
from tests.gateways.containments import address, api_key, control, rendered
from tests.unit.actions.gateway.handoff_readers import haproxy_words


@given(text=st.text(st.characters(exclude_characters="\n\r\x00")))
def test_a_quoted_word_is_its_text(text: str) -> None:
    """
    Whatever is in it, it is one word: no variable, no escape, no comment.
    """
    assert haproxy_words(f"acl x {quoted(text)} y") == ["acl", "x", text, "y"]


@pytest.mark.parametrize(
    ("rate_per_s", "count", "period_ms"),
    [(5.0, 5, 1000), (1.0, 2, 2000), (0.5, 2, 4000), (1e-9, 2, 1_000_000_000)],
)
def test_rate(rate_per_s: float, count: int, period_ms: int) -> None:
    """
    So many in a time as the rate says, at least two and in a time that HAProxy can count in; the
    table keeps what it counts for longer than that.
    """
    text = rendered("haproxy", [control(ControlKind.THROTTLE, rate_per_s=rate_per_s)]).text

    assert re.findall(r" ge (\d+) }", text) == [str(count)]
    ((expires, period),) = re.findall(r"expire (\d+)ms store gpc0,gpc0_rate\((\d+)ms\)", text)
    assert (int(period), int(expires)) == (period_ms, 2 * period_ms)
    assert int(expires) < 2**31


class TestCallers:
    def test_only_checked_names_are_believed(self) -> None:
        """
        A caller is told by an address, or by a variable that the operator sets from what HAProxy
        has checked; the head says which. Never by a header of the request.
        """
        callers = (address("203.0.113.7"), api_key("partner-7"), subject("c-1"))
        made = rendered("haproxy", [control(ControlKind.BLOCK, principals=callers)])

        samples = re.findall(r"acl \S+_blocked (\S+)", made.text)
        assert sorted(samples) == ["src", "var(txn.caller_key)", "var(txn.caller_sub)"]
        assert "by txn.caller_key, txn.caller_sub" in made.text
        assert made.unsupported == ()

    def test_claim_that_cannot_name_a_variable(self) -> None:
        """
        Its block is left out, and told.
        """
        claim = Principal(kind=PrincipalKind.CLAIM, claim="https://acme/tenant", value="a")
        callers = (address("203.0.113.7"), claim)
        made = rendered("haproxy", [control(ControlKind.BLOCK, principals=callers)])

        assert any("cannot be called https://acme/tenant" in s for s in made.unsupported)
        assert "_blocked var" not in made.text
