"""Names, middlewares and services of Firedoor's own in a Traefik. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from actions.gateway.adapters.traefik.operators import OWN
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.base import digest_of

NOOP = "noop@internal"
"""Traefik's own service that does nothing but to answer 418."""

NOOP_STATUS = 418

OUTSIDE_STATUS = 510
"""What a list of networks answers to those outside, until it is made into a 403. No service behind
it is expected to say that (RFC 2774), so what it does say is not touched."""

ANSWERS = f"{OWN}answers"
NO_SERVERS = f"{OWN}no-servers"
"""A service without servers: Traefik answers 503 for it."""

CLOSED_BY = (f"{OWN}mark-closed", f"{OWN}answer-closed")
REFUSED_BY = (f"{OWN}mark-refused", f"{OWN}answer-refused")
OUTSIDE_BY = f"{OWN}answer-outside"
THROTTLED_BY = f"{OWN}answer-throttled"
"""Traefik's limit has no status but 429. So while an endpoint is throttled, a 429 of the service
itself gets this answer, too."""

ONE_BUCKET = f"{OWN}one-bucket"
BUCKET_AWAY = f"{OWN}bucket-away"

BUCKET_HEADER = "X-Firedoor-Bucket"
"""Traefik counts for each value of a header. This one is set to one value for all callers right
before, and taken off right after."""

ANSWER_TIMEOUT = "1s"
"""A responder that hangs must not keep callers waiting: the status is sent without it."""


def common_middlewares() -> dict[str, Any]:
    """Return the middlewares that are the same for all endpoints."""
    return {
        CLOSED_BY[0]: _mark(CLOSED),
        CLOSED_BY[1]: _answer(CLOSED, NOOP_STATUS),
        REFUSED_BY[0]: _mark(REFUSED),
        REFUSED_BY[1]: _answer(REFUSED, NOOP_STATUS),
        OUTSIDE_BY: _answer(REFUSED, OUTSIDE_STATUS),
        THROTTLED_BY: _answer(THROTTLED, THROTTLED.status),
        ONE_BUCKET: {"headers": {"customRequestHeaders": {BUCKET_HEADER: "all"}}},
        BUCKET_AWAY: {"headers": {"customRequestHeaders": {BUCKET_HEADER: ""}}},
    }


def services(responder_url: str) -> dict[str, Any]:
    return {
        ANSWERS: {
            "loadBalancer": {
                "servers": [{"url": responder_url}],
                "passHostHeader": False,
                "serversTransport": ANSWERS,
            }
        },
        NO_SERVERS: {"loadBalancer": {"servers": []}},
    }


def transports() -> dict[str, Any]:
    timeouts = {"dialTimeout": ANSWER_TIMEOUT, "responseHeaderTimeout": ANSWER_TIMEOUT}
    return {ANSWERS: {"forwardingTimeouts": timeouts}}


def limit(rate_per_s: float) -> dict[str, Any]:
    """Return a token bucket that lets ``rate_per_s`` through on average, a second's worth at once.

    https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/ratelimit/
    """
    tokens = max(1, math.ceil(rate_per_s))
    return {
        "rateLimit": {
            "average": tokens,
            "period": f"{tokens / rate_per_s:.6f}s",
            "burst": tokens,
            "sourceCriterion": {"requestHeaderName": BUCKET_HEADER},
        }
    }


def only_from(ranges: Sequence[str], forwarded_depth: int | None) -> dict[str, Any]:
    """Return what answers `OUTSIDE_STATUS` to callers outside of some networks."""
    allowed = {"sourceRange": list(ranges), "rejectStatusCode": OUTSIDE_STATUS}
    if forwarded_depth is not None:
        allowed["ipStrategy"] = {"depth": forwarded_depth}
    return {"ipAllowList": allowed}


def name_of(endpoint: str, *words: str) -> str:
    """Return what an object for an endpoint is called: readable, and no other object's name."""
    return "-".join([f"{OWN}{slug(endpoint)}", *words])


def slug(text: str) -> str:
    readable = re.sub("[^A-Za-z0-9]+", "-", text).strip("-").lower()
    return readable if readable == text else f"{readable[:60]}-{digest_of(text)[:8]}"


def _mark(answer: ControlAnswer) -> dict[str, Any]:
    """Return what sets an answer's headers, whether the responder gives its body or not."""
    headers = {name: value for name, value in answer.headers.items() if name != "content-type"}
    return {"headers": {"customResponseHeaders": headers}}


def _answer(answer: ControlAnswer, instead_of: int) -> dict[str, Any]:
    """Return what makes an answer out of a status: with the responder's body and headers."""
    return {
        "errors": {
            "status": [str(instead_of)],
            "statusRewrites": {str(instead_of): answer.status},
            "service": ANSWERS,
            "query": f"/answers/{answer.mark}",
            # Nothing else of a request goes to the responder, least of all its token.
            "errorRequestHeaders": ["Accept"],
        }
    }
