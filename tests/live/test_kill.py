"""``kill -9`` of ``firedoor serve`` loses nothing, doubles nothing and stops nothing."""

from __future__ import annotations

import pytest

from bot.sandbox.faults import FaultProxy, Match
from bot.sandbox.orders_data import PROBE_OWNER
from tests.live.harness import Site, facts_of

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]


def nothing_told_twice(site: Site) -> bool:
    told = site.keys_told()
    return bool(told) and set(told.values()) == {1}


def controls_held(site: Site) -> list[tuple[str, str]]:
    with site.store() as tx:
        return [(c.id, c.control.kind.value) for c in tx.containments(in_force=True)]


class TestKilledWhileAnApprovalWaits:
    def test_the_question_stands_and_the_approval_counts(self, site: Site):
        """
        The question asked before the crash is answered after it: same message, one containment.
        """
        site.serve()
        run_id = site.alert()["run_id"]
        site.people.wait_for_card("U0IRIS", "approve close?")

        site.kill()
        site.serve()
        site.people.approve("U0IRIS", "close")
        site.wait_for_step(run_id, "close", "done")

        assert controls_held(site) == [
            (f"{run_id}.throttle", "throttle"),
            (f"{run_id}.close", "close"),
        ]
        assert len(site.people.cards("approve close?")) == 1
        assert nothing_told_twice(site)


class TestKilledInTheMiddleOfTheGatewayChange:
    def test_the_change_is_finished_once(self, site: Site):
        """
        Envoy has the new routes, Firedoor never learned it: after the restart the run goes on by
        itself and one containment is in force.
        """
        with FaultProxy(site.company.ports["envoy-admin"]) as proxy:
            site.company.write_settings({"gateways": {"edge": {"admin_url": proxy.url}}})
            site.serve()
            hold = proxy.hold(Match(path="config_dump"))
            run_id = site.alert()["run_id"]
            hold.wait()

            site.kill()
            hold.discard()
            proxy.pass_all()
            site.serve()
            site.wait_for_step(run_id, "close", "awaiting_approval")

            assert controls_held(site) == [(f"{run_id}.throttle", "throttle")]
            statuses = [site.ask(PROBE_OWNER, site.example_path()) for _ in range(3)]
            assert 429 in statuses
            assert nothing_told_twice(site)


class TestKilledBetweenKeyCreationAndDelivery:
    def test_one_live_key_and_no_orphan(self, site: Site):
        """
        The new key's secret died with the process: that key is removed, another one is made and
        delivered, and the old one is deactivated.
        """
        with FaultProxy(site.company.ports["openbao"]) as proxy:
            site.company.write_settings({"vaults": {"main": {"url": proxy.url}}})
            site.serve()
            run_id = site.alert()["run_id"]
            before = site.company.orders_key_in_use()
            site.people.approve("U0IRIS", "close")
            hold = proxy.hold(Match(method="POST", path="/v1/secret/data/orders-service/aws"))
            site.people.approve("U0SAM", "rotate")
            site.people.approve("U0TARIQ", "rotate")
            hold.wait()

            site.kill()
            hold.discard()
            proxy.pass_all()
            site.serve()
            site.wait_for_step(run_id, "rotate", "done", timeout_s=90)

            facts = facts_of(site.state(run_id), "rotate")
            keys = site.orders_keys()
            assert keys == {before: "Inactive", facts["new"]: "Active"}
            assert site.company.orders_key_in_use() == facts["new"]
            assert nothing_told_twice(site)
