"""Alertmanager's webhook, version 4, as alerts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import AlertInvalid
from bot.model.alert import Alert
from bot.web.alertmanager import MAX_ALERTS, parse


def alert(**changes: Any) -> dict[str, Any]:
    """Return one alert as Alertmanager writes it."""
    return {
        "status": "firing",
        "labels": {"alertname": "CrossOwnerReads", "endpoint": "GET /api/orders/{order_id}"},
        "annotations": {"summary": "Someone reads orders of others."},
        "startsAt": "2026-01-02T03:04:05.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "b0f25b6d8e7d4c3a",
    } | changes


def payload(*alerts: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(
        {
            "version": "4",
            "groupKey": '{}:{alertname="CrossOwnerReads"}',
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "firedoor",
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager",
            "alerts": list(alerts) or [alert()],
        }
        | changes
    ).encode()


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in alert().items() if name != key}


class TestGoodPayload:
    def test_an_alert_is_taken_with_what_identifies_it(self):
        """
        Labels, annotations, fingerprint and start; the rest is not ours.
        """
        assert parse(payload()) == [
            Alert(
                source="alertmanager",
                fingerprint="b0f25b6d8e7d4c3a",
                status="firing",
                labels=alert()["labels"],
                annotations=alert()["annotations"],
                starts_at=datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC),
            )
        ]

    def test_several_keep_their_order(self):
        """
        One payload may hold a whole group.
        """
        given = [alert(fingerprint=f"f{number}") for number in range(10)]

        assert [a.fingerprint for a in parse(payload(*given))] == [f"f{n}" for n in range(10)]

    def test_a_resolved_alert_is_one(self):
        """
        Alertmanager tells the end as well.
        """
        assert parse(payload(alert(status="resolved")))[0].status == "resolved"

    def test_another_zone_is_the_same_moment(self):
        """
        Moments are kept in UTC.
        """
        taken = parse(payload(alert(startsAt="2026-01-02T05:04:05+02:00")))

        assert taken[0].starts_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def test_fields_of_later_versions_are_passed_over(self):
        """
        A newer Alertmanager that says more is still understood.
        """
        assert len(parse(payload(alert(news=1), news={"a": [1]}))) == 1


class TestBadPayload:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            pytest.param(b"", "body", id="empty"),
            pytest.param(b"{", "body", id="half-a-json"),
            pytest.param(b"\xff\xfe", "body", id="no-utf-8"),
            pytest.param(b"[]", "body", id="a-list"),
            pytest.param(b"[" * 100_000, "body", id="a-tower-of-brackets"),
            pytest.param(payload(version="3"), "version", id="another-version"),
            pytest.param(payload(version=4), "version", id="a-number-for-the-version"),
            pytest.param(payload(alerts=[]), "alerts", id="no-alerts"),
            pytest.param(payload(alerts=None), "alerts", id="null-alerts"),
            pytest.param(payload(*[alert()] * (MAX_ALERTS + 1)), "alerts", id="too-many-alerts"),
            pytest.param(payload(without("fingerprint")), "alerts.0.fingerprint", id="no-print"),
            pytest.param(payload(without("startsAt")), "alerts.0.startsAt", id="no-start"),
            pytest.param(payload(without("labels")), "alerts.0.labels", id="no-labels"),
            pytest.param(payload(alert(status="odd")), "alerts.0.status", id="unknown-status"),
            pytest.param(
                payload(alert(startsAt="2026-01-02T03:04:05")), "alerts.0.startsAt", id="no-zone"
            ),
            pytest.param(payload(alert(labels={"a": 1})), "alerts.0.labels.a", id="number-label"),
            pytest.param(
                payload(alert(labels={"a": "x" * 10_001})), "alerts.0.labels.a", id="long-label"
            ),
            pytest.param(
                payload(alert(labels={str(n): "" for n in range(101)})),
                "alerts.0.labels",
                id="many-labels",
            ),
            pytest.param(payload(alert(fingerprint="")), "alerts.0.fingerprint", id="empty-print"),
        ],
    )
    def test_it_is_refused_with_its_place(self, body, said):
        """
        What is not the promised format is refused, and says where it is not.
        """
        with pytest.raises(AlertInvalid, match=r"nothing was taken") as caught:
            parse(body)

        assert f"({said}" in str(caught.value)

    def test_all_problems_are_named_at_once(self):
        """
        Whoever configures the receiver needs one round trip.
        """
        body = payload(without("fingerprint"), without("startsAt"), version="3")

        with pytest.raises(AlertInvalid) as caught:
            parse(body)

        for place in ("version", "alerts.0.fingerprint", "alerts.1.startsAt"):
            assert place in str(caught.value)

    def test_what_was_sent_is_not_repeated(self):
        """
        Labels may hold what nobody should read in a log.
        """
        with pytest.raises(AlertInvalid) as caught:
            parse(payload(alert(status="hunter2-canary")))

        assert "canary" not in str(caught.value)

    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_no_body_makes_another_error(self, body):
        """
        Anything can be sent; the answer is alerts or AlertInvalid.
        """
        with pytest.raises(AlertInvalid):
            parse(body)
