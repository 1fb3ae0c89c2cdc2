"""The document says what the journal says, cites it, and admits what it does not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.model import commands as c
from bot.model import events as e
from bot.model.containment import ControlKind
from bot.model.endpoint import Endpoint
from bot.model.incident import IncidentStatus, RunStatus
from bot.model.journal import Record
from bot.model.outcome import Outcome
from bot.postmortem.document import Document, Figure
from bot.postmortem.impact import count_of
from bot.postmortem.reading import runbook_head
from bot.postmortem.text import moment_of
from tests.unit.postmortem.story import (
    HOSTILE,
    IRIS,
    KEY,
    LIST,
    RUN,
    SAM,
    T0,
    TARIQ,
    Journal,
    at,
    endpoint,
    held,
    plan,
    proof,
    story,
)

STORY = story()
DOCUMENT: Document = STORY.build()


def figures(document: Document) -> dict[str, Figure]:
    return {figure.name: figure for figure in document.impact}


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a document's JSON."""
    if isinstance(value, list):
        for item in value:
            yield from parts(item)
    elif isinstance(value, dict):
        yield value
        for item in value.values():
            yield from parts(item)


def without(*kinds: str) -> list[Record]:
    return [record for record in STORY.records if record.kind not in kinds]


class TestImpact:
    @pytest.mark.parametrize(
        ("name", "value", "amount"),
        [
            ("endpoints", KEY, None),
            ("data", "payment and personal", None),
            ("records", "214 records", 214),
            ("people", "97 people", 97),
            ("principals", "1 principal", 1),
            ("reads", "1,312 requests", 1_312),
            ("window", "2026-03-13 12:00:00 UTC to 2026-03-14 12:03:05 UTC", None),
            ("first_bad_request", "2026-03-14 10:47:12 UTC", None),
            # 10:47:12 to 12:02:14.5, when the close was proven; the throttle does not end it
            ("exposure", "1 h 15 min 2 s", 4_502.5),
            ("to_containment", "2 s", 2.0),
            ("to_proof", "4.2 s", 4.2),
            # held at 12:02:10, lifted at 13:00:12
            ("closed", "58 min 2 s", 3_482.0),
        ],
    )
    def test_numbers_are_exact(self, name: str, value: str, amount: float | None) -> None:
        """What is read and what is computed with are the same number."""
        figure = figures(DOCUMENT)[name]

        assert (figure.value, figure.amount) == (value, amount)
        assert figure.known

    def test_what_the_log_could_not_tell_is_said(self) -> None:
        """A count that may be too low says so beside it."""
        assert figures(DOCUMENT)["records"].note == (
            "3 further requests could not be judged: no owner is logged."
        )

    def test_an_unproven_close_ends_no_exposure(self) -> None:
        """In force is not proven; only a proof from outside counts."""
        records = [r for r in STORY.records if (r.kind, r.step_id) != ("verified", "close")]
        document = STORY.build(records)

        assert figures(document)["exposure"].value == "UNKNOWN"
        assert "not proven" in document.containments[1].proof.lower()

    def test_exposure_without_a_first_request_gives_a_least(self) -> None:
        """The alert's start is a lower bound, not the beginning."""
        records = [record for record in STORY.records if record.step_id != "affected"]

        figure = figures(STORY.build(records))["exposure"]
        assert figure.value == "UNKNOWN"
        assert "At least 2 min 49 s, counted from the alert's start." in figure.note

    def test_nothing_found_is_known(self) -> None:
        """Zero is an answer and not a gap."""
        facts = {"records": 0, "people": 0, "principals": 0, "first_seen": None}
        document = STORY.build(replaced("affected", e.Applied, Outcome(facts=facts)))

        assert figures(document)["records"].value == "0 records"
        assert figures(document)["first_bad_request"].value == "None found"
        assert figures(document)["exposure"].known

    def test_clocks_that_disagree_give_no_number(self) -> None:
        """A first request after the close is a wrong clock, not a negative exposure."""
        facts = {"records": 1, "first_seen": "2026-03-14T23:00:00Z"}
        document = STORY.build(replaced("affected", e.Applied, Outcome(facts=facts)))

        assert figures(document)["exposure"].value == "UNKNOWN"
        assert "clocks disagree" in figures(document)["exposure"].note

    def test_two_counts_are_shown_apart(self) -> None:
        """Two steps may have counted the same records, so they are never added up."""
        journal = Journal(records=list(STORY.records), seq=STORY.records[-1].seq)
        again = Outcome(facts={"records": 300, "people": 98, "principals": 2})
        journal.event(e.Applied(at=at(3700), step="recount", outcome=again))
        document = STORY.build(journal.records)

        counts = [f for f in document.impact if f.name == "records"]
        assert [(f.amount, f.note.split(".")[0]) for f in counts] == [
            (214, "Counted by step affected"),
            (300, "Counted by step recount"),
        ]

    def test_overlapping_closes_are_not_counted_twice(self) -> None:
        """Two incidents' steps may close the same endpoint; the outage is one."""
        other = held("close2", ControlKind.CLOSE, 1_000, IRIS, 60, "x")
        journal = Journal(records=list(STORY.records), seq=STORY.records[-1].seq)
        body = {"containment": other.model_dump(mode="json")}
        journal.add(1_000, "containment_held", body, run=RUN, step="close2")

        assert figures(STORY.build(journal.records))["closed"].amount == 3_482.0

    @pytest.mark.parametrize(
        ("value", "count"),
        [
            (3, 3),
            (["a", "b"], 2),
            ({"users": ["a"], "service_accounts": ["b", "c"]}, 3),
            (True, None),
            (-1, None),
            ("3", None),
            (None, None),
            ({}, None),
            ({"a": "b"}, None),
        ],
    )
    def test_counting_facts(self, value: Any, count: int | None) -> None:
        """A number, or the items of lists; never a guess."""
        assert count_of(value) == count

    @pytest.mark.parametrize("value", ["2026-03-14", "2026-03-14T12:00:00", "soon", 12, None])
    def test_only_moments_with_an_offset_are_moments(self, value: Any) -> None:
        """A time without a zone could be anyone's."""
        assert moment_of(value) is None


def replaced(step: str, kind: type[Any], outcome: Outcome) -> list[Record]:
    """The story's records with the outcome of one event replaced."""
    found = []
    for record in STORY.records:
        event = record.body.get("event", {})
        if record.step_id == step and event.get("kind") == kind.model_fields["kind"].default:
            body = {**record.body, "event": {**event, "outcome": outcome.model_dump(mode="json")}}
            found.append(record.model_copy(update={"body": body}))
        else:
            found.append(record)
    return found


class TestSources:
    def test_every_statement_is_cited_or_unknown(self) -> None:
        """Nothing that is claimed is without a record; what has none says UNKNOWN."""
        seqs = {record.seq for record in STORY.records}
        for part in parts(DOCUMENT.model_dump(mode="json")):
            if "sources" not in part:
                continue
            assert set(part["sources"]) <= seqs
            assert part["sources"] or part.get("known") is False, part

    def test_every_line_of_the_timeline_exists(self) -> None:
        """Each line cites a record of the journal by number and hash."""
        hashes = {record.seq: record.hash for record in STORY.records}
        for entry in DOCUMENT.timeline:
            assert hashes[entry.seq].startswith(entry.hash_prefix)
            assert len(entry.hash_prefix) == 12

    def test_the_whole_can_be_checked(self) -> None:
        """The range and the last hash tie the document to one journal."""
        supporting = DOCUMENT.supporting

        assert (supporting.first_seq, supporting.last_seq) == (2, 46)
        assert supporting.records == 45
        assert supporting.head_hash == STORY.records[-1].hash
        assert supporting.left_out + len(DOCUMENT.timeline) == 45


class TestUnknown:
    @pytest.mark.parametrize("section", ["root_cause", "trigger", "lucky", "prevention"])
    def test_what_people_must_think_about_is_unknown(self, section: str) -> None:
        """Firedoor does not invent causes; it asks, visibly, and names who is asked."""
        last = getattr(DOCUMENT, section)[-1]

        assert last.text.startswith("UNKNOWN. To fill in by security-oncall: ")
        assert not last.known

    def test_an_open_incident_has_no_resolution_yet(self) -> None:
        """A draft in the middle of an incident does not sound like an end."""
        incident = STORY.incident.model_copy(update={"status": IncidentStatus.CONTAINED})

        last = STORY.build(incident=incident).resolution[-1]
        assert last.text == "UNKNOWN. The incident is contained; how it was resolved is to fill in."

    def test_an_empty_journal_still_gives_a_document(self) -> None:
        """With nothing known, every figure says so and nothing is made up."""
        document = STORY.build([], runs=[], evidence=[], containments=[], endpoints={})

        assert all(figure.value == "UNKNOWN" for figure in document.impact)
        assert document.timeline == ()
        assert document.supporting.first_seq is None
        assert document.detection[0].text.startswith("UNKNOWN")

    def test_a_credential_without_ids_says_so(self) -> None:
        """A rotation whose facts name no key is not called complete."""
        document = STORY.build(replaced("rotate", e.Applied, Outcome(facts={})))

        assert (document.credentials[0].old, document.credentials[0].new) == ("UNKNOWN", "UNKNOWN")

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_part_of_the_records_gives_a_document(self, data: st.DataObject) -> None:
        """Whatever is missing, a document is built, all its sources exist, and each number has
        one or is UNKNOWN."""
        records = data.draw(st.lists(st.sampled_from(STORY.records), unique_by=lambda r: r.seq))
        document = STORY.build(records)

        seqs = {record.seq for record in records}
        assert {entry.seq for entry in document.timeline} <= seqs
        for figure in document.impact:
            assert set(figure.sources) <= seqs
            assert figure.sources or figure.value == "UNKNOWN"
            assert figure.known == (figure.value != "UNKNOWN")

    @settings(max_examples=60, deadline=None)
    @given(
        kind=st.sampled_from([*sorted({record.kind for record in STORY.records}), "new"]),
        body=st.dictionaries(
            st.sampled_from(
                ["event", "commands", "containment", "evidence", "alert", "to", "audience", "key"]
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(max_size=5), inner, max_size=3)
                ),
                max_leaves=6,
            ),
        ),
    )
    def test_a_strange_body_never_breaks_it(self, kind: str, body: dict[str, Any]) -> None:
        """A record of another version, or one mended by hand, is shown as it is."""
        journal = Journal(records=list(STORY.records), seq=STORY.records[-1].seq)
        record = journal.add(3_800, kind, body, run=RUN, step="close")

        document = STORY.build(journal.records)
        assert document.supporting.last_seq == record.seq


class TestWhatWasDone:
    def test_containments(self) -> None:
        """Since, until, by which role, and how it was proven."""
        throttle, close = DOCUMENT.containments

        assert (throttle.since, throttle.until) == (at(2), at(1802))
        assert (throttle.by, throttle.ended) == ("an alert of alertmanager", "ended at its expiry")
        assert (close.by, close.proof) == (
            "incident-commander",
            "Proven from outside: 17 of 17 checks hold.",
        )
        assert close.ended == "lifted by an alert of alertmanager"

    def test_a_containment_in_force_has_no_end(self) -> None:
        """A draft before the end says until when it holds, and asks for a decision."""
        close = held("close", ControlKind.CLOSE, 130, IRIS, 14_400, "x")
        document = STORY.build(without("containment_lifted"), containments=[close])

        row = document.containments[-1]
        assert (row.until, row.ended) == (None, "in force until 2026-03-14 16:02:10 UTC")
        assert any(task.due == "until 2026-03-14 16:02:10 UTC" for task in document.tasks)
        assert figures(document)["closed"].note == "It was still closed when this was drafted."

    def test_a_refused_containment_was_never_in_force(self) -> None:
        """What a gateway refused protects nobody, and counts nowhere."""
        journal = Journal()
        refused = held("close", ControlKind.CLOSE, 130, IRIS, 14_400, "x")
        body = {"containment": refused.model_dump(mode="json")}
        for kind in ("containment_held", "containment_withdrawn"):
            journal.add(130, kind, body, run=RUN, step="close")
        document = STORY.build(journal.records, containments=[])

        assert document.containments[0].ended == "refused by the gateway, never in force"
        assert not figures(document)["closed"].known

    def test_credentials_name_old_and_new(self) -> None:
        """Identifiers of both keys, and that the new one was proven."""
        row = DOCUMENT.credentials[0]

        assert (row.credential, row.old, row.new) == ("orders-service", "AKIAOLD", "AKIANEW")
        assert row.proven

    def test_notices_tell_delivered_from_not(self) -> None:
        """Every notice that was written is there, with its time or why there is none."""
        rows = {row.audience: row for row in DOCUMENT.notices}

        assert rows["legal"].sent_at == at(326)
        assert rows["compliance"].sent_at is None
        assert rows["compliance"].way == "email"
        assert rows["compliance"].problem == "The mail server refuses the address."

    def test_a_notice_on_its_way_is_not_called_sent(self) -> None:
        """Written is not delivered: the outbox may still be trying."""
        document = STORY.build(without("notice_sent", "notice_failed"))

        assert [row.sent_at for row in document.notices] == [None, None, None]
        assert not any("reached" in line.text for line in document.summary)

    def test_approvals_bind_people_to_digests(self) -> None:
        """Who said what about which plan, as the journal has them; and what came of it."""
        said = [(row.actor, row.decision, row.effect) for row in DOCUMENT.approvals]

        assert said == [
            ("policy of the runbook", "not needed", "applied"),
            (IRIS, "approved", "void: the plan changed"),
            (SAM, "approved", "does not count: it takes someone of incident-commander"),
            (IRIS, "approved", "applied"),
            (SAM, "approved", "1 of 2"),
            (TARIQ, "approved", "applied"),
            ("policy of the runbook", "not needed", "applied"),
        ]
        assert all(len(row.digest) == 64 for row in DOCUMENT.approvals)

    def test_evidence_is_named_by_its_hash(self) -> None:
        """The list of people is not in the document, only what proves it."""
        row = DOCUMENT.evidence[0]

        assert (row.id, row.sha256, row.size) == (LIST.id, LIST.sha256, "48.2 kB")
        assert row.sources == (23, 24)

    def test_the_narrative_speaks_of_roles(self) -> None:
        """People appear as their role everywhere but in the approvals and as the timeline's
        recorded actor."""
        document = DOCUMENT.model_dump(mode="json")
        document.pop("approvals")
        for entry in document["timeline"]:
            entry.pop("actor")

        text = json.dumps(document)
        for person in (IRIS, SAM, TARIQ):
            assert person not in text

    def test_failures_are_in_the_lessons(self) -> None:
        """What the timeline tells as a failure is proposed as what went wrong."""
        wrong = [line.sources for line in DOCUMENT.went_wrong if line.known]

        assert wrong == [(15,), (29,), (37,)]


class TestTasks:
    def test_each_follows_from_what_happened(self) -> None:
        """Title, whose role, and when."""
        tasks = {task.title: task for task in DOCUMENT.tasks}

        test = tasks[f"Add a regression test: a stranger gets 403 on {KEY}, its owner 200"]
        assert test.owner == "team-orders"
        key = tasks["Delete the deactivated key AKIAOLD of orders-service"]
        assert key.due == "by 2026-03-21 (7 days after the opening)"
        legal = tasks["Decide whether authorities or the people affected must be told, and by when"]
        assert legal.due == (
            "by 2026-03-17 12:00:00 UTC if GDPR Article 33 applies (72 h from the alert)"
        )
        assert "Make the detector see this sooner" in tasks

    def test_data_that_nobody_is_told_about_is_a_task(self) -> None:
        """The step says which classification has no stakeholder; somebody has to name one."""
        outcome = Outcome(facts={"notices": 0, "unknown_classifications": ["health"]})
        document = STORY.build(replaced("tell", e.Applied, outcome))

        assert "Say who is told about “health” data" in [task.title for task in document.tasks]

    def test_an_unproven_rotation_deletes_no_key(self) -> None:
        """A key may be deleted only if its successor was proven to work."""
        records = [r for r in STORY.records if (r.kind, r.step_id) != ("verified", "rotate")]

        titles = [task.title for task in STORY.build(records).tasks]
        assert not any(title.startswith("Delete") for title in titles)
        assert any(title.startswith("Finish or prove by hand what step rotate") for title in titles)

    def test_neighbours_of_the_same_owner_or_data_are_named(self) -> None:
        """The same mistake is likely next door; the endpoint itself is not its own neighbour."""
        review = next(t for t in DOCUMENT.tasks if t.title.startswith("Review the ownership"))

        assert "DELETE /api/orders/{order_id}" in review.title
        assert "GET /api/customers/{customer_id}" in review.title
        assert "GET /api/health" not in review.title
        assert f"of {KEY}" not in review.title

    def test_many_neighbours_are_counted(self) -> None:
        """A large inventory does not fill the page."""
        many = {f"GET /v{n}": endpoint(f"GET /v{n}", "team-orders", "personal") for n in range(50)}
        document = STORY.build(endpoints={**STORY.endpoints, **many})

        review = next(t for t in document.tasks if t.title.startswith("Review the ownership"))
        assert review.title.endswith("and 44 more")

    def test_review_is_within_five_business_days(self) -> None:
        """Opened on a Saturday: Monday to Friday are five."""
        assert T0.weekday() == 5
        review = next(t for t in DOCUMENT.tasks if t.title.startswith("Hold the review"))

        assert review.due == "by 2026-03-20 (5 business days after the opening)"

    def test_no_personal_data_no_legal_task(self) -> None:
        """Lawyers are not called for a health check."""
        bare = {KEY: endpoint(KEY, "team-orders", "public")}
        records = [r for r in STORY.records if r.kind != "run_started"]
        document = STORY.build(records, endpoints=bare)

        assert not any("authorities" in task.title for task in document.tasks)

    def test_nobody_owns_it_is_said(self) -> None:
        """An endpoint without an owner in the inventory has a task for UNKNOWN."""
        bare = {KEY: Endpoint(method="GET", path=KEY.split(" ")[1])}
        records = [r for r in STORY.records if r.kind != "run_started"]

        tasks = STORY.build(records, endpoints=bare).tasks
        assert any(t.owner == "UNKNOWN" and "regression test" in t.title for t in tasks)

    def test_a_failed_step_is_finished_by_hand(self) -> None:
        """What the run left undone is somebody's task."""
        journal = Journal()
        failed = e.StepFailed(at=at(1), step="close", phase="apply", error="refused", message="No.")
        journal.event(failed, c.Finish(status=RunStatus.FAILED, reason="x"))
        document = STORY.build(journal.records, containments=[])

        assert any(
            t.title.startswith("Finish or prove by hand what step close") for t in document.tasks
        )

    def test_a_step_that_worked_after_a_retry_leaves_no_task(self) -> None:
        """The rotation failed once and was then proven: nothing is left of it to finish."""
        assert not any("by hand" in task.title for task in DOCUMENT.tasks)


class TestLongIncidents:
    def test_the_timeline_keeps_its_beginning_and_its_end(self) -> None:
        """A document stays readable, and says how much it leaves out."""
        journal = Journal(records=list(STORY.records), seq=STORY.records[-1].seq)
        for number in range(3_000):
            failed = e.StepFailed(
                at=at(4_000 + number),
                step="rotate",
                phase="apply",
                error="unreachable",
                message=f"Try {number} failed.",
            )
            journal.event(failed, c.Wait())
        document = STORY.build(journal.records)

        assert len(document.timeline) == 400
        assert document.timeline[0].seq == 2
        assert document.timeline[-1].seq == journal.seq
        assert document.supporting.left_out == len(journal.records) - 400
        assert len(document.went_wrong) == 22
        assert document.went_wrong[20].text == "2,983 further failures in the journal."


class TestUndo:
    def test_what_was_taken_back_is_not_called_done(self) -> None:
        """A rotation that was undone is in the table as taken back, and not in the summary."""
        journal = Journal(records=list(STORY.records), seq=STORY.records[-1].seq)
        journal.event(e.Undone(at=at(3_700), step="rotate", outcome=Outcome()))
        document = STORY.build(journal.records)

        assert document.credentials[0].details.endswith("Taken back.")
        assert not any("was rotated" in line.text for line in document.summary)
        assert document.approvals[-2].effect == "applied, then taken back"

    def test_an_unproven_change_is_marked(self) -> None:
        """Applied without a proof is a change that somebody must look at."""
        journal = Journal()
        what = plan("dns.change", "The name would point elsewhere.", 1, 2)
        journal.event(e.Planned(at=at(1), step="dns", plan=what))
        journal.event(e.Applied(at=at(2), step="dns", outcome=Outcome(proof=proof(3, bad=1))))
        document = STORY.build(journal.records, containments=[])

        assert document.other_changes[0].text == (
            "dns (dns.change): The name would point elsewhere. "
            "Not proven: 2 of 3 checks hold. Not: variant 0."
        )
        assert any(t.why == "It was applied, and no record proves it." for t in document.tasks)


class TestHostile:
    def test_texts_are_bounded_and_visible(self) -> None:
        """Alert and title may hold anything; each text of the document is one plain line."""
        hostile = story(title=HOSTILE * 50, labels={"alertname": HOSTILE, HOSTILE: HOSTILE})
        document = hostile.build()

        for part in parts(document.model_dump(mode="json")):
            for value in part.values():
                if isinstance(value, str):
                    assert len(value) <= 2_000
                    assert "\n" not in value
                    assert "\u202e" not in value
                    value.encode()

    def test_numbers_are_the_same_whatever_the_texts(self) -> None:
        """No text can change a figure."""
        hostile = story(title=HOSTILE, labels={"alertname": HOSTILE}).build()

        assert hostile.impact == DOCUMENT.impact


class TestRunbookHead:
    def test_head_is_read(self) -> None:
        """Name, class and owners come from the text that was pinned."""
        head = runbook_head(STORY.runs[0].runbook_text)

        assert (head.owasp, head.owners) == ("API1:2023", ("security-oncall",))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "a: &a [*a]",
            "owners: {a: b}\nname: [x]",
            "? [a]: b",
            "\u0000",
            ": : :",
            "a: " + "[" * 400,
        ],
    )
    def test_unreadable_text_gives_an_empty_head(self, text: str) -> None:
        """The postmortem does not depend on a runbook that can still be read."""
        assert runbook_head(text) == runbook_head("")


def test_building_is_pure() -> None:
    """Equal arguments, equal document; a later draft differs only by its time."""
    assert STORY.build() == DOCUMENT
    later = STORY.build(drafted_at=STORY.drafted_at + timedelta(hours=1))
    assert later.timeline == DOCUMENT.timeline
