"""Containments over HTTP: who may, what is taken, and what the caller hears."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.errors import StoreUnavailable
from bot.model.containment import Containment, Control, ControlKind
from bot.testing import START
from bot.web.app import create_app
from bot.web.containments import MAX_BODY_BYTES
from tests.scenario.company import IRIS, SAM, Company
from tests.unit.web.client import Client

IRIS_TOKEN = "irïs-tøken-à"  # not ASCII, and its last byte is a space in Latin-1
EVE_TOKEN = "eve-token"
TERMINAL_TOKEN = "sam-at-a-terminal"
PEOPLE = {IRIS_TOKEN: IRIS.actor, EVE_TOKEN: "slack:U0EVE", TERMINAL_TOKEN: "cli:sam"}
HELD = Containment(
    id="INC-1-R1.close",
    incident_id="INC-1",
    run_id="INC-1-R1",
    step_id="close",
    gateway="edge",
    control=Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders"),
    owner=SAM.actor,
    reason="Cross-owner reads",
    since=START,
    expires_at=START + timedelta(hours=4),
)
URL = f"/containments/{HELD.id}"
BODIES = {"extend": {"ttl": "2h"}, "hand-over": {"to": "U0TARIQ"}, "lift": {}}
VERBS = pytest.mark.parametrize("verb", BODIES)


def bearer(token: str = IRIS_TOKEN) -> dict[str, bytes]:
    return {"Authorization": f"Bearer {token}".encode()}


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    """One containment is in force; Sam is known at two doors."""
    company = Company(tmp_path, [], people={"sam": ["U0SAM", "cli:sam"]})
    company.world.service.desk.hold(HELD)
    yield company
    company.restart()


def client_of(company: Company, **options: Any) -> Client:
    return Client(create_app(company.world.service, tokens={}, people=PEOPLE), **options)


@pytest.fixture
def client(company: Company) -> Client:
    return client_of(company)


def now(company: Company) -> Containment:
    found = company.world.service.desk.get(HELD.id)
    assert found is not None
    return found


class TestWhoMay:
    @VERBS
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({}, id="none"),
            pytest.param({"Authorization": "Bearer"}, id="no-token"),
            pytest.param({"Authorization": "Bearer wrong"}, id="wrong"),
            pytest.param({"Authorization": "Bearer wröng\xff".encode("latin-1")}, id="not-ascii"),
            pytest.param({"Authorization": f"Basic {IRIS_TOKEN}".encode()}, id="another-scheme"),
            pytest.param(bearer(f"{IRIS_TOKEN}x"), id="longer"),
            pytest.param(bearer(IRIS_TOKEN[:-1]), id="shorter"),
            pytest.param(
                {"Authorization": f"Bearer {IRIS_TOKEN}".encode("latin-1")}, id="re-encoded"
            ),
        ],
    )
    def test_without_a_known_token_nobody_is_heard(self, client, company, verb, headers):
        """
        401 with a remedy, before the body is looked at.
        """
        response = client.post(f"{URL}/{verb}", content=b"not even json", headers=headers)

        assert response.status_code == 401
        assert "`api_tokens`" in response.json()["error"]
        assert response.headers["www-authenticate"] == "Bearer"
        assert now(company) == HELD

    def test_it_is_not_read_by_strangers_either(self, client):
        """
        What is closed and why is nobody's business.
        """
        assert client.get("/containments").status_code == 401
        assert client.get("/containments", headers=bearer(EVE_TOKEN)).status_code == 403

    def test_without_any_token_in_the_settings_nobody_is_let_in(self, company):
        """
        What was not set up is not open to everybody.
        """
        client = Client(create_app(company.world.service, tokens={"alertmanager": "hook"}))

        for headers in ({}, bearer(""), bearer(" "), bearer("hook")):
            assert client.get("/containments", headers=headers).status_code == 401

    @VERBS
    def test_only_people_in_a_group_may(self, client, company, verb):
        """
        A token alone is no right; that comes before any word about the body.
        """
        response = client.post(f"{URL}/{verb}", content=b"?", headers=bearer(EVE_TOKEN))

        assert response.status_code == 403
        assert "slack:U0EVE is in no group" in response.json()["error"]
        assert now(company) == HELD

    def test_one_human_is_one_person_at_every_door(self, client, company):
        """
        The journal names who did it as it names them elsewhere.
        """
        client.post(f"{URL}/lift", headers=bearer(TERMINAL_TOKEN))

        assert now(company).lifted_by == SAM.actor


class TestInForce:
    def test_it_is_shown_as_it_is_kept(self, client, company):
        """
        Oldest first; what was lifted is not in force.
        """
        other = HELD.model_copy(update={"id": "INC-1-R1.other"})
        company.world.service.desk.hold(other)

        def ids() -> list[str]:
            shown = client.get("/containments", headers=bearer()).json()["containments"]
            return [each["id"] for each in shown]

        assert ids() == [HELD.id, other.id]
        shown = client.get("/containments", headers=bearer()).json()["containments"][0]
        assert Containment.model_validate(shown) == HELD
        client.post(f"{URL}/lift", headers=bearer())
        assert ids() == [other.id]


class TestExtend:
    def test_it_counts_from_now(self, client, company):
        """
        The answer is the containment as it is then.
        """
        company.clock.advance(hours=1)

        response = client.post(f"{URL}/extend", json={"ttl": "2h"}, headers=bearer())

        assert response.status_code == 200
        assert Containment.model_validate(response.json()) == now(company)
        assert now(company).expires_at == START + timedelta(hours=3)
        assert company.kinds(None)[-1] == "containment_extended"

    @pytest.mark.parametrize("ttl", ["soon", "0s", "31d", "1 h", "-1h", "9999999999s"])
    def test_what_is_no_time_is_422(self, client, company, ttl):
        """
        And nothing is extended.
        """
        response = client.post(f"{URL}/extend", json={"ttl": ttl}, headers=bearer())

        assert response.status_code == 422
        assert "nothing was extended" in response.json()["error"]
        assert now(company) == HELD


class TestHandOver:
    def test_somebody_else_is_answerable(self, client, company):
        """
        By an id as in the settings.
        """
        response = client.post(f"{URL}/hand-over", json={"to": "U0TARIQ"}, headers=bearer())

        assert response.json()["owner"] == now(company).owner == "slack:U0TARIQ"
        assert company.kinds(None)[-1] == "containment_handed_over"

    def test_to_nobody_it_is_refused(self, client, company):
        """
        Who is in no group could not act.
        """
        response = client.post(f"{URL}/hand-over", json={"to": "U0EVE"}, headers=bearer())

        assert response.status_code == 403
        assert "nothing was handed over" in response.json()["error"]
        assert now(company) == HELD


class TestLift:
    @pytest.mark.parametrize("content", [b"", b"{}"])
    def test_it_ends(self, client, company, content):
        """
        With the gateways that are to be brought there.
        """
        response = client.post(f"{URL}/lift", content=content, headers=bearer())

        assert (response.status_code, response.json()) == (
            200,
            {"lifted": True, "gateways": ["edge"]},
        )
        assert now(company).lifted_by == IRIS.actor

    def test_twice_is_once(self, client, company):
        """
        A repeated request is answered alike.
        """
        first, second = (client.post(f"{URL}/lift", headers=bearer()) for _ in range(2))

        assert first.json() == second.json()
        assert company.kinds(None).count("containment_lifted") == 1


class TestMalformed:
    @VERBS
    @pytest.mark.parametrize("id_", ["INC-9-R1.close", "%00", "%ff", "x" * 1_000, "%F0%9F%94%A5"])
    def test_an_unknown_id_is_404(self, client, verb, id_):
        """
        Whatever it is made of.
        """
        response = client.post(f"/containments/{id_}/{verb}", json=BODIES[verb], headers=bearer())

        assert response.status_code == 404
        assert "nothing was" in response.json()["error"]

    @pytest.mark.parametrize(
        ("verb", "content", "said"),
        [
            pytest.param("extend", b"", "body", id="empty"),
            pytest.param("extend", b"<ttl>2h</ttl>", "body", id="no-json"),
            pytest.param("extend", b"\xff\xfe", "body", id="no-utf-8"),
            pytest.param("extend", b'["2h"]', "body", id="a-list"),
            pytest.param("extend", b"[" * 9_000, "body", id="a-tower-of-brackets"),
            pytest.param("extend", b"{}", "ttl", id="missing"),
            pytest.param("extend", b'{"ttl": 7200}', "ttl", id="a-number"),
            pytest.param("extend", b'{"ttl": null}', "ttl", id="null"),
            pytest.param("extend", b'{"ttl": ""}', "ttl", id="empty-text"),
            pytest.param("extend", b'{"ttl": "%s"}' % (b"9" * 201), "ttl", id="long-text"),
            pytest.param("extend", b'{"ttl": "\\ud800"}', "body", id="half-a-character"),
            pytest.param("extend", b'{"ttl": "2h", "by": "x"}', "by", id="unknown-key"),
            pytest.param("hand-over", b'{"to": ["U0SAM"]}', "to", id="a-list-for-a-person"),
            pytest.param("hand-over", b'{"owner": "U0SAM"}', "owner", id="another-key"),
            pytest.param("lift", b'{"reason": "over"}', "reason", id="lift-takes-nothing"),
        ],
    )
    def test_a_body_that_is_not_what_was_asked_for_is_422(
        self, client, company, verb, content, said
    ):
        """
        In the form of all our refusals, with the place.
        """
        response = client.post(f"{URL}/{verb}", content=content, headers=bearer())

        assert response.status_code == 422
        assert response.json().keys() == {"error"}
        assert f"{said}: " in response.json()["error"]
        assert now(company) == HELD

    def test_what_was_sent_is_not_repeated(self, client):
        """
        It may be what nobody should read in a log.
        """
        content = b'{"ttl": {"password": "hunter2-canary"}}'

        response = client.post(f"{URL}/extend", content=content, headers=bearer())

        assert "canary" not in response.text

    @VERBS
    def test_a_huge_body_is_413_and_not_read_to_its_end(self, client, company, verb):
        """
        Nobody fills the memory.
        """
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100 * MAX_BODY_BYTES:
                sent += 1_000
                yield b" " * 1_000

        response = client.post(f"{URL}/{verb}", content=endless(), headers=bearer())

        assert response.status_code == 413
        assert response.json()["error"].endswith("nothing was done.")
        assert sent <= MAX_BODY_BYTES + 1_000
        assert now(company) == HELD

    def test_the_largest_that_is_taken(self, client):
        """
        The limit itself is allowed.
        """
        content = json.dumps(BODIES["extend"]).encode().ljust(MAX_BODY_BYTES)

        response = client.post(f"{URL}/extend", content=content, headers=bearer())
        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("method", "url", "status"),
        [("GET", f"{URL}/lift", 405), ("POST", f"{URL}/close", 404), ("DELETE", URL, 404)],
    )
    def test_what_there_is_not_is_said_in_the_same_form(self, client, method, url, status):
        """
        Callers look into one place for the reason.
        """
        response = client.request(method, url, headers=bearer())

        assert response.status_code == status
        assert response.json()["error"].endswith("nothing was done.")


class TestTrouble:
    @VERBS
    def test_a_store_that_is_down_is_503(self, client, company, monkeypatch, verb):
        """
        Try again later.
        """

        def down() -> None:
            raise StoreUnavailable("The database is full; nothing more is done. Free disk space.")

        monkeypatch.setattr(company.world.store, "begin", down)
        monkeypatch.setattr(company.world.store, "read", down)

        response = client.post(f"{URL}/{verb}", json=BODIES[verb], headers=bearer())
        shown = client.get("/containments", headers=bearer())

        assert response.status_code == shown.status_code == 503
        assert "Free disk space" in response.json()["error"]

    def test_an_unforeseen_error_is_not_leaked(self, company, monkeypatch):
        """
        Callers hear that it did not work; the server gets the error, for its log.
        """

        def broken() -> None:
            raise RuntimeError("password=hunter2-canary")

        monkeypatch.setattr(company.world.store, "begin", broken)

        answer = client_of(company, raises=False).post(f"{URL}/lift", headers=bearer())

        assert answer.status_code == 500
        assert answer.json() == {
            "error": "This could not be carried out; the reason is in Firedoor's log."
        }
        with pytest.raises(RuntimeError, match="canary"):
            client_of(company).post(f"{URL}/lift", headers=bearer())
