"""A good runbook over the actions of ``acme_actions``, and a rehearsal of it."""

from __future__ import annotations

GOOD = """\
id: api1
name: Broken object level authorization
summary: A caller reads what is not theirs.
owasp: API1:2023
severity: sev1
owners: [security-oncall]
inputs:
  endpoint: {type: endpoint, examples: ["GET /api/orders/{order_id}"]}
  since: {type: datetime, default: "{{ now() - duration('24h') }}"}
triggers:
  - source: alertmanager
    if: "{{ alert.labels.alertname == 'CrossOwnerReads' }}"
    inputs: {endpoint: "{{ alert.labels.endpoint }}", since: "{{ alert.starts_at }}"}
    auto: [close]
steps:
  - id: close
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}", rate: 1/s, tags: [red]}
    ttl: 30m
    on_failure: undo
  - id: reads
    uses: logs.reads
    with:
      endpoint: "{{ inputs.endpoint }}"
      since: "{{ inputs.since }}"
    retry: {attempts: 3, delay: 10s}
    timeout: 2m
  - id: rotate
    if: "{{ steps.reads.principals.services | length > 0 }}"
    uses: credentials.rotate
    with: {credential: orders, mode: routine}
    approval: {from: [security], required: 2, timeout: 15m, on_timeout: skip}
  - id: tell
    uses: notify.people
    with:
      data: "{{ inventory[inputs.endpoint].data_classification }}"
      people: "{{ steps.reads.count }}"
  - id: fixed
    manual:
      ask: "Is the ownership check deployed?"
      fields: {version: {type: string}, checks: {type: integer, default: 1}}
      timeout: 1h
      on_timeout: skip
  - id: wipe
    if: "{{ steps.fixed.version != none and not steps.rotate.skipped }}"
    uses: data.wipe
    approval: {from: [security]}
"""

REHEARSAL = """\
runbook: api1
inventory:
  GET /api/orders/{order_id}: {owner: team-orders, data_classification: [personal]}
cases:
  - name: An alert closes at once and people do the rest
    alert:
      source: alertmanager
      labels: {alertname: CrossOwnerReads, endpoint: "GET /api/orders/{order_id}"}
      starts_at: 2026-02-28T09:00:00Z
    outcomes:
      close: {containment: C1}
      reads:
        - {fails: unreachable, message: The log is away., retry_after: 30s}
        - {count: 12, principals: {people: 3, services: [batch]}}
    people:
      - {approve: rotate, by: "slack:U1", groups: [security]}
      - {approve: rotate, by: "slack:U2", groups: [security]}
      - {answer: fixed, by: "slack:U1", values: {version: 1.2.3}}
      - {reject: wipe, by: "slack:U1", groups: [security], reason: Not now.}
    expect:
      status: stopped
      steps: {close: done, rotate: done, wipe: stopped}
      order: [close, reads, rotate]
      reason: Not now.
  - name: Nobody comes
    start_by: "slack:U9"
    now: 2026-03-01T00:00:00+01:00
    inputs: {endpoint: "GET /api/orders/{order_id}"}
    people:
      - {wait: rotate}
      - {decide: reads, by: "slack:U1", choice: skip}
      - {cancel: true, by: "slack:U1", reason: A drill.}
    expect: {status: cancelled}
"""
