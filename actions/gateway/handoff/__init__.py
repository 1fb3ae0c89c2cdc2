"""A containment as a patch for the gateway's own configuration-as-code.

The next deploy then neither forgets nor undoes it. One module a format; each is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from actions.gateway.handoff import envoy, haproxy, kong, nginx, terraform
from actions.gateway.handoff.cases import Case, Language, draft_of, sayable
from actions.gateway.handoff.texts import decoded_regex, head, name_of, raw_regex
from actions.gateway.rules import Rules, rules_of
from bot.errors import BadInput, NotFound
from bot.model.containment import Containment, Control

Format = Literal["envoy", "haproxy", "nginx", "kong", "terraform-aws-waf"]
FORMATS: tuple[Format, ...] = get_args(Format)

_LANGUAGES: dict[Format, Language] = {
    "envoy": envoy.LANGUAGE,
    "haproxy": haproxy.LANGUAGE,
    "nginx": nginx.LANGUAGE,
    "kong": kong.LANGUAGE,
    "terraform-aws-waf": terraform.LANGUAGE,
}


@dataclass(frozen=True)
class Patch:
    """``unsupported``: a sentence for each thing that the format cannot express."""

    file_name: str
    media_type: str
    text: str
    unsupported: tuple[str, ...]


def chosen(
    ids: Iterable[str], get: Callable[[str], Containment | None], now: datetime
) -> list[Containment]:
    """
    Return containments of one gateway that are in force, each once.

    Raises:
        NotFound: There is none of an id.

        BadInput: One is over, or they are of several gateways.
    """
    found = []
    for containment_id in dict.fromkeys(ids):
        containment = get(containment_id)
        if containment is None:
            raise NotFound(
                f"There is no containment {containment_id}; nothing was rendered. "
                "`firedoor containments list` shows them."
            )
        if containment.lifted_at is not None or containment.expires_at <= now:
            raise BadInput(
                f"Containment {containment_id} is over; nothing was rendered, as a patch of it "
                "would hold it again. `firedoor containments list` shows what is in force."
            )
        found.append(containment)
    gateways = sorted({containment.gateway for containment in found})
    if len(gateways) > 1:
        raise BadInput(
            f"The containments are of gateways {', '.join(gateways)}; nothing was rendered, as "
            "each has a configuration of its own. Ask for one gateway's at a time."
        )
    return found


def patch(
    format: Format,
    controls: Iterable[Control],
    *,
    containments: Sequence[Containment],
    known: Iterable[str],
) -> Patch:
    """
    Return what a set of controls is in a gateway's own configuration.

    It never refuses more than they do. What the format cannot say is left out, and told.

    Args:
        containments: Whose controls these are: the head of the text says of each what it is,
            whose, why and until when.

        known: Keys of all endpoints there are; see `rules_of`.

    Raises:
        BadInput: The format can say nothing of it, or a control is none.
    """
    language = _LANGUAGES[format]
    rules, told = _sayable(rules_of(controls, known), language)
    rendered = language.render(draft_of(rules))
    unsupported = (*told, *rendered.unsupported)
    if not rendered.body:
        why = " ".join(unsupported) or "There is no control."
        raise BadInput(
            f"Nothing of it can be said for {language.title}; nothing was rendered. {why} Choose "
            "another format."
        )
    top = head(containments, language.title, rendered.how, unsupported)
    for word in language.reads:
        top = top.replace(word, f"{word[0]} {word[1:]}")
    incidents = "-".join(dict.fromkeys(name_of(c.incident_id) for c in containments))
    gateways = "-".join(dict.fromkeys(name_of(c.gateway) for c in containments))
    return Patch(
        file_name=f"firedoor-{incidents[:60]}-{gateways}.{language.suffix}",
        media_type=language.media_type,
        text=f"{top}\n{rendered.body}",
        unsupported=unsupported,
    )


def _sayable(rules: Sequence[Rules], language: Language) -> tuple[list[Rules], list[str]]:
    """Return rules that a format can say, and a sentence for each thing that it cannot."""
    left, told = [], []
    cases = draft_of(rules).cases
    for case in cases:
        without, sentences = sayable(case.rules, language, _too_long(case, language))
        left.append(without)
        told += sentences
    return left, told


def _too_long(case: Case, language: Language) -> str | None:
    most = language.most_regex
    for path in (case.rules.path, *(rules.path for rules in case.before)):
        if most is not None and max(len(raw_regex(path)), len(decoded_regex(path))) > most:
            return f"an expression for {path} has more than {most} characters"
    return None


__all__ = ["FORMATS", "Format", "Patch", "chosen", "patch"]
