"""Models go into rows and come back as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.errors import NotFound
from bot.model import events
from bot.model.ask import Ask, Parcel
from bot.model.containment import Containment, Control, ControlKind
from bot.model.incident import IncidentStatus, Origin, RunStatus, Severity
from bot.model.message import Button, Message, MessageRef
from bot.model.outcome import Evidence

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
PERSON = Origin(kind="person", actor="slack:U1")


def add_incident(tx, key="book|GET /x"):
    return tx.add_incident(key=key, title="Zoë's <orders>", severity=Severity.SEV1, at=NOON)


def add_run(tx, incident_id):
    return tx.add_run(
        incident_id=incident_id,
        runbook_id="book",
        runbook_digest="d" * 64,
        runbook_text="id: book\n",
        origin=PERSON,
        at=NOON,
    )


def containment(id_="c1", gateway="edge", incident_id="INC-1") -> Containment:
    return Containment(
        id=id_,
        incident_id=incident_id,
        run_id="INC-1-R1",
        step_id="close",
        gateway=gateway,
        control=Control(kind=ControlKind.CLOSE, method="GET", path="/x"),
        owner="slack:U1",
        reason="INC-1",
        since=NOON,
        expires_at=NOON + timedelta(hours=4),
    )


def parcel(key="k", text="hello", **fields) -> Parcel:
    defaults = {
        "key": key,
        "incident_id": "INC-1",
        "kind": "post",
        "message": Message(
            title=text, buttons=(Button(label="Yes", verb="approve", token="t", style="primary"),)
        ),
    }
    return Parcel.model_validate(defaults | fields)


class TestIncidents:
    def test_they_are_numbered_and_read_back(self, store):
        """
        Ids count from one, and every field survives.
        """
        with store.begin() as tx:
            first, second = add_incident(tx), add_incident(tx)
            moved = first.model_copy(
                update={"status": IncidentStatus.CONTAINED, "channel": "C1", "title": "new"}
            )
            tx.save_incident(moved)

        with store.read() as tx:
            assert (first.id, second.id) == ("INC-1", "INC-2")
            assert tx.incident("INC-1") == moved
            assert [i.id for i in tx.incidents()] == ["INC-2", "INC-1"]

    @pytest.mark.parametrize("id_", ["INC-9", "INC-x", "", "INC-" + "9" * 40, "INC-\u0661"])
    def test_an_unknown_id_is_not_found(self, store, id_):
        """
        Whatever a person types, the answer is that there is none.
        """
        with pytest.raises(NotFound), store.read() as tx:
            tx.incident(id_)

    def test_the_case_of_an_id_is_irrelevant(self, store):
        """
        People type inc-1.
        """
        with store.begin() as tx:
            incident = add_incident(tx)

        with store.read() as tx:
            assert tx.incident("inc-1") == incident

    def test_the_open_incident_of_a_key_is_the_newest_that_is_not_closed(self, store):
        """
        A closed incident is not joined.
        """
        with store.begin() as tx:
            assert tx.open_incident("k") is None
            old, new = add_incident(tx, "k"), add_incident(tx, "k")
            assert tx.open_incident("k") == new
            tx.save_incident(new.model_copy(update={"status": IncidentStatus.CLOSED}))
            assert tx.open_incident("k") == old
            assert tx.open_incident("other") is None

    def test_an_alert_is_known_by_source_fingerprint_and_start(self, store):
        """
        The same series that starts again is another alert.
        """
        alert = {"source": "s", "fingerprint": "f", "starts_at": NOON}
        with store.begin() as tx:
            tx.remember_alert(**alert, incident_id="INC-1")

        with store.read() as tx:
            assert tx.seen_alert(**alert) == "INC-1"
            later = alert | {"starts_at": NOON + timedelta(microseconds=1)}
            assert tx.seen_alert(**later) is None
            assert tx.seen_alert(**(alert | {"source": "other"})) is None


class TestRuns:
    def test_they_are_numbered_within_their_incident(self, store):
        """
        A run's id says its incident and its number in it.
        """
        with store.begin() as tx:
            add_incident(tx), add_incident(tx)
            ids = [add_run(tx, each).id for each in ("INC-1", "INC-1", "INC-2")]

        assert ids == ["INC-1-R1", "INC-1-R2", "INC-2-R1"]

    def test_state_and_commands_are_kept_with_the_run(self, store):
        """
        Where a run stands is committed with the event that brought it there.
        """
        with store.begin() as tx:
            add_incident(tx)
            run = add_run(tx, "INC-1")
            done = run.model_copy(update={"status": RunStatus.DONE, "ended_at": NOON})
            commands = [{"kind": "finish", "status": "done"}]
            tx.save_run(done, state={"cursor": 1}, events=3, commands=commands)

        with store.read() as tx:
            stored = tx.run(run.id)
            assert stored.run == done
            assert (stored.state, stored.events) == ({"cursor": 1}, 3)
            assert list(stored.commands) == commands
            assert tx.runs(unfinished=True) == []
            assert list(tx.runs(incident_id="INC-1")) == [done]

    def test_an_unknown_run_is_not_found(self, store):
        """
        The message says where to look.
        """
        with pytest.raises(NotFound, match="firedoor status"), store.read() as tx:
            tx.run("INC-1-R1")


class TestMailbox:
    def test_messages_are_taken_once_in_order(self, store):
        """
        First in, first out, and each counts once.
        """
        first, second = (events.Cancelled(at=NOON, by=by) for by in ("slack:U1", "slack:U2"))
        with store.begin() as tx:
            assert tx.put_message("R1", first, "a")
            assert tx.put_message("R1", second, "b")
            taken = []
            while (message := tx.next_message("R1")) is not None:
                taken.append(message[1])
                tx.take_message(message[0])

            assert taken == [first, second]
            assert tx.next_message("R1") is None

    def test_a_key_counts_once_even_after_it_was_taken(self, store):
        """
        A click that Slack delivers again later is not a second click.
        """
        event = events.Cancelled(at=NOON, by="slack:U1")
        with store.begin() as tx:
            tx.put_message("R1", event, "a")
            tx.take_message(tx.next_message("R1")[0])

            assert not tx.put_message("R1", event, "a")
            assert tx.put_message("R2", event, "a")
            assert tx.next_message("R1") is None


class TestContainments:
    def test_they_read_back_and_are_filtered(self, store):
        """
        Oldest first; in force means not lifted.
        """
        one, two, three = containment("c1"), containment("c2"), containment("c3", gateway="west")
        lifted = one.model_copy(update={"lifted_at": NOON, "lifted_by": "slack:U1"})
        with store.begin() as tx:
            for each in (one, two, three):
                tx.add_containment(each)
            tx.save_containment(lifted)

        with store.read() as tx:
            assert tx.containment("c1") == lifted
            assert tx.containment("none") is None
            assert list(tx.containments()) == [lifted, two, three]
            assert list(tx.containments(in_force=True)) == [two, three]
            assert list(tx.containments(gateway="edge", in_force=True)) == [two]
            assert list(tx.containments(incident_id="INC-9")) == []

    def test_one_that_was_never_in_force_can_be_removed(self, store):
        """
        What its gateway refused is not history.
        """
        with store.begin() as tx:
            tx.add_containment(containment())
            tx.remove_containment("c1")

            assert tx.containment("c1") is None


class TestAsks:
    def ask(self, token="t1", **fields) -> Ask:
        defaults = {
            "token": token,
            "incident_id": "INC-1",
            "run_id": "R1",
            "step_id": "close",
            "kind": "approval",
            "asked_at": NOON,
        }
        return Ask.model_validate(defaults | fields)

    def test_a_closed_one_is_open_no_more(self, store):
        """
        What is asked of people are the questions of the run that are not closed, oldest first.
        """
        with store.begin() as tx:
            for token in ("t1", "t2"):
                tx.add_ask(self.ask(token))
            assert [a.token for a in tx.open_asks("R1")] == ["t1", "t2"]
            tx.save_ask(self.ask("t2", closed="Approved."))
            assert tx.open_asks("R1") == [self.ask("t1")]
            assert tx.open_asks("R2") == []

    def test_an_unknown_token_is_not_found(self, store):
        """
        A forged button finds nothing.
        """
        with pytest.raises(NotFound), store.read() as tx:
            tx.ask("forged")


class TestOutbox:
    def test_a_key_is_taken_once(self, store):
        """
        The same notice queued twice is one parcel.
        """
        with store.begin() as tx:
            tx.put_parcel(parcel(), NOON)
            tx.put_parcel(parcel(text="another"), NOON)
            assert tx.parcel("k").parcel == parcel()

    def test_replace_takes_the_newest_content_and_counts_anew(self, store):
        """
        An update is sent again, with its tries and refusals forgotten.
        """
        with store.begin() as tx:
            tx.put_parcel(parcel(kind="update"), NOON)
            old = tx.parcel("k")
            tried = {"status": "dead", "attempts": 5, "refusals": 3, "error": "no"}
            tx.save_parcel(old.model_copy(update=tried))

            tx.put_parcel(parcel(kind="update", text="newer"), NOON, replace=True)

            new = tx.parcel("k")
            assert new.parcel.message.title == "newer"
            assert (new.status, new.attempts, new.refusals, new.error) == ("pending", 0, 0, "")

    def test_due_ones_are_those_whose_time_has_come_oldest_first(self, store):
        """
        Sent and dead ones are never due again.
        """
        later = NOON + timedelta(microseconds=1)
        with store.begin() as tx:
            for key, at in (("a", NOON), ("b", later), ("c", NOON), ("d", NOON), ("e", NOON)):
                tx.put_parcel(parcel(key), at)
            for key, status in (("c", "claimed"), ("d", "sent"), ("e", "dead")):
                tx.save_parcel(tx.parcel(key).model_copy(update={"status": status}))

            assert [p.parcel.key for p in tx.due_parcels(NOON, 10)] == ["a", "c"]
            assert [p.parcel.key for p in tx.due_parcels(later, 2)] == ["a", "b"]

    def test_where_it_was_sent_is_kept(self, store):
        """
        An update needs the message's place.
        """
        with store.begin() as tx:
            tx.put_parcel(parcel(), NOON)
            sent = tx.parcel("k").model_copy(
                update={"status": "sent", "ref": MessageRef(channel="C1", ts="1.2")}
            )
            tx.save_parcel(sent)

        with store.read() as tx:
            assert list(tx.parcels("INC-1")) == [sent]


class TestEvidence:
    def test_it_reads_back_in_order(self, store):
        """
        Evidence of an incident, oldest first.
        """
        kept = [
            Evidence(
                id=name,
                sha256="0" * 64,
                size_bytes=1,
                media_type="text/csv",
                summary="s",
                kept_at=NOON,
            )
            for name in ("b.csv", "a.csv")
        ]
        with store.begin() as tx:
            for each in kept:
                tx.add_evidence("INC-1", each)

        with store.read() as tx:
            assert list(tx.evidence("INC-1")) == kept
            assert list(tx.evidence("INC-2")) == []


class TestJournal:
    def test_records_are_filtered_by_every_key(self, store):
        """
        The journal of an incident, a run, a step or a kind, in order.
        """
        with store.begin() as tx:
            for run, step, kind in (("R1", "a", "x"), ("R1", "b", "y"), ("R2", "a", "x")):
                where = {"incident_id": "INC-1", "run_id": run, "step_id": step}
                tx.append(at=NOON, kind=kind, body={}, **where)

            def seqs(**wanted):
                return [record.seq for record in tx.records(**wanted)]

            assert seqs() == [1, 2, 3]
            assert seqs(run_id="R1") == [1, 2]
            assert seqs(run_id="R1", step_id="a") == [1]
            assert seqs(kind="x") == [1, 3]
            assert seqs(incident_id="INC-2") == []

    def test_append_returns_what_is_read_back(self, store):
        """
        The record in hand is the record on disk.
        """
        with store.begin() as tx:
            record = tx.append(at=NOON, kind="note", body={"ü": [1, 2.5, None]})

        with store.read() as tx:
            assert tx.records() == [record]
