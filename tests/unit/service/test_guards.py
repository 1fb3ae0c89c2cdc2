"""Guard rails: what no containment may do, whatever a runbook says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actions.gateway import Close, Shadow
from bot.engine import StepStatus
from bot.errors import NotAllowed
from bot.language.load import load
from bot.model.alert import Alert
from bot.model.containment import ANY_METHOD, Control, ControlKind
from bot.model.endpoint import Endpoint
from bot.model.incident import Origin, StartRun
from bot.model.plan import Brief
from bot.service.guards import GuardRails
from bot.service.people import Person
from bot.testing import START, World

LOGIN, ORDERS = "POST /api/login", "GET /api/orders/{order_id}"
SAM = Person(actor="slack:U0SAM")


def control(endpoint: str = LOGIN, kind: ControlKind = ControlKind.CLOSE) -> Control:
    method, _, path = endpoint.partition(" ")
    would = ControlKind.CLOSE if kind is ControlKind.SHADOW else None
    return Control(kind=kind, method=method, path=path, would=would)


def approvers(
    rails: GuardRails, share: float | None = None, by_alerts: int = 0, **more: Any
) -> int:
    return rails.brief(Brief(share=share), control(**more), lambda: by_alerts).approvers


class TestProtected:
    @pytest.mark.parametrize("endpoint", [LOGIN, f"{ANY_METHOD} /api/login"])
    def test_a_protected_endpoint_takes_no_control(self, endpoint):
        """
        Neither itself nor with its whole route.
        """
        with pytest.raises(NotAllowed, match=r"POST /api/login is protected.*nothing was done"):
            GuardRails(protected=(LOGIN,)).check(control(endpoint))

    def test_a_shadow_is_allowed_and_so_are_others(self):
        """
        What changes nothing is no harm; what is not listed is not protected.
        """
        rails = GuardRails(protected=(LOGIN,))

        rails.check(control(kind=ControlKind.SHADOW))
        rails.check(control("GET /api/login"))
        rails.check(control(ORDERS))

    @pytest.mark.parametrize(
        ("protected", "expected"),
        [
            pytest.param(LOGIN, [], id="known"),
            pytest.param("GET /api/orders/{id}", [], id="by-another-name-of-a-parameter"),
            pytest.param("post /api/login", ["post /api/login"], id="no-method"),
            pytest.param("POST /login", ["POST /login"], id="without-its-prefix"),
        ],
    )
    def test_what_is_protected_must_be_known(self, protected, expected):
        """
        What the inventory does not have is kept out of no other endpoint's controls.
        """
        assert GuardRails(protected=(protected,)).unknown([LOGIN, ORDERS]) == expected

    def test_the_name_of_a_parameter_makes_no_difference(self):
        """
        The inventory's spelling need not be that of the settings.
        """
        with pytest.raises(NotAllowed):
            GuardRails(protected=("GET /api/orders/{id}",)).check(control(ORDERS))


class TestShare:
    @pytest.mark.parametrize(
        ("share", "expected"),
        [
            pytest.param(0.25, 0, id="as-much-as-allowed"),
            pytest.param(0.26, 2, id="more"),
            pytest.param(None, 2, id="not-known"),
        ],
    )
    def test_a_great_part_needs_a_second_approver(self, share, expected):
        """
        So does one of which nobody knows how great it is: deny on doubt.
        """
        assert approvers(GuardRails(max_share=0.25), share) == expected

    def test_without_the_setting_nobody_asks(self):
        """
        Guard rails are the company's own.
        """
        assert approvers(GuardRails(), None) == 0

    def test_a_shadow_needs_nobody(self):
        """
        It closes nothing.
        """
        assert approvers(GuardRails(max_share=0.0), 1.0, kind=ControlKind.SHADOW) == 0

    def test_the_brief_says_why(self):
        """
        Who is asked reads which rule asks.
        """
        brief = GuardRails(max_share=0.25).brief(Brief(share=0.8), control(), lambda: 0)

        assert brief.guards == (
            "It is about 80% of all requests, more than the 25% that one approver may decide "
            "about.",
        )


class TestAlerts:
    @pytest.mark.parametrize(("count", "expected"), [(1, 0), (2, 1), (9, 1)])
    def test_so_many_an_hour_then_a_person(self, count, expected):
        """
        A storm of alerts does not close a company.
        """
        assert approvers(GuardRails(max_per_hour_by_alerts=2), 0.0, count) == expected


BOOK = """
id: contain
name: Contain
summary: Closes an endpoint.
severity: sev2
owners: [oncall]
inputs:
  endpoint: {type: endpoint}
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'Leak' }}"
    inputs: {endpoint: "{{ alert.labels.endpoint }}"}
    auto: [close]
steps:
  - id: close
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}"}
    ttl: 1h
    on_failure: stop
"""


STORM = """
id: storm
name: Storm
summary: Closes endpoints side by side.
severity: sev2
owners: [oncall]
inputs: {}
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'Storm' }}"
    inputs: {}
    auto: [a, b, c]
steps:
  - parallel:
      - {id: a, uses: gateway.close, with: {endpoint: GET /a}, ttl: 1h, on_failure: stop}
      - {id: b, uses: gateway.close, with: {endpoint: GET /b}, ttl: 1h, on_failure: stop}
      - {id: c, uses: gateway.close, with: {endpoint: GET /c}, ttl: 1h, on_failure: stop}
    on_failure: stop
"""


class Guarded:
    """A service with guard rails, and runs of one runbook."""

    def __init__(self, folder: Path, **rails: Any) -> None:
        actions = [Close(), Shadow()]
        by_name = {action.name: action for action in actions}
        books = [load(BOOK, "contain.yaml", by_name), load(STORM, "storm.yaml", by_name)]
        endpoints = {
            key: Endpoint(method=key.partition(" ")[0], path=key.partition(" ")[2])
            for key in (LOGIN, ORDERS, "GET /a", "GET /b", "GET /c")
        }
        self.world = World(
            folder,
            actions=actions,
            runbooks=books,
            endpoints=endpoints,
            groups={"oncall": ["U0SAM", "U0IRIS", "U0TARIQ"]},
            guards=GuardRails(**rails),
        )

    def by_alert(self, endpoint: str) -> StepStatus:
        labels = {"alertname": "Leak", "endpoint": endpoint}
        alert = Alert(source="alertmanager", fingerprint=endpoint, starts_at=START, labels=labels)
        taken = self.world.service.incidents.take_alert(alert)
        return self.status(taken.run_id)

    def by_person(self, endpoint: str) -> str:
        origin = Origin(kind="person", actor=SAM.actor)
        wish = StartRun(runbook_id="contain", inputs={"endpoint": endpoint}, origin=origin)
        return self.world.service.incidents.start(wish).run.id

    def status(self, run_id: str) -> StepStatus:
        return self.world.service.reports.state(run_id).step("close").status


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Any]:
    made: list[Guarded] = []

    def make(**rails: Any) -> Guarded:
        made.append(Guarded(tmp_path, **rails))
        return made[-1]

    yield make
    for each in made:
        each.world.close()


class TestInARun:
    def test_protected_endpoint_is_refused_and_nothing_is_held(self, guarded):
        """
        The step fails at its plan; the gateway is not touched.
        """
        at = guarded(protected=(LOGIN,))

        run_id = at.by_person(LOGIN)

        state = at.world.service.reports.state(run_id)
        assert state.step("close").status is StepStatus.FAILED
        assert "is protected by `guard_rails`" in state.step("close").failure.message
        assert at.world.gateway.writes == 0

    def test_alerts_close_so_many_and_then_ask(self, guarded):
        """
        The third containment within an hour waits for an owner, although its trigger lists it; an
        hour later there is room again.
        """
        at = guarded(max_per_hour_by_alerts=2)

        for key in ("GET /a", "GET /b"):
            at.by_alert(key)
        third = at.by_alert("GET /c")
        at.world.clock.advance(hours=1, seconds=1)

        assert len(at.world.gateway.controls) == 2
        assert third is StepStatus.AWAITING_APPROVAL
        at.by_alert(ORDERS)
        assert len(at.world.gateway.controls) == 3

    def test_steps_side_by_side_close_no_more_than_that(self, guarded):
        """
        All of them are planned before any is applied; so what alerts may is looked at again then.
        """
        at = guarded(max_per_hour_by_alerts=2)
        labels = {"alertname": "Storm"}
        alert = Alert(source="alertmanager", fingerprint="f", starts_at=START, labels=labels)

        run_id = at.world.service.incidents.take_alert(alert).run_id

        state = at.world.service.reports.state(run_id)
        statuses = [state.step(each).status for each in "abc"]
        assert len(at.world.gateway.controls) == 2
        assert statuses.count(StepStatus.AWAITING_APPROVAL) == 1

    def test_a_persons_runs_do_not_count(self, guarded):
        """
        The limit is on what alerts do by themselves.
        """
        at = guarded(max_per_hour_by_alerts=1)

        at.by_person("GET /a")
        at.by_person("GET /b")
        at.by_alert("GET /c")

        assert len(at.world.gateway.controls) == 3

    def test_a_share_that_is_not_known_needs_two(self, guarded):
        """
        Without an access log nobody can say how much would be closed.
        """
        at = guarded(max_share=0.5)

        run_id = at.by_person(ORDERS)

        with at.world.store.read() as tx:
            (ask,) = tx.open_asks(run_id)
        assert (ask.run_id, ask.required) == (run_id, 2)
        assert at.world.gateway.writes == 0
