"""A crash at any point changes nothing about how a run ends, what it did, and who was told."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.errors import ProviderUnreachable
from bot.model.incident import RunStatus
from bot.store import SqlStore
from bot.testing import START
from tests.postgres import Cluster
from tests.scenario.company import IRIS, TRIGGER, Company, alert, text_of
from tests.scenario.crashes import Tripwire, play, wired

LOOK = """
- id: look
  uses: acme.look
  with: {key: door}
"""
TELL = """
- id: tell
  uses: acme.tell
  with: {text: Data was read.}
  approval: {from: [security], required: 2}
"""
SET = """
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  approval: {from: [commanders, security], required: 2, timeout: 15m}
"""
MANUAL = """
- id: fixed
  manual: {ask: "Is it deployed?", fields: {version: {type: string}}}
- id: set
  uses: acme.set
  with: {key: version, value: "{{ steps.fixed.version }}"}
"""
RETRY = """
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  retry: {attempts: 3, delay: 5s}
- id: look
  uses: acme.look
  with: {key: door}
"""
UNDO = """
- id: set
  uses: acme.set
  with: {key: door, value: shut}
  on_failure: undo
"""
CONTAIN = """
- id: close
  uses: acme.close
  with: {endpoint: "{{ inputs.endpoint }}"}
  ttl: 4h
- id: reopen
  uses: acme.lift
  with: {containment: "{{ steps.close.containment }}"}
"""


def by_iris(company: Company) -> None:
    company.start(IRIS)


def by_alert(company: Company) -> None:
    company.world.service.incidents.take_alert(alert())


def failing(**until_s: float) -> Callable[[Company], None]:
    """Return a preparation after which some calls give no answer, each until a moment."""

    def prepare(company: Company) -> None:
        def on_call(what: str) -> None:
            end = START + timedelta(seconds=until_s.get(what.replace(".", "_"), 0.0))
            if company.clock.now() < end:
                raise ProviderUnreachable("The other system gives no answer; it is tried again.")

        company.outside.on_call = on_call

    return prepare


def refusing_to_prove(company: Company) -> None:
    """Let the proof see another value than was set."""

    class Odd(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            is_proving = company.outside.calls[-1:] == ["set.verify"]
            return "ajar" if is_proving else super().get(key, default)

    company.outside.values = Odd()


STORIES = [
    pytest.param(LOOK, "", by_iris, None, RunStatus.DONE, id="read"),
    pytest.param(TELL, "", by_iris, None, RunStatus.DONE, id="notify"),
    pytest.param(SET, "", by_iris, None, RunStatus.DONE, id="change-with-two-approvals"),
    pytest.param(MANUAL, "", by_iris, None, RunStatus.DONE, id="manual"),
    pytest.param(
        RETRY,
        "",
        by_iris,
        failing(set_apply=3, set_verify=8, look_run=30),
        RunStatus.DONE,
        id="retry-and-decision",
    ),
    pytest.param(UNDO, "", by_iris, refusing_to_prove, RunStatus.FAILED, id="undo"),
    pytest.param(CONTAIN, TRIGGER, by_alert, None, RunStatus.DONE, id="containment-by-an-alert"),
]


class Places:
    """Makes companies on empty stores: these tests make hundreds, and all are alike."""

    def __init__(self, folder: Path, cluster: Cluster | None) -> None:
        self._folder, self._cluster = folder, cluster
        self._url = cluster.database() if cluster else None
        # The points are the same on both stores: every second one is tried on a file, the others on
        # a server.
        self.first = 1 if cluster else 0
        self._file = folder / "empty.sqlite"
        if cluster is None:
            store = SqlStore(f"sqlite:///{self._file}")
            store.migrate()
            store.close()

    def company(
        self, name: str, steps: str, more: str, prepare: Callable[[Company], None] | None
    ) -> Company:
        folder = self._folder / name
        folder.mkdir()
        if self._cluster is None or self._url is None:
            shutil.copy(self._file, folder / "firedoor.sqlite")
        else:
            self._cluster.empty(self._url)
        company = Company(folder, [text_of(steps, more=more)], store_url=self._url)
        if prepare:
            prepare(company)
        return company

    def close(self) -> None:
        if self._cluster is not None and self._url is not None:
            self._cluster.drop(self._url)


@pytest.fixture
def places(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store_kind: str,
    request: pytest.FixtureRequest,
) -> Iterator[Places]:
    """On either database, without a migration for each company."""
    cluster = request.getfixturevalue("postgres") if store_kind == "postgres" else None
    places = Places(tmp_path, cluster)
    monkeypatch.setattr(SqlStore, "migrate", lambda _store: None)
    yield places
    places.close()


REPEATED = ("note", "gateway_converged")
"""What an attempt that was interrupted may leave twice: it is about attempts, not about effects."""


def ending(company: Company) -> dict[str, Any]:
    """Return all that must be the same, however often the process crashed."""
    kinds = [kind for kind in company.kinds(None) if kind not in REPEATED]
    with company.world.store.read() as tx:
        evidence = [(e.id, e.sha256) for e in tx.evidence("INC-1")]
        containments = tx.containments()
    return {
        "state": company.state(),
        "events": [
            record.kind
            for record in company.world.service.reports.records("INC-1")
            if "event" in record.body
        ],
        "kinds": Counter(kinds),
        "incidents": company.world.service.reports.incidents(),
        "evidence": evidence,
        "containments": containments,
        "outside": company.outside.values,
        "effects": company.outside.effects,
        "gateway": company.gateway.controls,
        "told": Counter(m.title for m in company.chat.messages.values()),
        "cards": [
            company.chat.messages[refs[0]]
            for key, refs in company.chat.keys.items()
            if key.endswith(":card")
        ],
        "mailed": {key for _, _, key in company.mail.sent},
    }


class TestCrashAnywhere:
    @pytest.mark.parametrize(("steps", "more", "begin", "prepare", "status"), STORIES)
    def test_the_end_is_the_same(self, places, steps, more, begin, prepare, status):
        """
        Before and after every commit, every effect and every durable step: the run goes on by
        itself to the same end, makes each effect once, and tells nobody twice.
        """
        count = Tripwire()
        calm = wired(places.company("calm", steps, more, prepare), count)
        play(calm, begin)
        expected = ending(calm)
        assert expected["state"].status is status
        assert len(count.passed) > 10

        for number in range(places.first, len(count.passed), 2):
            trip = Tripwire(at=number)
            company = wired(places.company(str(number), steps, more, prepare), trip)

            play(company, begin)

            where = trip.crashed_at
            assert len(trip.passed) > number, "the tripwire was never reached"
            found = ending(company)
            for part, value in expected.items():
                assert found[part] == value, f"{part} differs after a crash at {where}"
            for key, refs in company.chat.keys.items():
                assert len(refs) == 1, f"{key} was posted twice after a crash at {where}"
            for call in ("set.apply", "look.run", "tell.compose"):
                more_calls = company.outside.calls.count(call) - calm.outside.calls.count(call)
                assert more_calls <= 1, f"{call} was repeated twice after a crash at {where}"
            company.world.service.reports.audit()
            company.restart()
        calm.restart()


class TestRepeatedCrashes:
    def test_a_process_that_crashes_again_and_again_gets_there(self, places):
        """
        Each start gets at least one commit further, so even a process that is killed at every
        tenth point brings the run to its end.
        """

        class Stumbling(Tripwire):
            def point(self, name: str) -> None:
                self.at = len(self.passed) if len(self.passed) % 10 == 9 else None
                super().point(name)

        company = wired(places.company("company", SET, "", None), Stumbling())

        play(company, by_iris)

        assert company.state().status is RunStatus.DONE
        assert company.outside.effects == ["door=shut"]
        assert all(len(refs) == 1 for refs in company.chat.keys.values())
        company.restart()
