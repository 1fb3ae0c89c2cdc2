"""Controls and principals: one spelling of each, and those of version 0.1."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bot.model.containment import (
    ANY_METHOD,
    Control,
    ControlKind,
    Principal,
    PrincipalKind,
    subject,
)


def ip(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


class TestPrincipal:
    @pytest.mark.parametrize(
        ("written", "kept"),
        [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::FFFF:203.0.113.0/120", "203.0.113.0/24"),
            ("::/0", "::/0"),
        ],
    )
    def test_a_network_has_one_spelling(self, written, kept):
        """
        Equal networks are equal, however they were written.
        """
        assert ip(written).value == kept

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "everybody",
            "10.0.0.1/33",
            "10.0.0.1 or 1",
            "fe80::1%eth0",
            "fe80::1%x 1; } server { listen 81; } geo $y {",
            "fe80::1%x} or true or ip.src in {192.0.2.1",
        ],
    )
    def test_what_is_no_address_is_refused(self, text):
        """
        A typing error blocks nobody, and is said.
        """
        with pytest.raises(ValidationError):
            ip(text)

    def test_a_claim_is_the_subject_unless_said(self):
        """
        `sub` is what a token is about.
        """
        assert Principal(kind=PrincipalKind.CLAIM, value="c-1") == subject("c-1")

    @pytest.mark.parametrize("value", ["a\nb", "a\x00", "\u202eabc"])
    def test_a_value_is_printable(self, value):
        """
        Nothing in it can end a line of a gateway's configuration, or hide what is read.
        """
        with pytest.raises(ValidationError):
            subject(value)

    @pytest.mark.parametrize("claim", ["a b", "", "a'b", "x" * 129])
    def test_a_claims_name_is_a_word(self, claim):
        """
        Names go into expressions; they have no quotes or spaces.
        """
        with pytest.raises(ValidationError):
            Principal(kind=PrincipalKind.CLAIM, value="v", claim=claim) if claim else ip(claim)

    def test_a_claim_belongs_to_a_claim(self):
        """
        An address has none.
        """
        with pytest.raises(ValidationError, match="goes with kind claim"):
            Principal(kind=PrincipalKind.IP, value="10.0.0.1", claim="sub")


class TestControl:
    def test_principals_are_a_set(self):
        """
        Order and repetition make no other control.
        """
        one, other = ip("10.0.0.1"), ip("10.0.0.2")
        made = {"kind": ControlKind.BLOCK, "method": "GET", "path": "/a"}

        assert Control(**made, principals=(one, other, one)) == Control(
            **made, principals=(other, one)
        )

    @pytest.mark.parametrize(
        ("method", "endpoint", "expected"),
        [
            ("GET", "GET /a", True),
            ("GET", "POST /a", False),
            ("GET", "GET /b", False),
            (ANY_METHOD, "POST /a", True),
            ("GET", f"{ANY_METHOD} /a", True),
            (ANY_METHOD, f"{ANY_METHOD} /b", False),
        ],
    )
    def test_what_it_concerns(self, method, endpoint, expected):
        """
        A whole route concerns each of its methods, and the other way round.
        """
        control = Control(kind=ControlKind.CLOSE, method=method, path="/a")

        assert control.concerns(endpoint) is expected

    @pytest.mark.parametrize(
        ("method", "expected"), [("GET", "GET /a"), (ANY_METHOD, "every method of /a")]
    )
    def test_what_people_are_told_it_is_on(self, method, expected):
        """
        Nobody has to know what a star means.
        """
        assert Control(kind=ControlKind.CLOSE, method=method, path="/a").place == expected


class TestVersion01:
    def test_a_block_of_a_principal_is_a_block_of_a_subject(self):
        """
        What version 0.1 has put in force is still in force, and means the same.
        """
        old = {
            "kind": "block_principal",
            "method": "GET",
            "path": "/a",
            "rate_per_s": None,
            "principal": "c-1",
        }

        assert Control.model_validate(old) == Control(
            kind=ControlKind.BLOCK, method="GET", path="/a", principals=(subject("c-1"),)
        )

    def test_others_had_none(self):
        """
        The empty field of a close is dropped.
        """
        old = {"kind": "close", "method": "GET", "path": "/a", "principal": None}

        assert Control.model_validate(old).principals == ()
