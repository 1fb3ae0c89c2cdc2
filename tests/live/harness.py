"""What live tests share: a company, a Firedoor process in it, and looking into its store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from bot.engine.state import RunState
from bot.inventory import load_openapi
from bot.ports import Transaction
from bot.sandbox import aws
from bot.sandbox.company import Company
from bot.sandbox.main_job import ENDPOINT, alert_body, post_alert, start_firedoor
from bot.sandbox.responders import Responders, until
from bot.sandbox.slack_standin.client import Person
from bot.store import SqlStore

ROOT = Path(__file__).resolve().parents[2]


class Site:
    """A company with a Firedoor that can be killed and started again."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.people = Responders(company.places.url("slack"))
        self.url = ""

    def serve(self) -> None:
        self.url = start_firedoor(self.company)

    def kill(self) -> None:
        """End Firedoor as ``kill -9`` does."""
        self.company.processes.stop("firedoor", kill=True)

    def alert(self, fingerprint: str = "c0ffee0000000001", starts_at: datetime | None = None):
        body = alert_body(starts_at or datetime.now(UTC), fingerprint)
        response = post_alert(self.company, self.url, body)
        response.raise_for_status()
        return response.json()["taken"][0]

    @contextmanager
    def store(self) -> Iterator[Transaction]:
        store = SqlStore(f"sqlite:///{self.company.directory / 'state' / 'firedoor.sqlite'}")
        try:
            with store.read() as tx:
                yield tx
        finally:
            store.close()

    def state(self, run_id: str) -> RunState:
        with self.store() as tx:
            return RunState.model_validate(tx.run(run_id).state)

    def wait_for_step(self, run_id: str, step: str, status: str, timeout_s: float = 60.0) -> None:
        until(
            lambda: self.state(run_id).steps[step].status.value == status,
            f"step {step} to be {status} (it is {self.state(run_id).steps[step]})",
            timeout_s,
        )

    def keys_told(self) -> Counter[str]:
        """Count the messages in Slack by the key they carry."""
        messages = Person(self.company.places.url("slack"), "U0SAM").messages()
        metadata = [message.raw.get("metadata") for message in messages]
        return Counter(found["event_payload"]["key"] for found in metadata if found)

    def orders_keys(self) -> dict[str, str]:
        """Return the orders service's IAM keys: id to status."""
        keys = aws.read_keys(self.company.directory / "aws" / "iam.json")["orders-service"]
        return {key["id"]: key["status"] for key in keys}

    def example_path(self) -> str:
        """Return the path of the order that the probes' owner owns."""
        file = self.company.directory / "openapi.yaml"
        path = load_openapi(file.read_text(), str(file))[ENDPOINT].example_path
        assert path is not None
        return path

    def ask(self, username: str, path: str) -> int:
        """Return the status that a person gets through the gateway."""
        token = self.company.login(username)
        return requests.get(
            f"{self.company.gateway_url}{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        ).status_code


def facts_of(state: RunState, step: str) -> dict[str, Any]:
    return state.steps[step].facts
