"""When a system is away, Firedoor says so, waits or asks as the runbook says, and loses nothing."""

from __future__ import annotations

import pytest

from bot.sandbox.faults import FaultProxy, Match
from bot.sandbox.slack_standin.client import Control
from tests.live.harness import Site, facts_of

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]


DENIED = (
    b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
    b"<Message>not authorized</Message></Error><RequestId>1</RequestId></ErrorResponse>"
)


def slack_of(site: Site) -> Control:
    return Control(site.company.places.url("slack"))


class TestGatewayDown:
    def test_the_step_says_so_and_is_retried_by_a_person(self, site: Site):
        """
        With Envoy gone the change waits for a decision; once it is back, Retry goes on.
        """
        site.serve()
        site.company.stop("envoy", kill=True)
        run_id = site.alert()["run_id"]
        site.wait_for_step(run_id, "throttle", "awaiting_decision")
        failure = site.state(run_id).steps["throttle"].failure
        assert failure is not None
        assert failure.error in ("unreachable", "timeout")

        site.company.start("envoy")
        site.people.click("U0SAM", "throttle did not work", "firedoor.retry")

        site.wait_for_step(run_id, "throttle", "done")


class TestVaultSealed:
    def test_the_rotation_waits_and_no_key_is_lost(self, site: Site):
        """
        A sealed OpenBao refuses the delivery: after unsealing and Retry, one live key is there.
        """
        site.serve()
        run_id = site.alert()["run_id"]
        site.people.approve("U0IRIS", "close")
        site.people.wait_for_card("U0SAM", "approve rotate?")
        site.company.seal()
        site.people.approve("U0SAM", "rotate")
        site.people.approve("U0TARIQ", "rotate")
        site.wait_for_step(run_id, "rotate", "awaiting_decision")
        failure = site.state(run_id).steps["rotate"].failure
        assert failure is not None
        assert "sealed" in failure.message

        site.company.unseal()
        site.people.click("U0SAM", "rotate did not work", "firedoor.retry")
        site.wait_for_step(run_id, "rotate", "done")

        assert sorted(site.orders_keys().values()) == ["Active", "Inactive"]
        new = facts_of(site.state(run_id), "rotate")["new"]
        assert site.orders_keys()[new] == "Active"


class TestAwsAway:
    def test_the_step_says_so_and_is_retried_by_a_person(self, site: Site):
        """
        With AWS away the rotation is not begun; once it is back, Retry goes on.
        """
        site.serve()
        run_id = site.alert()["run_id"]
        site.people.approve("U0IRIS", "close")
        site.people.wait_for_card("U0SAM", "approve rotate?")
        site.company.stop("aws", kill=True)
        site.people.approve("U0SAM", "rotate")
        site.people.approve("U0TARIQ", "rotate")
        site.wait_for_step(run_id, "rotate", "awaiting_decision", timeout_s=120)

        site.company.start("aws")
        site.people.click("U0SAM", "rotate did not work", "firedoor.retry")

        site.wait_for_step(run_id, "rotate", "done")


class TestAwsRefusing:
    def test_nothing_is_changed_and_the_person_is_told_why(self, site: Site):
        """
        AccessDenied is final: no attempt is repeated by itself, no key is made, a person decides.
        """
        with FaultProxy(site.company.ports["aws"]) as proxy:
            site.company.write_settings({"aws": {"main": {"endpoint_url": proxy.url}}})
            site.serve()
            run_id = site.alert()["run_id"]
            site.people.approve("U0IRIS", "close")
            site.people.wait_for_card("U0SAM", "approve rotate?")
            before = site.orders_keys()
            proxy.answer(403, match=Match(method="POST"), body=DENIED)
            site.people.approve("U0SAM", "rotate")
            site.people.approve("U0TARIQ", "rotate")

            site.wait_for_step(run_id, "rotate", "awaiting_decision")

            failure = site.state(run_id).steps["rotate"].failure
            assert failure is not None
            assert failure.error == "refused"
            assert "AccessDenied" in failure.message
            assert site.orders_keys() == before
            proxy.pass_all()
            site.people.click("U0SAM", "rotate did not work", "firedoor.retry")
            site.wait_for_step(run_id, "rotate", "done")


class TestSlackInTrouble:
    @pytest.mark.parametrize(
        "fault",
        [
            pytest.param({"kind": "rate_limited", "retry_after_s": 1}, id="429"),
            pytest.param({"kind": "status", "status": 500}, id="500"),
            pytest.param({"kind": "lost_response"}, id="answer-lost"),
        ],
    )
    def test_containment_goes_on_and_each_message_comes_once(self, site: Site, fault):
        """
        The endpoint is throttled while Slack misbehaves; later every message is there, once.
        """
        site.serve()
        slack_of(site).add_fault(method="chat.postMessage", times=2, **fault)

        run_id = site.alert()["run_id"]

        site.wait_for_step(run_id, "throttle", "done")
        site.people.wait_for_card("U0IRIS", "approve close?")
        assert set(site.keys_told().values()) == {1}

    def test_a_dropped_connection_is_made_again(self, site: Site):
        """
        After Slack drops the socket, a click is still heard.
        """
        site.serve()
        run_id = site.alert()["run_id"]
        site.people.wait_for_card("U0IRIS", "approve close?")

        slack_of(site).disconnect()

        site.people.approve("U0IRIS", "close")

        site.wait_for_step(run_id, "close", "done")
