"""What people are shown before they approve a control: a whole service over a real access log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actions.gateway import ACTIONS
from actions.logs import AccessLogs
from bot.language.load import load
from bot.model.ask import Ask
from bot.model.endpoint import Endpoint
from bot.model.incident import Origin, StartRun
from bot.model.message import Message
from bot.service.guards import GuardRails
from bot.service.people import Person
from bot.testing import START, World

ORDER = "GET /api/orders/{order_id}"
ENDPOINTS = {
    endpoint.key: endpoint
    for endpoint in (
        Endpoint(
            method="GET",
            path="/api/orders/{order_id}",
            owner="team-orders",
            data_classification=("personal",),
        ),
        Endpoint(method="GET", path="/api/orders/export", owner="team-reports"),
        Endpoint(method="PUT", path="/api/orders/{order_id}", owner="team-carts"),
    )
}
BOOK = """
id: contain
name: Contain
summary: Closes an endpoint.
severity: sev2
owners: [oncall]
steps:
  - id: close
    uses: gateway.close
    with: {{endpoint: "GET /api/orders/{{order_id}}"{more}}}
    ttl: 1h
    approval: {{from: [oncall]}}
    on_failure: stop
"""


class Company:
    """A service, its gateway's access log, and one run that waits for an approval."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "access.log"
        self.world: World | None = None

    def served(self, path: str, count: int = 1, at: datetime | None = None, **changes: Any) -> None:
        line = {
            "start_time": (at or START - timedelta(minutes=1)).isoformat(),
            "method": "GET",
            "path": path,
            "response_code": 200,
            "sub": "alice",
            "role": "customer",
            "resource_owner": "alice",
            "client_ip": "192.0.2.1",
            "duration_ms": 3,
        }
        with self.log.open("a", encoding="utf-8") as file:
            file.write((json.dumps(line | changes) + "\n") * count)
        os.utime(self.log, (START.timestamp(), START.timestamp()))

    def asked(self, more: str = "", logs: tuple[str, ...] = ("edge",), **rails: Any) -> Message:
        """Start the run and return the card that asks people."""
        connections: dict[tuple[type, str], object] = {
            (AccessLogs, name): AccessLogs(name, files=[str(self.log)]) for name in logs
        }
        actions = {action.name: action for action in ACTIONS}
        self.world = World(
            self.folder,
            actions=ACTIONS,
            runbooks=[load(BOOK.format(more=more), "contain.yaml", actions)],
            endpoints=ENDPOINTS,
            groups={"oncall": ["U0SAM", "U0IRIS", "U0TARIQ"]},
            connections=connections,
            guards=GuardRails(**rails),
        )
        origin = Origin(kind="person", actor="slack:U0SAM")
        self.world.service.incidents.start(StartRun(runbook_id="contain", inputs={}, origin=origin))
        self.world.send()
        (card,) = self.world.chat.titled("approve close")
        return card

    def ask(self) -> Ask:
        assert self.world is not None
        with self.world.store.read() as tx:
            (ask,) = tx.open_asks("INC-1-R1")
        return ask


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    company.served("/other", at=START - timedelta(hours=3))
    yield company
    if company.world is not None:
        company.world.close()


class TestCard:
    def test_it_shows_who_would_be_concerned(self, company: Company) -> None:
        """
        Traffic, owner, data, and what less would do, beside the plan.
        """
        company.served("/api/orders/1", 58, tenant="acme")
        company.served("/api/orders/2", 2, sub="mallory", tenant="blue")
        company.served("/api/products", 140, sub=None)

        card = company.asked()

        assert card.facts[3:] == (
            ("Requests in the last hour", "60 (1.0 a minute), 30% of 200 at the gateway"),
            ("Callers", "2, of 2 tenants"),
            ("Others' objects read", "2 times by mallory (1 address)"),
            ("Owner team", "team-orders"),
            ("Data", "personal"),
            ("Other containments", "none"),
            (
                "Least disruptive",
                "gateway.block. Blocking mallory would stop 2 of 2 reads of others' objects seen "
                "in the last hour; 1 other caller would be served on.",
            ),
        )

    def test_only_what_the_control_is_about_is_counted(self, company: Company) -> None:
        """
        A more specific endpoint is left alone, and HEAD goes with GET, as at the gateway.
        """
        company.served("/api/orders/1", method="HEAD")
        company.served("/api/orders/1", method="PUT")
        company.served("/api/orders/export", 8)

        assert dict(company.asked().facts)["Requests in the last hour"].startswith("1 (")

    def test_a_whole_route_is_every_method(self, company: Company) -> None:
        """
        Also in whose endpoints they are.
        """
        company.served("/api/orders/1", method="PUT")
        company.served("/api/orders/1", method="DELETE")
        company.served("/api/orders/export", 8)

        lines = dict(company.asked(", scope: route").facts)

        assert lines["Requests in the last hour"].startswith("2 (")
        assert lines["Owner team"] == "team-carts, team-orders"

    @pytest.mark.parametrize(
        ("logs", "more", "why"),
        [
            ((), "", "no access log is configured, or there are several and `logs` names none"),
            (("a", "b"), "", "no access log is configured, or there are several and `logs` names"),
            (("edge",), ", logs: other", "firedoor.yaml has no access log 'other'"),
        ],
    )
    def test_without_its_log_people_are_asked_all_the_same(
        self, company: Company, logs: tuple[str, ...], more: str, why: str
    ) -> None:
        """
        A missing figure is said to be missing, and keeps no door open.
        """
        lines = dict(company.asked(more, logs=logs).facts)

        assert lines["Requests in the last hour"].startswith(f"not known: {why}")
        assert lines["Owner team"] == "team-orders"

    def test_a_log_that_is_gone_is_said_to_be(self, company: Company) -> None:
        """
        With the fact, and without what an operator of the settings would do about it.
        """
        company.log.unlink()

        lines = dict(company.asked().facts)

        assert lines["Requests in the last hour"] == (
            f"not known: No file matches {company.log} of log 'edge'"
        )

    def test_the_step_names_its_log(self, company: Company) -> None:
        """
        Where several gateways log, the step says which log is its own.
        """
        company.served("/api/orders/1")

        lines = dict(company.asked(", logs: b", logs=("a", "b")).facts)

        assert lines["Requests in the last hour"].startswith("1 (")


class TestGuardRail:
    @pytest.mark.parametrize(("elsewhere", "required"), [(3, 1), (2, 2)])
    def test_the_share_decides_about_a_second_approver(
        self, company: Company, elsewhere: int, required: int
    ) -> None:
        """
        More than a quarter of all requests needs two; a quarter does not.
        """
        company.served("/api/orders/1")
        company.served("/api/products", elsewhere)

        card = company.asked(max_share=0.25)

        assert company.ask().required == required
        assert dict(card.facts)["Needs"] == f"{required} of oncall"
        assert ("It is about 33% of all requests" in " ".join(card.paragraphs)) is (required == 2)

    def test_figures_do_not_change_the_plan(self, company: Company) -> None:
        """
        Approvals bind to the plan; traffic that changes by the minute must void none.
        """
        company.served("/api/orders/1")
        company.asked()
        first = company.ask()
        assert company.world is not None

        company.served("/api/orders/1", 500)
        company.world.service.people.approve(first.token, Person(actor="slack:U0IRIS"))

        assert len(company.world.gateway.controls) == 1
