"""The canonical access-log schema, and how each kind of log fills it.

Questions are asked in canonical names only, so a new kind of log needs one more row in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CANONICAL = (
    "time",
    "method",
    "path",
    "status",
    "principal",
    "role",
    "tenant",
    "resource_owner",
    "client_ip",
    "user_agent",
    "request_id",
    "bytes_sent",
    "duration_ms",
)
"""Every column, in order; ``actions/logs/README.md`` says what each means."""

KINDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        # One JSON object a line, written by Envoy's file access log with `json_format`.
        "envoy_json": MappingProxyType(
            {
                "time": "start_time",
                "method": "method",
                "path": "path",
                "status": "response_code",
                "principal": "sub",
                "role": "role",
                "tenant": "tenant",
                "resource_owner": "resource_owner",
                "client_ip": "client_ip",
                "user_agent": "user_agent",
                "request_id": "request_id",
                "bytes_sent": "bytes_sent",
                "duration_ms": "duration_ms",
            }
        ),
    }
)
"""Kind of log → canonical column → the key that holds it in a line."""
