"""The chain of hashes: what is altered, lost, added or moved is found, and where it begins."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import JournalBroken
from bot.model.base import canonical_json
from bot.model.journal import GENESIS, Record, hash_of, moment_text, verify_chain

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def chain(length: int = 5) -> list[Record]:
    """Return a good chain."""
    records: list[Record] = []
    for seq in range(1, length + 1):
        fields: dict[str, Any] = {
            "seq": seq,
            "incident_id": "INC-1",
            "run_id": None,
            "step_id": None,
            "actor": "firedoor",
            "kind": "note",
            "body": {"n": seq, "name": "Zoë"},
            "previous_hash": records[-1].hash if records else GENESIS,
        }
        at = NOON + timedelta(seconds=seq)
        records.append(Record(**fields, at=at, hash=hash_of(**fields, at=moment_text(at))))
    return records


def with_change(records: list[Record], seq: int, **changes: Any) -> list[Record]:
    """Return the records with one of them altered and nothing else mended."""
    return [r.model_copy(update=changes) if r.seq == seq else r for r in records]


class TestGoodChain:
    @pytest.mark.parametrize("length", [0, 1, 5])
    def test_it_is_counted(self, length):
        """
        A chain that holds is as long as its records.
        """
        assert verify_chain(chain(length)) == length

    def test_it_survives_json(self):
        """
        A record read back from its own JSON has the same hash.
        """
        again = [Record.model_validate_json(record.model_dump_json()) for record in chain()]

        assert verify_chain(again) == 5

    def test_the_same_moment_in_another_zone_is_the_same_record(self):
        """
        Moments are hashed in UTC, so a database's zone does not break the chain.
        """
        zone = timezone(timedelta(hours=2))
        records = [
            Record.model_validate({**r.model_dump(), "at": r.at.astimezone(zone)}) for r in chain()
        ]

        assert verify_chain(records) == 5


class TestBrokenChain:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"at": NOON}, id="time"),
            pytest.param({"incident_id": "INC-2"}, id="incident"),
            pytest.param({"run_id": "INC-1-R1"}, id="run"),
            pytest.param({"step_id": "close"}, id="step"),
            pytest.param({"actor": "slack:U1"}, id="actor"),
            pytest.param({"kind": "approved"}, id="kind"),
            pytest.param({"body": {"n": 4, "name": "Zoë"}}, id="body"),
            pytest.param({"hash": "0" * 64}, id="hash"),
            pytest.param({"previous_hash": "0" * 64}, id="previous-hash"),
        ],
    )
    def test_any_altered_field_names_its_record(self, change):
        """
        No field can be altered without its record being named.
        """
        with pytest.raises(JournalBroken, match="Record 3") as caught:
            verify_chain(with_change(chain(), 3, **change))

        assert caught.value.seq == 3

    def test_a_record_that_was_altered_with_its_hash_breaks_the_next(self):
        """
        Whoever mends the hash of what they altered has to mend all that follow.
        """
        records = chain()
        altered = records[2].model_copy(update={"actor": "slack:U1"})
        fields = altered.model_dump(exclude={"at", "hash"})
        mended = altered.model_copy(update={"hash": hash_of(**fields, at=moment_text(altered.at))})

        with pytest.raises(JournalBroken, match="Record 4") as caught:
            verify_chain([*records[:2], mended, *records[3:]])

        assert caught.value.seq == 4

    @pytest.mark.parametrize(
        ("order", "seq"),
        [
            pytest.param([2, 3, 4, 5], 1, id="the-first-is-lost"),
            pytest.param([1, 2, 4, 5], 3, id="one-within-is-lost"),
            pytest.param([1, 3, 2, 4, 5], 2, id="two-are-swapped"),
            pytest.param([1, 2, 2, 3], 3, id="one-is-there-twice"),
        ],
    )
    def test_lost_and_moved_records_name_the_first_place(self, order, seq):
        """
        The first place at which the journal is not what was written is named.
        """
        records = {record.seq: record for record in chain()}

        with pytest.raises(JournalBroken) as caught:
            verify_chain([records[number] for number in order])

        assert caught.value.seq == seq

    def test_a_record_put_in_between_is_found(self):
        """
        A forged record that chains to its predecessor breaks the successor.
        """
        records = chain()
        fields = records[2].model_dump(exclude={"at", "hash"}) | {"body": {"forged": True}}
        forged = Record(**fields, at=NOON, hash=hash_of(**fields, at=moment_text(NOON)))
        moved = [r.model_copy(update={"seq": r.seq + 1}) for r in records[2:]]

        with pytest.raises(JournalBroken) as caught:
            verify_chain([*records[:2], forged, *moved])

        assert caught.value.seq == 4

    def test_the_message_says_what_to_do(self):
        """
        Fact, consequence and remedy, for whoever finds it at night.
        """
        with pytest.raises(JournalBroken, match=r"cannot be trusted.*backup"):
            verify_chain(with_change(chain(), 1, kind="x"))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


class TestCanonicalJson:
    @given(VALUES)
    def test_it_is_the_same_after_reading_it_back(self, value):
        """
        The hash of a body read from the database is the hash of the body that was written.
        """
        assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)

    def test_the_order_of_keys_is_irrelevant(self):
        """
        Equal values have one text.
        """
        assert canonical_json({"b": 1, "a": [2]}) == canonical_json({"a": [2], "b": 1})

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_no_json_is_refused(self, value):
        """
        There is no text for NaN that every reader takes.
        """
        with pytest.raises(ValueError):
            canonical_json(value)
