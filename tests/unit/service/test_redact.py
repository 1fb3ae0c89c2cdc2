"""Known secrets are taken out of whatever is journaled, in every form that libraries print."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import ProviderRefused, ProviderUnreachable
from bot.service.outbox import MAX_REFUSALS
from bot.service.redact import MASK, SHORTEST, SecretRedactor
from bot.store import tables
from tests.scenario.company import SAM, text_of

SECRET = 'pä55"word/+&canary'
ASKED = """
- id: fixed
  manual: {ask: "Is it deployed?", fields: {version: {type: string}}}
"""


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


class TestWhatIsKept:
    def test_the_mailbox_keeps_no_secret_that_somebody_wrote(self, company_of):
        """
        A word waits there, readable, until its run hears it, and stays afterwards.
        """
        company = company_of(text_of(ASKED))
        company.secrets = [SECRET]
        company.start(SAM)
        people, world = company.world.service.people, company.world
        world.runner.wake = lambda _run_id: None
        people.answer(company.ask().token, SAM, {"version": SECRET})
        people.pause("INC-1-R1", SAM, f"look: {SECRET}")
        people.undo("INC-1-R1", SAM, f"undo: {SECRET}")

        with world.store.engine.connect() as connection:
            kept = [row.event for row in connection.execute(sa.select(tables.mailbox))]
        assert len(kept) == 3
        assert all(SECRET not in text and MASK in text for text in kept)

    def test_nor_do_outbox_and_journal_of_what_other_systems_say(self, company_of):
        """
        Their errors may hold what they were sent.
        """
        company = company_of(text_of(ASKED))
        company.secrets = [SECRET]
        company.start(SAM)
        world = company.world
        for _ in range(MAX_REFUSALS):
            company.chat.fail = [ProviderRefused(f"No: {SECRET}.")]
            world.send()
            company.clock.advance(seconds=2)
        company.gateway.observe = lambda: refuse(f"Down: {SECRET}.")
        world.service.desk.gateways.reconcile("edge")

        with world.store.read() as tx:
            dead = tx.parcel("INC-1:channel")
            failed = [
                *tx.records(incident_id="INC-1", kind="notice_failed"),
                *tx.records(kind="gateway_drifted"),
            ]
        assert (dead.status, dead.error) == ("dead", f"No: {MASK}.")
        assert [record.body["message"] for record in failed] == [f"No: {MASK}.", f"Down: {MASK}."]
        assert world.service.outboxes[0].trouble == f"No: {MASK}."


def refuse(text: str) -> str:
    raise ProviderUnreachable(text)
