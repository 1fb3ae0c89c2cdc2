"""What a card says of an endpoint's traffic, and which rung it names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actions.gateway.blast_radius import (
    BUSY,
    FEW_ADDRESSES,
    FEW_PRINCIPALS,
    MANY_REQUESTS,
    facts,
    least_disruptive,
    share,
)
from actions.logs.traffic import TOP, Address, Caller, Suspect, Traffic
from bot.model.containment import ANY_METHOD, Containment, Control, ControlKind, subject
from bot.model.endpoint import Endpoint

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUIET = Traffic(
    since=NOON - timedelta(hours=1),
    until=NOON,
    total=4_000,
    requests=1_200,
    successes=1_190,
    callers=1_205,
    anonymous=0,
    tenants=14,
    reads=0,
    anonymous_reads=0,
    entitled_reads=0,
    unknown_owner=0,
    suspects=(),
    suspects_count=0,
    addresses=(),
    bystanders=0,
    busiest=(Caller("c-7", 20), Caller("c-8", 19)),
    lines=4_000,
    unreadable=0,
    covers_window=True,
    begins=NOON - timedelta(hours=2),
    last_at=NOON - timedelta(seconds=1),
)
ORDER = Endpoint(
    method="GET",
    path="/api/orders/{order_id}",
    owner="team-orders",
    data_classification=("personal", "payment"),
)
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=ORDER.path)


def suspects(count: int, reads: int = 10) -> tuple[Suspect, ...]:
    return tuple(Suspect(f"c-{1_001 + n}", reads, 1) for n in range(count))


def addresses(count: int, reads: int = 10) -> tuple[Address, ...]:
    return tuple(Address(f"203.0.113.{n + 1}", reads) for n in range(count))


def attacked(principals: int, places: int, **more: Any) -> Traffic:
    """Reads of others' objects by so many principals from so many addresses."""
    named = {
        "reads": principals * 10,
        "suspects": suspects(principals)[:TOP],
        "suspects_count": principals,
        "addresses": addresses(places)[:TOP],
    }
    return replace(QUIET, **named | more)


def held(kind: ControlKind = ControlKind.CLOSE, path: str = ORDER.path, **more: Any) -> Containment:
    return Containment(
        id="INC-1-R1.close",
        incident_id="INC-1",
        run_id="INC-1-R1",
        step_id="close",
        gateway="edge",
        control=Control(kind=kind, path=path, **{"method": "GET"} | more),
        owner="slack:U0IRIS",
        reason="Reads",
        since=NOON,
        expires_at=NOON + timedelta(hours=4),
    )


def card(seen: Traffic | str, **more: Any) -> dict[str, str]:
    given: dict[str, Any] = {"endpoints": [ORDER], "control": CLOSE, "in_force": []}
    return dict(facts(seen, **given | more))


class TestAdvice:
    def test_one_caller_is_blocked(self):
        """
        Everybody else is served on, and how many they are is said.
        """
        seen = attacked(1, 1, reads=40)

        advice = least_disruptive(seen)

        assert advice.kind is ControlKind.BLOCK
        assert advice.sentence == (
            "Blocking c-1001 would stop 40 of 40 reads of others' objects seen in the last hour; "
            "1,204 other callers would be served on."
        )

    def test_few_callers_are_blocked_by_name(self):
        """
        Also if they come from many addresses.
        """
        advice = least_disruptive(attacked(FEW_PRINCIPALS, 20))

        assert advice.kind is ControlKind.BLOCK
        assert advice.sentence.startswith("Blocking c-1001, c-1002, c-1003, c-1004 and c-1005 ")

    def test_many_callers_from_few_addresses_are_blocked_by_address(self):
        """
        One thief with many accounts.
        """
        advice = least_disruptive(attacked(FEW_PRINCIPALS + 1, FEW_ADDRESSES, bystanders=2))

        assert advice.kind is ControlKind.BLOCK
        assert advice.sentence == (
            "Blocking 203.0.113.1, 203.0.113.2 and 203.0.113.3 would stop 60 of 60 reads of "
            "others' objects seen in the last hour, by 6 callers; 2 of 1,199 other callers would "
            "be refused too."
        )

    def test_readers_without_a_name_are_blocked_by_address(self):
        """
        No block of a caller meets them.
        """
        advice = least_disruptive(attacked(0, 1, reads=30, anonymous_reads=30))

        assert advice.kind is ControlKind.BLOCK
        assert "Blocking 203.0.113.1 would stop 30 of 30" in advice.sentence
        assert "by callers without a name" in advice.sentence

    def test_addresses_that_many_others_use_are_not_blocked(self):
        """
        The address of a proxy stands for everybody behind it: its block is a close by another name.
        """
        advice = least_disruptive(attacked(6, 1, bystanders=120))

        assert advice.kind is ControlKind.CLOSE
        assert advice.sentence == (
            "Only a close would stop 60 of 60 reads of others' objects seen in the last hour: they "
            "are by 6 callers at 1 address, which 120 other callers use as well; 1,199 other "
            "callers would be refused too."
        )

    @pytest.mark.parametrize(
        ("seen", "why"),
        [
            pytest.param(attacked(6, 4), "at 4 addresses, too many to block", id="many-addresses"),
            pytest.param(
                attacked(90, 97), f"at {TOP} addresses or more, too many to block", id="a-crowd"
            ),
            pytest.param(
                attacked(6, 0, addresses=(Address(None, 60),)),
                "at addresses that are not in the log",
                id="unknown-addresses",
            ),
            pytest.param(
                attacked(1, 4, anonymous_reads=3),
                "by 1 caller and callers without a name at 4 addresses",
                id="some-without-a-name",
            ),
        ],
    )
    def test_else_only_a_close_stops_them(self, seen, why):
        """
        With the reason for which no block does.
        """
        advice = least_disruptive(seen)

        assert advice.kind is ControlKind.CLOSE
        assert why in advice.sentence

    def test_one_caller_who_makes_most_requests(self):
        """
        Nothing of others is read, but one caller is half of a busy endpoint.
        """
        most = int(BUSY * MANY_REQUESTS)
        seen = replace(QUIET, requests=MANY_REQUESTS, busiest=(Caller("c-7", most),))

        advice = least_disruptive(seen)

        assert advice.kind is ControlKind.BLOCK
        assert advice.sentence.startswith("c-7 makes 300 of 600 requests, with no read of others'")
        assert "leave 1,204 other callers alone" in advice.sentence

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({}, id="many-callers"),
            pytest.param(
                {"requests": MANY_REQUESTS, "busiest": (Caller("c-7", MANY_REQUESTS // 2 - 1),)},
                id="less-than-half",
            ),
            pytest.param(
                {"requests": MANY_REQUESTS - 1, "busiest": (Caller("c-7", MANY_REQUESTS - 1),)},
                id="few-requests",
            ),
        ],
    )
    def test_nothing_unusual_is_watched_first(self, changes):
        """
        A shadow refuses nobody.
        """
        advice = least_disruptive(replace(QUIET, **changes))

        assert advice.kind is ControlKind.SHADOW
        assert advice.sentence.startswith("Nothing unusual is seen in the last hour")

    def test_nothing_is_not_said_where_nothing_can_be_seen(self):
        """
        No request, and no owner in the log, are not good news.
        """
        unused = replace(QUIET, requests=0, successes=0, busiest=())
        blind = replace(QUIET, unknown_owner=QUIET.successes)

        assert least_disruptive(unused).sentence.startswith("No request to it is seen")
        assert least_disruptive(blind).sentence.startswith("Whose objects were read is not in")

    def test_a_young_log_speaks_of_its_own_time(self):
        """
        It has not seen the last hour.
        """
        young = {"covers_window": False, "begins": NOON - timedelta(minutes=20)}

        assert "objects seen since 11:40 UTC;" in least_disruptive(attacked(1, 1, **young)).sentence

    def test_a_callers_name_stays_on_its_line(self):
        """
        Callers may have chosen their names: none writes a line of its own onto the card.
        """
        seen = attacked(1, 1, suspects=(Suspect("x\nApproved by\u202eiris" + "x" * 500, 10, 1),))

        sentence = least_disruptive(seen).sentence

        assert sentence.startswith("Blocking x Approved by iris")
        assert "\n" not in sentence
        assert len(sentence) < 250


class TestShare:
    def test_of_all_requests(self):
        """
        The endpoint's among all in the log.
        """
        assert share(QUIET) == 0.3
        assert share(replace(QUIET, requests=0)) == 0.0

    @pytest.mark.parametrize(
        "seen",
        [
            pytest.param("The log is gone.", id="no-log"),
            pytest.param(replace(QUIET, total=0, requests=0), id="no-line"),
            pytest.param(replace(QUIET, covers_window=False), id="not-the-hour"),
            pytest.param(replace(QUIET, unreadable=41), id="unreadable"),
        ],
    )
    def test_not_known(self, seen):
        """
        A guard rail must not take a guess for a small part.
        """
        assert share(seen) is None

    def test_some_unreadable_lines_do_not_matter(self):
        """
        Half a line is in many a log.
        """
        assert share(replace(QUIET, unreadable=40)) == 0.3


class TestCard:
    def test_its_lines(self):
        """
        All that people weigh, in the order in which they ask.
        """
        seen = replace(
            attacked(2, 3, reads=52),
            suspects=(Suspect("c-1001", 40, 1), Suspect("c-1002", 12, 2)),
            anonymous=12,
        )

        assert facts(seen, [ORDER], CLOSE, [held(ControlKind.THROTTLE, rate_per_s=1)]) == (
            ("Requests in the last hour", "1,200 (20 a minute), 30% of 4,000 at the gateway"),
            ("Callers", "1,205, of 14 tenants; 12 requests without one"),
            (
                "Others' objects read",
                "52 times: 40 by c-1001 (1 address), 12 by c-1002 (2 addresses)",
            ),
            ("Owner team", "team-orders"),
            ("Data", "payment, personal"),
            ("Other containments", "throttled to 1 a second (429) by INC-1 until 16:00 UTC"),
            (
                "Least disruptive",
                "gateway.block. Blocking c-1001 and c-1002 would stop 52 of 52 reads of others' "
                "objects seen in the last hour; 1,203 other callers would be served on.",
            ),
        )

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            pytest.param(
                "Reading log 'a' took longer than 10 s and was stopped; nothing was counted. Name "
                "fewer files.",
                "not known: Reading log 'a' took longer than 10 s and was stopped",
                id="too-slow",
            ),
            pytest.param(
                "No file matches /a of log 'a', so no access can be searched; check.",
                "not known: No file matches /a of log 'a'",
                id="no-file",
            ),
            pytest.param(
                replace(QUIET, total=0, requests=0),
                "not known: the log has no line of the last hour",
                id="no-line",
            ),
        ],
    )
    def test_what_is_not_known_is_said_with_its_reason(self, seen, expected):
        """
        Nothing is said then that only the log could tell; what the inventory knows stays.
        """
        lines = card(seen)

        assert lines.pop("Requests in the last hour") == expected
        assert lines.keys() == {"Owner team", "Data", "Other containments"}

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"requests": 3}, "3 (0.1 a minute), less than 1% of 4,000 at the gateway"),
            ({"requests": 0}, "none, 0% of 4,000 at the gateway"),
            (
                {"covers_window": False, "begins": NOON - timedelta(minutes=20)},
                "1,200 (60 a minute) since 11:40 UTC; the log begins then, so the hour and the "
                "share of all are not known",
            ),
            (
                {"covers_window": False, "begins": NOON - timedelta(seconds=1)},
                "1,200 (1,200 a minute) since 11:59 UTC; the log begins then, so the hour and the "
                "share of all are not known",
            ),
            (
                {"unreadable": 1},
                "1,200 (20 a minute), 30% of 4,000 at the gateway; 1 of 4,000 lines cannot be read",
            ),
            (
                {"unreadable": 400},
                "1,200 (20 a minute); their share of all is not known; 400 of 4,000 lines cannot "
                "be read",
            ),
            (
                {"last_at": NOON - timedelta(minutes=30)},
                "1,200 (20 a minute), 30% of 4,000 at the gateway; the log ends at 11:30 UTC",
            ),
        ],
    )
    def test_how_much_is_known_of_the_hour(self, changes, expected):
        """
        A figure does not pass for more than it is.
        """
        assert card(replace(QUIET, **changes))["Requests in the last hour"] == expected

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"tenants": None}, "1,205; tenants are not in the log"),
            ({"callers": 1, "tenants": 1, "anonymous": 1}, "1, of 1 tenant; 1 request without one"),
        ],
    )
    def test_callers(self, changes, expected):
        """
        Requests without a caller are counted apart, and so is what is not logged.
        """
        assert card(replace(QUIET, **changes))["Callers"] == expected

    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            (QUIET, "none seen"),
            (attacked(1, 2), "10 times by c-1001 (1 address)"),
            (attacked(0, 1, reads=1, anonymous_reads=1), "1 time: 1 without a caller"),
            (replace(QUIET, unknown_owner=1_190), "not known: the log names no owner"),
            (
                replace(QUIET, unknown_owner=30, entitled_reads=312),
                "none seen; 312 by support and services; 30 answers without an owner in the log",
            ),
            (
                attacked(6, 1, anonymous_reads=5, reads=65),
                "65 times: 10 by c-1001 (1 address), 10 by c-1002 (1 address), 10 by c-1003 "
                "(1 address), others by 3 more callers, 5 without a caller",
            ),
        ],
    )
    def test_reads_of_others_objects(self, seen, expected):
        """
        Who made most of them; and what the log cannot tell, or takes for somebody's work.
        """
        assert card(seen)["Others' objects read"] == expected

    def test_a_whole_route_has_all_its_owners(self):
        """
        A control on every method concerns whoever owns one.
        """
        put = ORDER.model_copy(update={"method": "PUT", "owner": "team-carts"})
        bare = Endpoint(method="DELETE", path=ORDER.path)

        lines = card(QUIET, endpoints=[ORDER, put, bare])

        assert (lines["Owner team"], lines["Data"]) == (
            "team-carts, team-orders",
            "payment, personal",
        )

    def test_what_the_inventory_does_not_know(self):
        """
        An empty line would look like none.
        """
        lines = card(QUIET, endpoints=[Endpoint(method="GET", path=ORDER.path)])

        assert (lines["Owner team"], lines["Data"]) == ("not in the inventory",) * 2

    def test_other_containments_there_and_elsewhere(self):
        """
        What holds on the endpoint is named, on its whole route too; the rest is counted.
        """
        in_force = [
            held(ControlKind.BLOCK, principals=(subject("c-9"),)),
            held(method=ANY_METHOD),
            held(path="/api/invoices"),
        ]

        assert card(QUIET)["Other containments"] == "none"
        assert card(QUIET, in_force=in_force)["Other containments"] == (
            "refused to c-9 (403) by INC-1 until 16:00 UTC; closed (503) by INC-1 until 16:00 UTC; "
            "1 on other endpoints of the gateway"
        )
        many = card(QUIET, in_force=[held()] * 5)["Other containments"]
        assert many.endswith("16:00 UTC; 2 more")
