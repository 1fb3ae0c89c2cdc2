"""Who counts as a reader of others' objects, and what is said about the lines that do not."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from bot.errors import BadInput, ProviderRefused, ProviderUnreachable


class TestWhatCounts:
    def test_counts_records_people_and_principals(self, log, ask):
        """Records are distinct objects, people distinct owners, principals distinct callers."""
        log.write("/api/orders/1")
        log.write("/api/orders/1", client_ip="192.0.2.9")
        log.write("/api/orders/2", resource_owner="bob")
        log.write("/api/orders/3", sub="trudy")
        log.write("/api/orders/4", sub="alice")

        facts = ask()

        assert (facts["records"], facts["people"], facts["principals"]) == (3, 2, 2)
        assert facts["reads"] == 4
        assert facts["principal_ids"] == ["mallory", "trudy"]
        assert facts["lines"] == 5
        assert facts["first_seen"] == "2026-11-23T12:00:01Z"
        assert facts["last_seen"] == "2026-11-23T12:00:04Z"

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"sub": "alice"}, id="the-owner-reads-its-own"),
            pytest.param({"response_code": 403}, id="refused-reads-show-nothing"),
            pytest.param({"response_code": 302}, id="redirects-show-nothing"),
            pytest.param({"method": "PUT"}, id="another-method-is-another-endpoint"),
            pytest.param({"path": "/api/customers/1"}, id="another-path"),
            pytest.param({"path": "/api/orders"}, id="the-collection"),
            pytest.param({"path": "/api/orders/1/items"}, id="a-path-below"),
            pytest.param({"path": "/x/api/orders/1"}, id="a-path-above"),
            pytest.param({"path": "/apiXorders/1"}, id="literal-text-is-literal"),
            pytest.param({"start_time": "2026-11-23T11:59:59Z"}, id="before-the-window"),
            pytest.param({"start_time": "2026-11-23T14:00:00.001+01:00"}, id="after-the-window"),
        ],
    )
    def test_leaves_out(self, log, ask, changes):
        """Only a successful read of someone else's object, within the window, counts."""
        log.write(**changes)

        facts = ask(until="2026-11-23T13:00:00Z")

        assert facts["records"] == 0
        assert facts["reads"] == facts["unreadable_lines"] == facts["entitled_reads"] == 0
        assert ask.objects == []

    def test_an_offset_in_a_line_is_taken_into_account(self, log, ask):
        """A log in local time is compared as UTC."""
        log.write(start_time="2026-11-23T14:30:00.250+02:00")

        assert ask()["first_seen"] == "2026-11-23T12:30:00.250000Z"

    def test_an_unauthenticated_reader_counts(self, log, ask):
        """No principal is nobody's owner; it counts as one caller without a name."""
        log.write(sub=None)
        log.write(sub="-")
        log.write(sub="trudy")

        facts = ask()

        assert (facts["principals"], facts["anonymous_reads"]) == (2, 2)
        assert facts["principal_ids"] == ["trudy"]

    def test_entitled_roles_are_left_out_and_counted(self, log, ask):
        """Support staff read others' objects all day; the count says how often."""
        log.write(role="support", sub="sue")
        log.write(role="service", sub="billing")
        log.write(role="customer")

        facts = ask()

        assert (facts["principals"], facts["entitled_reads"]) == (1, 2)

    def test_service_accounts_are_named_even_if_entitled(self, log, ask):
        """A thief with a service's key looks like the service, so the service is named."""
        log.write(role="service", sub="billing")

        assert ask()["service_accounts"] == ["billing"]
        assert ask(entitled_roles=["support"])["principal_ids"] == ["billing"]

    def test_an_object_with_two_parameters_is_both_of_them(self, log, ask):
        """Order 1 of one customer is not order 1 of another."""
        log.write("/api/customers/a/orders/1")
        log.write("/api/customers/b/orders/1")

        facts = ask("GET /api/customers/{customer}/orders/{order}")

        assert facts["records"] == 2
        assert ask.objects == ["a/1", "b/1"]

    def test_an_endpoint_without_parameters_is_one_object(self, log, ask):
        """Its path is the object."""
        log.write("/api/report")
        log.write("/api/report?x=1")

        assert ask("GET /api/report")["records"] == 1

    @pytest.mark.parametrize(
        "path",
        [
            "/api/orders/12?verbose=1",
            "/api/orders/12/",
            "/api//orders///12",
            "/api/%6frders/%31%32",
            "/api/./orders/12",
            "/api/orders/./12",
            "/api/customers/../orders/12",
            "/api/a/b/../../orders/12",
            "/api/orders/12#x",
        ],
    )
    def test_every_spelling_of_a_path_is_the_same_object(self, log, ask, path):
        """A thief must not hide a read behind another spelling of its path."""
        log.write(path)

        ask()

        assert ask.objects == ["12"]

    def test_an_encoded_slash_stays_within_its_segment(self, log, ask):
        """`a%2fb` is one object's id, not two segments."""
        log.write("/api/orders/a%2fb")

        ask()

        assert ask.objects == ["a/b"]

    @pytest.mark.parametrize("path", ["/api/orders/%ff", "/api/orders/%zz", "/api/orders/%"])
    def test_what_cannot_be_decoded_is_taken_as_logged(self, log, ask, path):
        """Broken percent-encoding neither stops the search nor hides the read."""
        log.write(path)

        ask()

        assert ask.objects == [path.rpartition("/")[2]]

    def test_values_are_never_sql(self, log, ask):
        """Whatever a line or a parameter holds, it is compared and nothing else."""
        nasty = "x'); COPY seen TO '/tmp/stolen'; --"
        log.write(sub=nasty, role=nasty)

        assert ask(entitled_roles=[nasty])["entitled_reads"] == 1
        assert ask(entitled_roles=["'"])["principal_ids"] == [nasty]


class TestWhatIsReported:
    def test_malformed_lines_are_counted(self, log, ask):
        """Nothing is dropped in silence."""
        log.write()
        log.raw(b'not json\n{}\n[1]\n{"start_time": "yesterday", "response_code": 200}\n')
        log.raw(b"\x00\xff\xfe\n" + b'{"a": 1}{"b": 2}\n\n')
        log.write(response_code="many")

        facts = ask()

        assert (facts["records"], facts["unreadable_lines"]) == (1, 7)

    def test_a_line_too_long_to_be_one_is_counted(self, log, ask):
        """A line of 40 MB neither stops the search nor fills the memory."""
        log.write("/api/orders/1")
        log.raw(b'{"path": "' + b"a" * 40_000_000 + b'"}\n')
        log.write("/api/orders/2")

        facts = ask()

        assert (facts["records"], facts["unreadable_lines"], facts["lines"]) == (2, 1, 3)

    def test_a_half_written_last_line_is_left_for_later(self, log, ask):
        """The gateway is not done with it, so it is neither read nor wrong."""
        log.write("/api/orders/1")
        whole = json.dumps(log.line("/api/orders/2")).encode()
        log.raw(whole[:50])

        assert [ask()[key] for key in ("records", "unreadable_lines")] == [1, 0]

        log.raw(whole[50:])
        assert ask()["records"] == 2

    def test_a_log_that_grows_meanwhile_is_read_to_a_line_end(self, log, ask):
        """Pieces written in the middle of lines while the search runs give no unreadable line."""
        writing = (
            "import sys, time\n"
            "line = sys.argv[2].encode() + b'\\n'\n"
            "with open(sys.argv[1], 'ab', buffering=0) as file:\n"
            "    while True:\n"
            "        file.write(line[:40]); time.sleep(0.0005); file.write(line[40:])\n"
        )
        line = json.dumps(log.line("/api/orders/1"))
        log.write("/api/orders/1")
        command = [sys.executable, "-c", writing, str(log.path), line]
        with subprocess.Popen(command) as writer:
            try:
                seen = [ask() for _ in range(4)]
            finally:
                writer.kill()

        assert [facts["unreadable_lines"] for facts in seen] == [0, 0, 0, 0]
        assert seen[0]["reads"] < seen[-1]["reads"]

    def test_reads_without_an_owner_are_counted(self, log, ask):
        """Whether they were cross-owner reads, the log cannot tell; it says so."""
        log.write(resource_owner=None)
        log.write(resource_owner="")
        log.write("/api/customers/1", resource_owner=None)

        facts = ask()

        assert (facts["records"], facts["unknown_owner_reads"]) == (0, 2)

    def test_says_whether_the_log_reaches_back_far_enough(self, log, ask):
        """A young log cannot prove that nothing was read before it began."""
        log.write(start_time="2026-11-23T12:00:00Z")

        assert ask()["covers_window"] is True
        assert ask(since="2026-11-23T11:59:59Z")["covers_window"] is False

    def test_a_since_in_the_future_is_refused(self, ask):
        """
        A mistyped year must not become an all-clear.
        """
        with pytest.raises(BadInput, match="in the future"):
            ask(since="2030-01-01T00:00:00Z")

    def test_only_the_twenty_busiest_callers_are_named(self, log, ask):
        """Facts stay small; the evidence has them all."""
        for number in range(30):
            for order in range(1 + number % 3):
                log.write(f"/api/orders/{order}", sub=f"u{number:02}")

        facts = ask()

        assert facts["principals"] == 30
        assert len(facts["principal_ids"]) == 20
        assert facts["principal_ids"][:2] == ["u02", "u05"]
        assert "u27" in ask.csv

    def test_the_affected_people_are_in_the_evidence_only(self, log, ask):
        """Facts, summary and names of files go to many eyes; names of people do not."""
        log.write(resource_owner="alice-the-affected")

        ask()

        assert "alice-the-affected" in ask.csv
        facts_and_evidence = ask.outcome.model_dump_json()
        assert "alice-the-affected" not in facts_and_evidence


class TestEvidence:
    def test_lists_who_read_what(self, log, ask):
        """One row for each object, owner and principal, in order."""
        log.write("/api/orders/2", client_ip="192.0.2.7")
        log.write("/api/orders/2")
        log.write("/api/orders/1", sub=None, role=None)

        facts = ask()

        assert ask.csv == (
            "object,owner,principal,roles,reads,first_seen,last_seen,client_ips\n"
            "1,alice,,,1,2026-11-23T12:00:03.000000Z,2026-11-23T12:00:03.000000Z,192.0.2.1\n"
            "2,alice,mallory,customer,2,2026-11-23T12:00:01.000000Z,"
            "2026-11-23T12:00:02.000000Z,192.0.2.1 192.0.2.7\n"
        )
        assert facts["evidence"] == "cross-owner-reads-get-api-orders-order-id.csv"
        assert facts["sha256"] == hashlib.sha256(ask.csv.encode()).hexdigest()

    def test_the_same_log_gives_the_same_bytes(self, log, ask):
        """So the SHA-256 stands for the finding."""
        for number in range(500):
            log.write(f"/api/orders/{number % 97}", sub=f"m{number % 5}", client_ip=f"::{number}")

        assert len({ask()["sha256"] for _ in range(3)}) == 1

    def test_no_cell_runs_as_a_formula(self, log, ask):
        """The legal department opens the file in a spreadsheet."""
        log.write("/api/orders/=cmd()", resource_owner="@x", sub="+1")

        ask()

        assert ask.csv.splitlines()[1].startswith("'=cmd(),'@x,'+1,")

    def test_a_finding_of_nothing_is_kept_too(self, log, ask):
        """That nobody read anything is a finding."""
        log.write("/other")

        assert ask()["first_seen"] is None
        assert ask.objects == []


class TestFiles:
    def test_rotated_and_packed_files_are_read(self, log, ask, tmp_path):
        """All files of the globs are one log; a file under two names counts once."""
        log.write("/api/orders/1")
        packed = json.dumps(log.line("/api/orders/2")).encode() + b"\n"
        (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(packed))
        (tmp_path / "access.log.1").symlink_to(log.path)

        facts = ask()

        assert (facts["records"], facts["reads"]) == (2, 2)

    def test_no_file_is_not_no_reads(self, ask):
        """Without a log, nothing can be said."""
        with pytest.raises(ProviderUnreachable, match="No file matches"):
            ask()

    def test_a_damaged_file_stops_the_search(self, log, ask, tmp_path):
        """A count from a part of the log would look like a count of the whole."""
        log.write()
        packed = gzip.compress(b"x" * 10_000)
        (tmp_path / "access.log.1.gz").write_bytes(packed[: len(packed) // 2])

        with pytest.raises(ProviderRefused, match="cannot be read"):
            ask()

    def test_a_file_of_no_lines_is_read(self, log, ask):
        """An empty log is a log."""
        log.raw(b"")

        assert ask()["lines"] == 0

    def test_pieces_meet_at_line_ends(self, log, ask):
        """A log larger than one piece loses and doubles nothing at the seams."""
        line = json.dumps(log.line("/api/orders/1", user_agent="x" * 500)).encode() + b"\n"
        log.raw(line * (70_000_000 // len(line)))

        facts = ask()

        assert facts["reads"] == facts["lines"] == 70_000_000 // len(line)
        assert facts["unreadable_lines"] == 0


class TestParameters:
    @pytest.mark.parametrize("endpoint", ["/api/orders", "GET api", "GET /a/{b", "GET /a/{b/c}"])
    def test_what_is_no_endpoint_is_refused(self, log, ask, endpoint):
        """Nothing would match it, and a count of nothing would look like good news."""
        log.write()

        with pytest.raises(BadInput):
            ask(endpoint)

    def test_a_time_without_a_zone_is_refused(self, ask):
        """It could mean any of 24 hours."""
        with pytest.raises(ValidationError):
            ask(since="2026-11-23T12:00:00")

    def test_a_window_that_ends_before_it_begins_is_refused(self, ask):
        """Nothing lies in it."""
        with pytest.raises(ValidationError, match="swap"):
            ask(until=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1))
