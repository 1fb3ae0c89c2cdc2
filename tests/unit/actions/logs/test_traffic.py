"""How an endpoint is used: who counts as what, and what is said about the rest."""

from __future__ import annotations

import gzip
import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actions.logs import AccessLogs, worker
from actions.logs.paths import patterns_of
from actions.logs.traffic import Address, Caller, Suspect, Traffic, traffic
from bot.errors import ProviderRefused, ProviderUnreachable, TimedOut

NOON = datetime.fromisoformat("2026-11-23T12:00:00Z")
ONE = timedelta(hours=1)
ORDER = patterns_of("/api/orders/{order_id}", ("GET", "HEAD"))


@pytest.fixture
def count(tmp_path):
    """Asks about the hour from noon on. The file is as old as its lines."""

    def ask(patterns=ORDER, *, written_at: datetime = NOON + ONE, **more: Any) -> Traffic:
        for file in tmp_path.glob("access.log"):
            touch(file, written_at)
        logs = AccessLogs("edge-access", files=[str(tmp_path / "access*.log*")])
        window = {"since": NOON, "until": NOON + ONE, "limit_s": 30}
        return traffic(logs, patterns, **window | more)

    return ask


def touch(file: Path, at: datetime) -> None:
    os.utime(file, (at.timestamp(), at.timestamp()))


class TestRequests:
    def test_counts_what_concerns_the_endpoint_and_everything(self, log, count):
        """
        The share of an endpoint needs both: its requests, whatever was answered, and all there are.
        """
        log.write("/api/orders/1")
        log.write("/api/orders/2", response_code=403)
        log.write("/api/orders/2?page=1", method="HEAD")
        log.write("/api/orders/2", method="PUT")
        log.write("/api/customers/me")

        found = count()

        assert (found.total, found.requests, found.successes) == (5, 3, 2)
        assert found.last_at == NOON + timedelta(seconds=5)

    def test_a_whole_route_is_every_method(self, log, count):
        """
        Also methods that the inventory does not know.
        """
        for method in ("GET", "PUT", "PURGE"):
            log.write(method=method)
        log.write("/api/orders", method="POST")

        assert count(patterns_of("/api/orders/{order_id}", ())).requests == 3

    def test_what_is_another_endpoints_is_left_out(self, log, count):
        """
        A control on a template leaves more specific endpoints alone, so their requests are none of
        its own, in whatever spelling.
        """
        log.write("/api/orders/1")
        log.write("/api/orders/export")
        log.write("/api/orders/%65xport")

        found = count(except_for=patterns_of("/api/orders/export", ("GET", "HEAD")))

        assert (found.total, found.requests) == (3, 1)

    @pytest.mark.parametrize("path", ["/api//orders/1", "/api/./orders/%31", "/api/orders/a%2fb"])
    def test_every_spelling_of_a_path_counts(self, log, count, path):
        """
        As for the search of records.
        """
        log.write(path)

        assert count().requests == 1

    def test_what_is_outside_the_window_is_not_counted(self, log, count):
        """
        Neither for the endpoint nor in all.
        """
        log.write(start_time="2026-11-23T11:59:59.999Z")
        log.write(start_time="2026-11-23T14:00:00.001+01:00")
        log.write(start_time="2026-11-23T13:00:00Z")

        found = count()

        assert (found.total, found.requests) == (1, 1)

    def test_values_are_never_sql(self, log, count):
        """
        Whatever a line or a template holds, it is compared and nothing else.
        """
        nasty = "x'); DROP TABLE seen; --"
        log.write(f"/api/'||{nasty}", sub=nasty, tenant=nasty)

        found = count(patterns_of(f"/api/'||{nasty}".replace(" ", "{gap}"), ("GET",)))

        assert [each.principal for each in found.suspects] == [nasty]


class TestCallers:
    def test_distinct_callers_and_those_without_a_name(self, log, count):
        """
        A caller is a principal, whatever it was answered; requests without one are counted apart.
        """
        for sub in ("a", "b", "a", None, "-", ""):
            log.write(sub=sub, response_code=403 if sub == "b" else 200)
        log.write("/other", sub="c")

        found = count()

        assert (found.callers, found.anonymous) == (2, 3)
        assert found.busiest == (Caller("a", 2), Caller("b", 1))

    def test_tenants_of_the_endpoint(self, log, count):
        """
        Callers without a tenant belong to none.
        """
        for tenant in ("acme", "blue", "acme", None, "-"):
            log.write(tenant=tenant)
        log.write("/other", tenant="cyan")

        assert count().tenants == 2

    def test_a_log_without_tenants_says_nothing_about_them(self, log, count):
        """
        "No tenant" and "not logged" are different things.
        """
        log.write()
        assert count().tenants is None

        log.write("/other", tenant="acme")
        assert count().tenants == 0

    def test_the_twenty_busiest_are_named(self, log, count):
        """
        All are counted.
        """
        for number in range(25):
            log.write(sub=f"c-{number:02}")

        found = count()

        assert (found.callers, len(found.busiest), len(found.suspects)) == (25, 20, 20)
        assert found.suspects_count == 25


class TestSuspects:
    def test_who_reads_what_is_somebody_elses(self, log, count):
        """
        A successful answer with an owner who is not the caller, by callers whose role does not
        entitle them; most reads first.
        """
        log.write(sub="trudy")
        log.write(sub="mallory", client_ip="192.0.2.1")
        log.write(sub="mallory", client_ip="192.0.2.2")
        log.write(sub="alice")
        log.write(sub="mallory", response_code=403)
        log.write(sub="sue", role="support")
        log.write(sub="billing", role="service")
        log.write(sub="bob", resource_owner=None)

        found = count()

        assert found.suspects == (Suspect("mallory", 2, 2), Suspect("trudy", 1, 1))
        assert (found.reads, found.suspects_count, found.anonymous_reads) == (3, 2, 0)
        assert (found.entitled_reads, found.unknown_owner) == (2, 1)

    def test_reads_without_a_principal_have_no_suspect(self, log, count):
        """
        They are reads all the same: nobody without a name owns anything.
        """
        log.write(sub=None)
        log.write(sub="trudy")

        found = count()

        assert (found.reads, found.anonymous_reads, found.suspects_count) == (2, 1, 1)

    def test_where_they_come_from_and_who_else_is_there(self, log, count):
        """
        An address that many share is not one to block.
        """
        log.write(sub="mallory", client_ip="192.0.2.1")
        log.write(sub="trudy", client_ip="192.0.2.1")
        log.write(sub="trudy", client_ip="192.0.2.2")
        log.write(sub="alice", client_ip="192.0.2.2")
        log.write(sub="bob", client_ip="192.0.2.3", resource_owner="bob")
        log.write(sub=None, client_ip="-")

        found = count()

        assert found.addresses == (
            Address("192.0.2.1", 2),
            Address("192.0.2.2", 1),
            Address(None, 1),
        )
        assert found.bystanders == 1

    def test_another_endpoints_reads_are_not_this_ones(self, log, count):
        """
        Suspects are of this endpoint, which is what would be contained.
        """
        log.write("/api/invoices/1")

        found = count()

        assert (found.reads, found.suspects, found.addresses) == (0, (), ())


class TestWhatIsReported:
    def test_malformed_lines_are_counted(self, log, count):
        """
        They are no requests, and are not dropped in silence.
        """
        log.write()
        log.raw(b'not json\n{}\n[1]\n{"start_time": "yesterday", "response_code": 200}\n\x00\xff\n')
        log.raw(b'{"path": "' + b"a" * 40_000_000 + b'"}\n')

        found = count()

        assert (found.total, found.requests, found.unreadable) == (1, 1, 6)
        assert found.lines == 7

    def test_whether_the_log_reaches_back_far_enough(self, log, count):
        """
        A young log does not know the hour; when it begins is said.
        """
        log.write()

        found = count()
        assert (found.covers_window, found.begins) == (False, NOON + timedelta(seconds=1))

        found = count(since=NOON + timedelta(seconds=1))
        assert found.covers_window is True

    def test_an_empty_log(self, log, count):
        """
        It holds nothing, and covers nothing.
        """
        log.raw(b"")

        found = count()

        assert (found.total, found.covers_window, found.begins, found.last_at) == (
            *(0, False),
            *(None, None),
        )

    def test_no_file_is_not_no_requests(self, count):
        """
        Without a log, nothing can be said.
        """
        with pytest.raises(ProviderUnreachable, match="No file matches"):
            count()

    def test_a_damaged_file_stops_it(self, log, count, tmp_path):
        """
        A part of the hour would look like the hour.
        """
        log.write()
        packed = gzip.compress(b"x" * 10_000)
        (tmp_path / "access.log.1.gz").write_bytes(packed[: len(packed) // 2])
        touch(tmp_path / "access.log.1.gz", NOON)

        with pytest.raises(ProviderRefused, match="cannot be read"):
            count()

    def test_it_ends_at_its_limit(self, log, count, tmp_path):
        """
        People wait for the card, whatever the size of a log.
        """
        lines = gzip.compress(json.dumps(log.line()).encode() + b"\n") * 1_000_000
        (tmp_path / "access.log.1.gz").write_bytes(lines)
        touch(tmp_path / "access.log.1.gz", NOON)

        with pytest.raises(TimedOut, match="longer than 1 s"):
            count(limit_s=1)


class TestFiles:
    def test_rotated_and_packed_files_are_one_log(self, log, count, tmp_path):
        """
        An hour may lie in several files.
        """
        packed = json.dumps(log.line(start_time="2026-11-23T11:00:00Z")).encode() + b"\n"
        packed += json.dumps(log.line()).encode() + b"\n"
        (tmp_path / "access.log.1.gz").write_bytes(gzip.compress(packed))
        touch(tmp_path / "access.log.1.gz", NOON + timedelta(minutes=5))
        log.write()

        found = count()

        assert (found.requests, found.covers_window) == (2, True)

    def test_a_file_last_written_before_the_window_is_not_read(self, log, count, tmp_path):
        """
        It holds nothing of the hour, and proves that the log reaches back beyond it: even one that
        cannot be read spoils nothing.
        """
        log.write()
        old = tmp_path / "access.log.2.gz"
        old.write_bytes(b"damaged")
        touch(old, NOON - timedelta(minutes=6))

        found = count()

        assert (found.requests, found.lines, found.covers_window) == (1, 1, True)

    def test_a_file_written_just_before_the_window_is_read(self, log, count):
        """
        A file server's clock may be behind.
        """
        log.write()

        assert count(written_at=NOON - timedelta(minutes=4)).requests == 1

    def test_an_empty_file_proves_nothing(self, log, count, tmp_path):
        """
        An old file without a line does not make the log reach back.
        """
        log.write()
        (tmp_path / "access.log.1").write_bytes(b"")
        touch(tmp_path / "access.log.1", NOON - ONE)

        assert count().covers_window is False


class TestALargeFile:
    """A day's file is read from where its last hour begins."""

    @pytest.fixture
    def large(self, log, monkeypatch):
        """Three hours of 200 bytes each second, and pieces that are small beside that."""
        monkeypatch.setattr(worker, "PIECE_BYTES", 64 << 10)
        log.seconds = -7200
        log.raw(b"".join(json.dumps(log.line()).encode() + b"\n" for _ in range(10_800)))
        return log.path

    def since(self, moment: datetime = NOON) -> worker.Since:
        return worker.Since(
            int(moment.timestamp() * 1_000_000), time_key="start_time", duration_key="duration_ms"
        )

    def test_what_is_left_out_is_older(self, large):
        """
        The part that is read begins with a line, misses none of the window and is not much more.
        """
        with large.open("rb") as file:
            start = worker.wanted_from(file, large.stat().st_size, self.since())
            rest = file.read()

        left_out = large.read_bytes()[:start].splitlines()
        assert all(json.loads(line)["start_time"] < "2026-11-23T12:00" for line in left_out)
        assert rest.startswith(b'{"start_time": "2026-11-23T11:')
        assert len(rest) < large.stat().st_size / 3 + 2 * worker.PIECE_BYTES

    def test_a_request_that_took_long_misleads_nobody(self, large, log):
        """
        Its line says an early time and stands late; what counts is when it was written.
        """
        begun = "2026-11-23T09:00:00.000Z"
        took_ms = 4 * 3_600_000
        slow = json.dumps(log.line(start_time=begun, duration_ms=took_ms)).encode() + b"\n"
        large.write_bytes(large.read_bytes() + slow * 20_000)

        with large.open("rb") as file:
            start = worker.wanted_from(file, large.stat().st_size, self.since())

        assert b'"2026-11-23T12:00:00.000Z"' not in large.read_bytes()[:start]

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"duration_ms": None}, id="no-duration"),
            pytest.param({"start_time": "2026-11-23T09:00:00"}, id="no-zone"),
            pytest.param({"start_time": "long ago"}, id="no-time"),
            pytest.param({"user_agent": "x" * 300_000}, id="longer-than-a-look"),
        ],
    )
    def test_lines_that_do_not_tell_are_read(self, log, monkeypatch, changes):
        """
        Nothing is left out on doubt.
        """
        monkeypatch.setattr(worker, "PIECE_BYTES", 1 << 10)
        line = json.dumps(log.line(**{"start_time": "2026-11-23T09:00:00Z"} | changes)).encode()
        log.raw((line + b"\n") * 100)

        with log.path.open("rb") as file:
            assert worker.wanted_from(file, log.path.stat().st_size, self.since()) == 0

    def test_the_count_is_that_of_the_whole_file(self, log, count):
        """
        With the real worker on a file of several pieces.
        """
        log.seconds = -36_000
        lines = [json.dumps(log.line(user_agent="x" * 3_000)) for _ in range(38_000)]
        log.raw("\n".join(lines).encode() + b"\n")

        found = count()

        assert (found.requests, found.covers_window) == (2_001, True)
        assert found.lines < 20_000
