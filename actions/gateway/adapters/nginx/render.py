r"""The file that makes nginx do what a set of controls asks for. Pure.

It is included in the ``http`` block, and only defines: variables (by ``map`` and ``geo``), the
zones of limits, a log format, and a server on loopback that tells the file's version. What looks
at them stands in the operator's servers and never changes (``deploy/gateways/nginx.example.conf``):

- ``$firedoor_answer`` is ``closed`` or ``refused`` if that can be said before the caller is
  known: by path, method, address and API key;
- ``$firedoor_verified_answer`` is ``refused`` if a verified claim says so. It must be looked at
  only after the token was verified: nginx evaluates a variable once for a request;
- the zones ``firedoor_1`` to ``firedoor_16`` (`SLOTS`) count a request if it is limited;
- ``$firedoor_shadow`` names the shadows that a request would be refused by.

Which endpoint a request is for is decided twice, by the path as nginx has decoded it and by the
path as it was sent, as a service behind may take either for it. Whatever holds by one of them
holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from actions.gateway.adapters.nginx.conf import VARIABLE, Definitions, exactly, quoted
from actions.gateway.rules import Rules, hold_back, rules_of
from actions.gateway.templates import ODD_SEGMENT, decoded_regex, path_regex
from bot.errors import BadInput
from bot.model.answers import CLOSED, REFUSED, THROTTLED
from bot.model.base import digest_of
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

SLOTS = (1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 16, 16, 16, 64, 64, 256)
"""How many requests at once each zone lets through: ``burst`` of its ``limit_req`` line, and one.

Those lines cannot be written anew with the controls, so there is a fixed number of them, and of
different rates at a time. If more are wanted, the highest ones are lowered to the sixteenth.
"""

SLOWEST_PER_S = 1 / 60
"""nginx takes whole requests, a second or a minute."""

STATUS_PATH = "/firedoor"

_VERSION = re.compile(r"# Firedoor, version ([0-9a-f]{12})\b")
_VERSIONS_WRITTEN = 2

_OVERRIDES = "$http_x_http_method_override$http_x_http_method$http_x_method_override"
_UNSURE = "unsure"


@dataclass(frozen=True)
class Operator:
    """
    What the operator's own configuration has.

    Attributes:
        status_address: A loopback address and port that nothing else listens on.

        api_key_variable: Holds the name of the API key that nginx has checked; else empty.

        claim_variables: By a claim's name, the variable that holds its verified value.

        folds_case: Whether the services behind take a path in upper case for the same.
    """

    gateway: str
    status_address: str
    api_key_variable: str | None = None
    claim_variables: Mapping[str, str] = field(default_factory=dict)
    folds_case: bool = False


def render(operator: Operator, controls: Iterable[Control], known: Iterable[str] = ()) -> str:
    """
    Return the file. Its first line and the status server have its version.

    Args:
        known: Keys of all endpoints there are; see `rules`.

    Raises:
        BadInput: A control lacks what its kind needs, or what the operator has is no variable.
    """
    for variable in (operator.api_key_variable, *operator.claim_variables.values()):
        if variable is not None and not VARIABLE.fullmatch(variable):
            raise BadInput(
                f"{variable!r} is no name of an nginx variable; nothing was done. Write it without "
                f"the dollar sign, in the settings of gateway {operator.gateway}."
            )
    body = _body(operator, rules_of(controls, known))
    version = digest_of(_head(operator, "") + body)[:12]
    return _head(operator, version) + body


def version_in(text: str) -> str:
    """Return the version that a file has; empty if it has none, or is not as it was rendered."""
    found = _VERSION.match(text)
    if found is None:
        return ""
    version = found.group(1)
    rendered = text.replace(version, "", _VERSIONS_WRITTEN)
    return version if digest_of(rendered)[:12] == version else ""


def shadow_id(control: Control) -> str:
    """Return what a shadow is called in the log that counts for it."""
    return digest_of(control.model_dump(mode="json"))[:8]


def _head(operator: Operator, version: str) -> str:
    return (
        f"# Firedoor, version {version}: its controls at gateway {operator.gateway}. Changes by "
        "hand are replaced.\n\n"
        "server {\n"
        f"    listen {operator.status_address};\n"
        "    access_log off;\n"
        "    default_type application/json;\n"
        f"    location = {STATUS_PATH} {{\n"
        f'        return 200 \'{{"firedoor": "{version}"}}\';\n'
        "    }\n"
        "    location / {\n"
        "        return 404;\n"
        "    }\n"
        "}\n\n"
    )


def _body(operator: Operator, rules: Sequence[Rules]) -> str:
    defined = Definitions()
    for answer in (CLOSED, REFUSED, THROTTLED):
        defined.constant(f"firedoor_{answer.mark}", answer.body)
    contained = {f"r{n}": rule for n, rule in enumerate(rules, 1) if rule.is_contained}
    if contained:
        _endpoints(defined, operator, rules)
    contained |= dict(_meant(rules).values())
    callers = _Callers(defined, operator)
    early, late = _verdicts(callers, contained)
    _answer(defined, "firedoor_answer", early)
    _answer(defined, "firedoor_verified_answer", late)
    zones = _limits(defined, contained)
    _shadows(callers, contained)
    log_format = 'log_format firedoor_shadow "$firedoor_shadow";\n'
    return "\n".join([str(defined), *zones, log_format])


# --- which endpoint ----------------------------------------------------------------------------


def _endpoints(defined: Definitions, operator: Operator, rules: Sequence[Rules]) -> None:
    """
    Define ``$firedoor_decoded`` and ``$firedoor_sent``: the rule for a request, by either path.

    nginx takes the default if an expression fails (PCRE gives up on a match that takes too long).
    So that is no way around a rule, no rule is an entry of its own, the last.
    """
    # Of several headers of one name nginx before 1.23 sees only the first. So that there is one
    # is enough, whatever it says.
    override = defined.map("firedoor_override", _OVERRIDES, [(quoted(""), "")], "+")
    fold = "~*" if operator.folds_case else "~"
    for name, path, regex_of, odd in (
        ("firedoor_decoded", "$uri", decoded_regex, f"~{ODD_SEGMENT}"),
        ("firedoor_sent", "$request_uri", path_regex, f"~^[^?]*{ODD_SEGMENT}"),
    ):
        entries = [(quoted(odd), _UNSURE)] if hold_back(rules) else []
        entries += [
            (quoted(rf"{fold}^{call} {regex_of(template, backtracking=True)}\z"), rule_id)
            for call, template, rule_id in _calls(rules)
        ]
        entries.append((quoted("~^"), ""))
        defined.map(name, f"$request_method{override} {path}", entries, _UNSURE)


def _calls(rules: Sequence[Rules]) -> list[tuple[str, str, str]]:
    """Return an expression for the methods, the template, and the rule's id, in the order in which
    they are to be tried. A known endpoint with no control has the id of no rule."""
    ids = {id(rule): f"r{n}" if rule.is_contained else "" for n, rule in enumerate(rules, 1)}
    meant = _meant(rules)
    found = []
    for template, of_one_path in groupby(rules, key=lambda rule: rule.path):
        group = list(of_one_path)
        closed = [rule for rule in group if rule.closed]
        if closed:
            # By a header the service behind may take any method for the closed one.
            found.append((r"[^ ]+\+", template, ids[id(closed[0])]))
        for rule in group:
            methods = "|".join(map(re.escape, rule.methods))
            call = rf"(?:{methods})\+?" if methods else "[^ ]+"
            found.append((call, template, ids[id(rule)]))
        if template in meant:
            found.append((r"[^ ]+\+", template, meant[template][0]))
    return found


def _meant(rules: Sequence[Rules]) -> dict[str, tuple[str, Rules]]:
    """Return by template an id and a rule for requests of methods that have none, but may be taken
    for one that refuses some callers, by a header: it refuses these callers too."""
    found: dict[str, tuple[str, Rules]] = {}
    for template, of_one_path in groupby(rules, key=lambda rule: rule.path):
        some = [rule for rule in of_one_path if rule.refuses_some and rule.methods]
        if some:
            blocked = {principal for rule in some for principal in rule.blocked}
            found[template] = (
                f"m{len(found) + 1}",
                Rules(
                    method="+",
                    path=template,
                    blocked=tuple(sorted(blocked, key=str)),
                    allowed=tuple(group for rule in some for group in rule.allowed),
                ),
            )
    return found


# --- who is refused ----------------------------------------------------------------------------


class _Callers:
    """Defines variables that tell by 0 or 1 whether the caller is one of some principals."""

    def __init__(self, defined: Definitions, operator: Operator) -> None:
        self.defined = defined
        self._operator = operator

    def is_one_of(self, principals: Iterable[Principal]) -> str:
        """Return variables in a row, one of which is 1 if the caller is one of these."""
        by_source: dict[tuple[PrincipalKind, str], list[str]] = {}
        for principal in principals:
            source = principal.kind, principal.claim or ""
            by_source.setdefault(source, []).append(principal.value)
        return "".join(self._test(*source, values) for source, values in by_source.items())

    def refused(
        self,
        blocked: Sequence[Principal],
        allowed: Iterable[Sequence[Principal]],
        value: str = "refused",
    ) -> str:
        """Return a variable that is ``value`` if the caller is blocked, or in one of the groups of
        allowed ones is not; "" if nobody is."""
        words = [f"in:{self.is_one_of(blocked)}"] if blocked else []
        words += [f"out:{self.is_one_of(group)}" for group in allowed]
        if not words:
            return ""
        source = " ".join(words)
        entries = [(quoted("~in:0*1"), value), (quoted(r"~out:0+(?: |\z)"), value)]
        return self.defined.map(_name("refused", [source, value]), source, entries)

    def _test(self, kind: PrincipalKind, claim: str, values: list[str]) -> str:
        name = _name(kind.value, [claim, *values])
        if kind is PrincipalKind.IP:
            return self.defined.geo(name, values)
        if kind is PrincipalKind.API_KEY:
            variable, setting = self._operator.api_key_variable, "api_key_variable"
        else:
            variable, setting = self._operator.claim_variables.get(claim), "claim_variables"
        if variable is None:
            raise BadInput(
                f"Gateway {self._operator.gateway} is not said to know callers by "
                f"{claim or 'API key'}, so it cannot tell them apart; nothing was done. Set "
                f"`{setting}` of the gateway in firedoor.yaml."
            )
        entries = [(exactly(each), "1") for each in values]
        return self.defined.map(name, f"${variable}", entries, "0")


def _name(kind: str, content: Sequence[str]) -> str:
    return f"firedoor_{kind}_{digest_of(list(content))[:8]}"


def _verdicts(
    callers: _Callers, contained: Mapping[str, Rules]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return by rule what it says before the token was verified, and after that."""
    early, late = {}, {}
    for rule_id, rule in contained.items():
        if rule.closed:
            early[rule_id] = "closed"
            continue
        by_claim = [p for p in rule.blocked if p.kind is PrincipalKind.CLAIM]
        others = [p for p in rule.blocked if p.kind is not PrincipalKind.CLAIM]
        with_claim = [group for group in rule.allowed if _has_claim(group)]
        without = [group for group in rule.allowed if not _has_claim(group)]
        early[rule_id] = callers.refused(others, without)
        late[rule_id] = callers.refused(by_claim, with_claim)
    if hold_back(contained.values()):
        early[_UNSURE] = "closed"
    return early, late


def _has_claim(group: Sequence[Principal]) -> bool:
    return any(principal.kind is PrincipalKind.CLAIM for principal in group)


def _answer(defined: Definitions, name: str, verdicts: Mapping[str, str]) -> None:
    """Define what is answered: the strictest of what holds by the decoded path and as sent."""
    said = [(rule_id, verdict) for rule_id, verdict in verdicts.items() if verdict]
    if not said:
        defined.constant(name, "")
        return
    by_path = [
        defined.map(f"{name}_{path}", f"$firedoor_{path}", said) for path in ("decoded", "sent")
    ]
    entries = [(f"~{answer}", answer) for answer in ("closed", "refused")]
    defined.map(name, "".join(by_path), entries)


# --- limits and shadows ------------------------------------------------------------------------


def _limits(defined: Definitions, contained: Mapping[str, Rules]) -> list[str]:
    """Define what each zone counts a request under: its endpoint, or nothing. Return the lines
    that make the zones."""
    rates = {
        rule_id: (rule.rate_per_s, rule)
        for rule_id, rule in contained.items()
        if rule.rate_per_s is not None and not rule.closed
    }
    slots = slots_of(rate for rate, _ in rates.values())
    lines = []
    for slot in range(len(SLOTS)):
        name = f"firedoor_limit_{slot + 1}"
        # By an endpoint's own text: what was counted goes on being counted after a reload.
        counted = [
            (rule_id, digest_of([rule.method, rule.path])[:8])
            for rule_id, (rate, rule) in rates.items()
            if slots[rate] == slot
        ]
        if counted:
            as_sent = defined.map(f"{name}_sent", "$firedoor_sent", counted)
            defined.map(name, "$firedoor_decoded", counted, as_sent)
        else:
            defined.constant(name, "")
        rate = min((rate for rate, of in slots.items() if of == slot), default=1.0)
        lines.append(f"limit_req_zone ${name} zone=firedoor_{slot + 1}:32k rate={_rate(rate)};")
    return lines


def slots_of(rates: Iterable[float]) -> dict[float, int]:
    """Return for each rate the index of the zone that has it: the zone that lets the most through
    at once of those that let no more through than the rate does in a second."""
    distinct = sorted(set(rates))
    kept, others = distinct[: len(SLOTS)], distinct[len(SLOTS) :]
    free = list(range(len(SLOTS)))
    found: dict[float, int] = {}
    for rate in reversed(kept):
        fitting = [slot for slot in free if SLOTS[slot] <= max(1.0, rate)]
        found[rate] = max(fitting, default=free[0])
        free.remove(found[rate])
    for rate in others:
        found[rate] = found[kept[-1]]
    return found


def _rate(rate_per_s: float) -> str:
    """Return a rate as nginx takes it, never higher than asked for."""
    if rate_per_s == int(rate_per_s):
        return f"{int(rate_per_s)}r/s"
    # A product that is a hair less than a whole number, in binary, must not cost a request.
    return f"{max(1, math.floor(rate_per_s * 60 + 1e-6))}r/m"


def _shadows(callers: _Callers, contained: Mapping[str, Rules]) -> None:
    """Define ``$firedoor_shadow``: the ids of all shadows that would refuse a request."""
    places: dict[Control, list[str]] = {}
    for rule_id, rule in contained.items():
        for shadow in rule.shadows if not rule.closed else ():
            places.setdefault(shadow, []).append(rule_id)
    found = []
    for shadow, rule_ids in sorted(places.items(), key=lambda item: shadow_id(item[0])):
        name = f"firedoor_shadow_{shadow_id(shadow)}"
        said = [(rule_id, _would_refuse(callers, shadow)) for rule_id in rule_ids]
        as_sent = callers.defined.map(f"{name}_sent", "$firedoor_sent", said)
        found.append(callers.defined.map(name, "$firedoor_decoded", said, as_sent))
    callers.defined.constant("firedoor_shadow", "".join(found))


def _would_refuse(callers: _Callers, shadow: Control) -> str:
    """Return a shadow's id, or a variable that is the id if the caller would be refused."""
    word = f"{shadow_id(shadow)} "
    match shadow.would:
        case ControlKind.BLOCK:
            return callers.refused(shadow.principals, (), word)
        case ControlKind.ALLOW_ONLY:
            return callers.refused((), [shadow.principals], word)
        case _:
            return word
