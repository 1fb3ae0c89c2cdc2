"""Alertmanager's webhook format (version 4) as alerts. Pure.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bot.errors import AlertInvalid
from bot.model.alert import Alert
from bot.model.base import Utc
from bot.web.bodies import problems_of

SOURCE = "alertmanager"
MAX_ALERTS = 1_000
Text = Annotated[str, StringConstraints(max_length=10_000)]
Texts = Annotated[dict[Text, Text], Field(max_length=100)]


class _Alert(BaseModel):
    model_config = ConfigDict(extra="ignore")

    status: Literal["firing", "resolved"]
    labels: Texts
    annotations: Texts = {}
    startsAt: Utc  # their name
    fingerprint: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore")

    version: Literal["4"]
    alerts: Annotated[list[_Alert], Field(min_length=1, max_length=MAX_ALERTS)]


def parse(body: bytes) -> list[Alert]:
    """
    Read a webhook's body.

    Raises:
        AlertInvalid: It is not JSON or not in this format; names every problem.
    """
    try:
        payload = _Payload.model_validate_json(body)
    except ValidationError as error:
        raise AlertInvalid(
            f"This is not an Alertmanager webhook, version 4 ({problems_of(error)}); nothing was "
            "taken. Point the receiver's webhook_config here unchanged."
        ) from None
    return [
        Alert(
            source=SOURCE,
            fingerprint=alert.fingerprint,
            status=alert.status,
            labels=alert.labels,
            annotations=alert.annotations,
            starts_at=alert.startsAt,
        )
        for alert in payload.alerts
    ]
