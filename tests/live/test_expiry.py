"""A containment ends at its expiry, even if Firedoor slept past it."""

from __future__ import annotations

import time

import pytest

from bot.sandbox.orders_data import PROBE_OWNER
from bot.sandbox.responders import until
from tests.live.harness import Site

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

BRIEF = """\
id: brief-close
name: Close for a moment
summary: Closes the endpoint for three seconds.
severity: sev3
owners: [security-oncall]
inputs:
  endpoint: {type: endpoint}
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'CrossOwnerReads' }}"
    inputs: {endpoint: "{{ alert.labels.endpoint }}"}
    auto: [close]
steps:
  - id: close
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}"}
    ttl: 3s
"""


class TestExpiryDuringDowntime:
    def test_the_endpoint_is_reopened_after_a_restart_that_slept_past_it(self, site: Site):
        """
        The expiry is kept in the store: the next start lifts what is overdue and says so.
        """
        folder = site.company.directory / "runbooks"
        folder.mkdir()
        (folder / "brief-close.yaml").write_text(BRIEF)
        site.company.write_settings({"runbooks": [str(folder)]})
        site.serve()
        run_id = site.alert()["run_id"]
        site.wait_for_step(run_id, "close", "done")
        assert site.ask(PROBE_OWNER, site.example_path()) == 503

        site.kill()
        time.sleep(3.5)
        assert site.ask(PROBE_OWNER, site.example_path()) == 503  # nobody lifted it meanwhile
        site.serve()

        until(lambda: site.ask(PROBE_OWNER, site.example_path()) == 200, "the reopened endpoint")
        with site.store() as tx:
            assert [c.lifted_by for c in tx.containments()] == ["expiry"]
            assert len(tx.records(kind="containment_expired")) == 1
        until(lambda: site.people.cards("Containment expired"), "the message about it")
