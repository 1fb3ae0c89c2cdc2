"""Good runbooks over the actions of ``acme_actions``, and a rehearsal of one."""

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

EVERYTHING = """\
id: leak
name: Leaked credentials
summary: A key is out, and services still use it.
owasp: API2:2023
severity: sev2
owners: [security-oncall]
deadline: 4h
inputs:
  endpoint: {type: endpoint}
  account: {type: string, default: orders}
triggers:
  - source: alertmanager
    inputs: {endpoint: "{{ alert.labels.endpoint }}"}
    auto: [reads, shut, turn, contain.close]
approvals:
  closing:
    from: [commanders]
    required: 2
    timeout: 15m
    on_timeout: stop
    break_glass: incident-commander
steps:
  - id: reads
    uses: logs.reads
    with: {endpoint: "{{ inputs.endpoint }}", since: "{{ now() }}"}
    retry: {attempts: 3, delay: 5s, backoff: 1.5, jitter: 0.2, on: [unreachable, timeout, failed]}
    on_failure: undo
  - id: fixed
    manual:
      ask: Is it fixed?
      fields: {version: {type: string}}
      assignee: security
      due: 1h
      remind: 15m
      timeout: 4h
      on_timeout: stop
  - parallel:
      - id: shut
        uses: gateway.close
        with: {endpoint: "{{ inputs.endpoint }}"}
        ttl: 4h
      - steps:
          - id: first
            uses: gateway.close
            with: {endpoint: "{{ inputs.endpoint }}", hours: "{{ steps.reads.count }}"}
            ttl: 1h
            approval: closing
          - id: second
            uses: credentials.rotate
            with: {credential: "{{ inputs.account }}"}
            approval: closing
    join: any
    if: "{{ steps.fixed.version == '1' }}"
    on_failure: continue
  - id: each
    foreach: "{{ steps.reads.principals.services }}"
    as: account
    concurrency: 3
    on_failure: undo
    steps:
      - id: turn
        uses: credentials.rotate
        with: {credential: "{{ account }}"}
      - id: inner
        foreach: [1, 2, 3]
        steps:
          - id: told
            if: "{{ item > index and account != none and steps.turn.status == 'done' }}"
            uses: notify.people
            with: {data: ["{{ account }}"]}
            approval: {from: [security], break_glass: incident-commander}
    outputs: {told: "{{ steps.inner.failed }}", done: "{{ steps.turn.status }}"}
  - id: contain
    if: "{{ steps.shut.containment == none }}"
    runbook: contain-endpoint
    with: {endpoint: "{{ inputs.endpoint }}", hours: 2}
    on_failure: continue
  - id: both
    parallel:
      - id: read-again
        uses: logs.reads
        with: {endpoint: "{{ inputs.endpoint }}", since: "{{ now() }}"}
always:
  - id: report
    uses: notify.people
    with:
      data: "{{ steps.each.done }}"
      people: "{{ steps['read-again'].count | default(steps.contain.hours) }}"
  - id: check
    if: "{{ steps.report.status == 'done' and steps.both.skipped and steps.each.items[0] }}"
    manual: {ask: "Was everybody told?"}
outputs: {containment: "{{ steps.contain.containment }}", done: ["{{ steps.each.statuses }}"]}
"""

CONTAIN = """\
id: contain-endpoint
name: Contain
summary: Closes an endpoint.
severity: sev3
owners: [security-oncall]
inputs:
  endpoint: {type: endpoint}
  hours: {type: integer, default: 1}
steps:
  - id: close
    uses: gateway.close
    with: {endpoint: "{{ inputs.endpoint }}", hours: "{{ inputs.hours }}"}
    ttl: 4h
  - id: ask
    manual: {ask: "Is it closed?"}
always:
  - id: last
    manual: {ask: "Is it over?"}
outputs: {containment: "{{ steps.close.containment }}", hours: "{{ inputs.hours }}"}
"""
