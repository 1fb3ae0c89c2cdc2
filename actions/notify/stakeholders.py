"""Tell the people who must know, by the classification of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from actions.notify.audiences import Stakeholder, Stakeholders, normal
from actions.notify.cleaning import clean_line
from actions.notify.rendering import render
from bot.action import Context, Facts, NotifyAction, Params
from bot.errors import BadInput
from bot.model.containment import Containment, ControlKind
from bot.model.outcome import Notice, Outcome


def _listed(value: Any) -> Any:
    """Take one text for a list of it, and nothing for an empty list."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class TellParams(Params):
    """
    What ``with:`` may hold under a ``notify.stakeholders`` step.

    Attributes:
        data: Classifications of what was exposed; one text or a list.

        people, records: Counts; left out or null means "not known yet".

        endpoint: Its containments in force are told.

        window: Over which time, for people (``steps.<id>.window``).

        evidence: Id of the evidence that holds the details.

        done: What was done, one sentence each.

        message: More, in your own words.

        template: A template for all audiences instead of each its own.
    """

    data: Texts
    people: Annotated[int | None, Field(ge=0)] = None
    records: Annotated[int | None, Field(ge=0)] = None
    endpoint: str | None = None
    window: str | None = None
    evidence: str | None = None
    done: Texts = ()
    message: str | None = None
    template: str | None = None


class TellFacts(Facts):
    """``unknown_classifications`` are those that no audience is configured for by name: only who
    is always told was told about them."""

    notices: int
    audiences: tuple[str, ...]
    unknown_classifications: tuple[str, ...]


class Tell(NotifyAction[TellParams]):
    """
    Compose one notice for each way to reach each audience that must know.

    An audience is told if its ``data`` holds ``any`` or one of the given classifications. A
    notice says what happened, what is known, what was done and what is asked of this audience. It
    holds counts, never the people affected.

    Raises:
        BadInput: Nobody would be told, or a template does not render.
    """

    name = "notify.stakeholders"
    params = TellParams
    facts = TellFacts

    def compose(self, params: TellParams, ctx: Context) -> Outcome:
        stakeholders = ctx.connection(Stakeholders)
        data = tuple(dict.fromkeys(normal(given) for given in params.data if given.strip()))
        told = [group for group in stakeholders.told_about(data) if _ways(group)]
        if not told:
            raise BadInput(
                f"No stakeholder with a channel or an address is told about "
                f"{', '.join(data) or 'unclassified data'}, so nobody was told; add one under "
                "stakeholders in firedoor.yaml, with data [any] for all cases."
            )
        unknown = stakeholders.unknown(data)
        values = {
            "incident_id": ctx.incident_id,
            "title": ctx.incident_title,
            "data": data,
            "unknown_data": unknown,
            "people": params.people,
            "records": params.records,
            "endpoint": params.endpoint,
            "window": params.window,
            "evidence": params.evidence,
            "message": params.message,
            "done": (*_containments(params.endpoint, ctx), *params.done),
        }
        notices = tuple(
            notice for group in told for notice in _notices(group, values, params.template)
        )
        facts = TellFacts(
            notices=len(notices),
            audiences=tuple(group.name for group in told),
            unknown_classifications=tuple(clean_line(name, 60) for name in unknown),
        )
        return Outcome(facts=facts.model_dump(mode="json"), notices=notices)


def _ways(group: Stakeholder) -> tuple[tuple[str, str], ...]:
    """Return each way and address once."""
    return (
        *(("slack", channel) for channel in dict.fromkeys(group.channels)),
        *(("email", address) for address in dict.fromkeys(group.emails)),
    )


def _notices(
    group: Stakeholder, values: Mapping[str, Any], template: str | None
) -> Iterator[Notice]:
    text = render(group.name, {**values, "audience": group.name}, template)
    subject = clean_line(f"[{values['incident_id']}] {values['title']}", 150)
    for way, to in _ways(group):
        yield Notice.model_validate(
            {
                "key": f"{group.name}:{way}:{to}",
                "way": way,
                "to": to,
                "audience": group.name,
                "subject": subject,
                "text": text,
            }
        )


def _containments(endpoint: str | None, ctx: Context) -> tuple[str, ...]:
    """Say what is in force on the endpoint now, one sentence each."""
    if endpoint is None:
        return ()
    try:
        gateway = ctx.containments.default_gateway(endpoint)
    except BadInput:
        return ()  # no gateway is configured for it: nothing is in force, and people must be told
    held = ctx.containments.in_force(gateway, endpoint)
    return tuple(_sentence(containment) for containment in held)


def _sentence(containment: Containment) -> str:
    control = containment.control
    match control.kind:
        case ControlKind.CLOSE:
            what = "is closed to everyone"
        case ControlKind.THROTTLE:
            what = f"lets {control.rate_per_s:g} requests a second through, over all callers,"
        case ControlKind.BLOCK:
            what = "is closed to one caller"
        case ControlKind.ALLOW_ONLY:
            what = "is open to a few callers only"
        case ControlKind.SHADOW:
            what = "is watched, and serves everyone,"
    return (
        f"{control.place} {what} at gateway {containment.gateway} since "
        f"{containment.since:%Y-%m-%d %H:%M} UTC, until {containment.expires_at:%Y-%m-%d %H:%M} "
        "UTC at the latest if nobody extends it."
    )
