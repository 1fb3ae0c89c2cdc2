"""Known secrets are taken out of whatever is journaled, in every form that libraries print."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.service.redact import MASK, SHORTEST, SecretRedactor

SECRET = 'pä55"word/+&canary'


def redacted(text: str, *secrets: str) -> str:
    return SecretRedactor(secrets or (SECRET,)).text(text)


class TestForms:
    @pytest.mark.parametrize(
        "shown",
        [
            pytest.param(SECRET, id="plain"),
            pytest.param(quote(SECRET, safe=""), id="in-an-address"),
            pytest.param(json.dumps(SECRET), id="in-json"),
            pytest.param(base64.b64encode(SECRET.encode()).decode(), id="base64"),
            pytest.param(base64.urlsafe_b64encode(SECRET.encode()).decode(), id="base64-url"),
            pytest.param(
                base64.b64encode(f"u:{SECRET}".encode()).decode(), id="basic-authentication"
            ),
        ],
    )
    def test_every_form_is_taken_out(self, shown):
        """
        Whatever a library makes of it in an error message.
        """
        text = redacted(f"Login with {shown} failed.")

        assert shown.strip('"') not in text
        assert MASK in text
        assert text.startswith("Login with ")
        assert text.endswith(" failed.")

    @given(
        st.text(st.characters(codec="utf-8"), min_size=SHORTEST, max_size=30),
        st.binary(max_size=8),
        st.binary(max_size=8),
        st.booleans(),
    )
    def test_no_neighbours_hide_it_in_base64(self, secret, before, after, url_safe):
        """
        Wherever it stands within what was encoded, it cannot be decoded again.
        """
        raw = secret.encode()
        encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
        decode = base64.urlsafe_b64decode if url_safe else base64.b64decode
        text = redacted(encode(before + raw + after).decode(), secret)

        assert MASK in text
        for part in text.split(MASK):
            for offset in range(4):
                piece = part[offset:]
                assert raw not in decode(piece[: len(piece) // 4 * 4] or "")

    def test_the_longest_is_taken_out_first(self):
        """
        A secret that holds another leaves no rest.
        """
        assert redacted("the abcdefgh-long one", "abcdefgh", "abcdefgh-long") == f"the {MASK} one"

    def test_short_values_are_left_alone(self):
        """
        A password of three letters would take ordinary words apart.
        """
        assert redacted("an ordinary word", "ord") == "an ordinary word"


class TestJson:
    def test_every_string_is_searched(self):
        """
        Values and keys, however deep.
        """
        value = {"a": [SECRET, {"b": (f"x{SECRET}",)}], SECRET: 1, "n": None, "t": True, "f": 0.5}

        assert SecretRedactor([SECRET]).json(value) == {
            "a": [MASK, {"b": [f"x{MASK}"]}],
            MASK: 1,
            "n": None,
            "t": True,
            "f": 0.5,
        }

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
            max_leaves=10,
        )
    )
    def test_without_secrets_nothing_changes(self, value):
        """
        What holds no secret is journaled as it is.
        """
        assert SecretRedactor().json(value) == value
