"""The HTTP door: who may knock, what is taken, and what the sender hears."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.errors import StoreUnavailable
from bot.model.incident import IncidentStatus
from bot.web.app import MAX_BODY_BYTES, create_app
from tests.scenario.company import CLOSE, LOGIN, ORDERS, TRIGGER, Company, text_of
from tests.unit.web.client import Client

TOKEN = "hook-tøken-à"  # not ASCII, and its last byte is a space in Latin-1
HEADERS = {"Authorization": f"Bearer {TOKEN}".encode()}
URL = "/webhooks/alertmanager"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path, [text_of(CLOSE, more=TRIGGER)])
    yield company
    company.restart()


@pytest.fixture
def client(company: Company) -> Client:
    return Client(create_app(company.world.service, tokens={"alertmanager": TOKEN}))


def alert(fingerprint: str = "f1", endpoint: str = ORDERS.key, **changes: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": "CrossOwnerReads", "endpoint": endpoint},
        "annotations": {},
        "startsAt": "2026-01-02T03:04:05Z",
        "fingerprint": fingerprint,
    } | changes


def body(*alerts: dict[str, Any]) -> bytes:
    return json.dumps({"version": "4", "alerts": list(alerts) or [alert()]}).encode()


def incidents(company: Company) -> list[str]:
    return [i.id for i in company.world.service.reports.incidents()]


class TestAuthentication:
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({}, id="none"),
            pytest.param({"Authorization": ""}, id="empty"),
            pytest.param({"Authorization": "Bearer"}, id="no-token"),
            pytest.param({"Authorization": "Bearer "}, id="empty-token"),
            pytest.param({"Authorization": "Bearer wrong"}, id="wrong"),
            pytest.param({"Authorization": "Bearer wröng\xff".encode("latin-1")}, id="not-ascii"),
            pytest.param({"Authorization": f"Basic {TOKEN}".encode()}, id="another-scheme"),
            pytest.param({"Authorization": TOKEN.encode()}, id="no-scheme"),
            pytest.param({"Authorization": f"Bearer {TOKEN}x".encode()}, id="longer"),
            pytest.param({"Authorization": f"Bearer {TOKEN[:-1]}".encode()}, id="shorter"),
            pytest.param({"Authorization": f"Bearer {TOKEN}".encode("latin-1")}, id="re-encoded"),
        ],
    )
    def test_without_the_token_nothing_is_taken(self, client, company, headers):
        """
        401 with a remedy, before the body is looked at.
        """
        response = client.post(URL, content=b"not even json", headers=headers)

        assert response.status_code == 401
        assert "nothing was taken" in response.json()["error"]
        assert incidents(company) == []

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
    def test_with_it_the_alert_is_taken(self, client, scheme):
        """
        The scheme's case is irrelevant; the token may hold any character.
        """
        headers = {"Authorization": f"{scheme} {TOKEN}".encode()}

        assert client.post(URL, content=body(), headers=headers).status_code == 200

    def test_without_a_configured_token_nobody_is_let_in(self, company):
        """
        A source that was not set up is not open to everybody.
        """
        client = Client(create_app(company.world.service, tokens={}))

        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
            assert client.post(URL, content=body(), headers=headers).status_code == 401


class TestTaking:
    def test_the_answer_says_what_became_of_it(self, client, company):
        """
        200 after it is durable, with the incident and the run.
        """
        response = client.post(URL, content=body(), headers=HEADERS)

        assert response.status_code == 200
        assert response.json() == {
            "taken": [
                {
                    "fingerprint": "f1",
                    "incident_id": "INC-1",
                    "run_id": "INC-1-R1",
                    "opened": True,
                    "reason": "",
                }
            ],
            "problems": [],
        }
        assert company.world.service.reports.incidents()[0].status is IncidentStatus.CONTAINED

    def test_a_repeat_joins(self, client, company):
        """
        Alertmanager repeats; there is still one run.
        """
        client.post(URL, content=body(), headers=HEADERS)
        again = client.post(URL, content=body(), headers=HEADERS).json()["taken"][0]

        assert (again["opened"], again["incident_id"]) == (False, "INC-1")
        assert len(company.world.service.reports.runs()) == 1

    def test_ten_alerts_in_one_payload_are_ten_answers(self, client, company):
        """
        A group is taken alert by alert, in order; those on one endpoint share an incident.
        """
        ten = [alert(f"f{n}", ORDERS.key if n % 2 else LOGIN.key) for n in range(10)]

        taken = client.post(URL, content=body(*ten), headers=HEADERS).json()["taken"]

        assert [each["fingerprint"] for each in taken] == [f"f{n}" for n in range(10)]
        assert [each["opened"] for each in taken] == [True, True] + [False] * 8
        assert incidents(company) == ["INC-2", "INC-1"]

    def test_one_that_nothing_is_set_up_for_is_taken_all_the_same(self, client):
        """
        It is no mistake of the sender.
        """
        response = client.post(URL, content=body(alert(labels={"a": "b"})), headers=HEADERS)

        assert response.status_code == 200
        assert response.json()["taken"][0]["incident_id"] is None


class TestMalformed:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            pytest.param(b"", ["body"], id="empty"),
            pytest.param(b"<xml/>", ["body"], id="no-json"),
            pytest.param(b'{"version": "3", "alerts": []}', ["version", "alerts"], id="version-3"),
            pytest.param(
                json.dumps({"version": "4", "alerts": [{}]}).encode(),
                ["status", "labels", "startsAt", "fingerprint"],
                id="missing-fields",
            ),
        ],
    )
    def test_it_is_422_with_every_problem(self, client, company, content, said):
        """
        Whoever sets up the sender needs one round trip.
        """
        response = client.post(URL, content=content, headers=HEADERS)

        assert response.status_code == 422
        assert all(part in response.json()["error"] for part in said)
        assert company.kinds(None) == []

    def test_an_alert_without_what_the_runbook_needs_is_422(self, client, company):
        """
        The label that is missing is named.
        """
        labels = {"alertname": "CrossOwnerReads"}

        response = client.post(URL, content=body(alert(labels=labels)), headers=HEADERS)

        assert response.status_code == 422
        assert "endpoint" in response.json()["error"]
        assert incidents(company) == []

    def test_a_good_one_beside_it_is_taken(self, client, company, caplog):
        """
        One that lacks a label does not keep the others out; the answer names it.
        """
        bad = alert("bad", labels={"alertname": "CrossOwnerReads"})
        with caplog.at_level(logging.CRITICAL):
            response = client.post(URL, content=body(bad, alert("good")), headers=HEADERS)

        assert response.status_code == 200
        assert [each["fingerprint"] for each in response.json()["taken"]] == ["good"]
        assert response.json()["problems"][0].startswith("bad: ")

    def test_a_body_that_is_too_large_is_413(self, client, company):
        """
        It is not even read to its end.
        """
        response = client.post(URL, content=b"x" * (MAX_BODY_BYTES + 1), headers=HEADERS)

        assert response.status_code == 413
        assert company.kinds(None) == []

    def test_the_largest_that_is_taken(self, client):
        """
        The limit itself is allowed.
        """
        content = body()
        padded = content + b" " * (MAX_BODY_BYTES - len(content))

        assert client.post(URL, content=padded, headers=HEADERS).status_code == 200

    @pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/"])
    def test_there_is_nothing_else_to_find(self, client, path):
        """
        No generated pages, which would load scripts from elsewhere.
        """
        assert client.get(path).status_code == 404


class TestStoreUnavailable:
    message = "The database is full; nothing more is done until it can. Free disk space."

    @pytest.fixture
    def full(self, company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
        def begin() -> None:
            raise StoreUnavailable(self.message)

        monkeypatch.setattr(company.world.store, "begin", begin)
        monkeypatch.setattr(company.world.store, "read", begin)

    def test_it_is_503_so_that_the_sender_comes_again(self, client, full):
        """
        Alertmanager repeats on 5xx; an alert is never answered 200 and lost.
        """
        response = client.post(URL, content=body(), headers=HEADERS)

        assert (response.status_code, response.json()) == (503, {"error": self.message})

    def test_it_is_not_ready_but_alive(self, client, full):
        """
        A load balancer sends nothing more, and nobody kills the process for it.
        """
        assert client.get("/ready").status_code == 503
        health = client.get("/health")
        assert (health.status_code, health.json()["store"]) == (200, self.message)


class TestHealth:
    def test_all_is_well(self, client):
        """
        Ready, and nothing to say.
        """
        assert client.get("/ready").status_code == 200
        assert client.get("/health").json() == {"store": "ok", "sending": "ok"}

    def test_trouble_with_sending_is_said_and_alerts_are_still_taken(self, client, company):
        """
        Slack being down is no reason not to close an endpoint.
        """
        company.world.service.outboxes[0].trouble = "Slack does not answer."

        assert client.get("/health").json()["sending"] == "Slack does not answer."
        assert client.get("/ready").status_code == 200
