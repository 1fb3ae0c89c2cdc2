"""What callers get from a control: the same at every gateway. Pure.

The bodies are problem details (RFC 9457). ``type`` is ``about:blank``, so ``title`` is the
status' own phrase, and what a program may look at is in ``code``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

MARK_HEADER = "x-firedoor"
"""On answers that Firedoor's controls make: ``closed``, ``throttled`` or ``refused``."""

RETRY_AFTER_S = 120
"""What a closed endpoint tells its callers; a pause for polite clients, not a promise."""

THROTTLED_RETRY_AFTER_S = 1

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class ControlAnswer:
    """``mark`` is the value of `MARK_HEADER`; header names are in lower case."""

    status: int
    mark: str
    code: str
    detail: str
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(init=False)
    body: str = field(init=False)

    def __post_init__(self) -> None:
        headers = {
            "content-type": MEDIA_TYPE,
            "cache-control": "no-store",
            MARK_HEADER: self.mark,
        }
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
            problem["retry_after_s"] = self.retry_after_s
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "body", json.dumps(problem))


CLOSED = ControlAnswer(
    status=503,
    mark="closed",
    code="endpoint_closed",
    detail="This endpoint is closed for now. Try again later.",
    retry_after_s=RETRY_AFTER_S,
)
THROTTLED = ControlAnswer(
    status=429,
    mark="throttled",
    code="endpoint_throttled",
    detail="This endpoint takes few requests for now. Try again a little later.",
    retry_after_s=THROTTLED_RETRY_AFTER_S,
)
REFUSED = ControlAnswer(
    status=403,
    mark="refused",
    code="caller_refused",
    detail="This endpoint is not open to this caller for now.",
)
