"""``probe.authorization``: proves that an endpoint asks whose object it shows."""

from __future__ import annotations

from typing import Literal

from actions.probe.prober import Prober, Via, Who
from bot.action import Context, Facts, Params, ReadAction
from bot.errors import BadInput, VerificationFailed
from bot.model.endpoint import Endpoint
from bot.model.incident import IncidentStatus
from bot.model.outcome import Check, Outcome, Proof


class AuthorizationParams(Params):
    """
    What ``with:`` may hold under a ``probe.authorization`` step.

    ``endpoint``: key of a GET endpoint whose example path is an object of the probe's owner.
    ``expect``: what a stranger must get; 404 for services that hide what is not the caller's.
    ``via``: ``upstream`` goes past the gateway, where the endpoint may still be closed.
    ``probe``: name of the probe, if several are configured.
    """

    endpoint: str
    expect: Literal[403, 404] = 403
    via: Via = "upstream"
    probe: str | None = None


class AuthorizationFacts(Facts):
    """Statuses are HTTP's. ``proven`` is always true: what is not proven fails the step."""

    stranger_status: int
    owner_status: int
    anonymous_status: int
    proven: bool
    checked_path: str


class Authorization(ReadAction[AuthorizationParams]):
    """
    Ask for the owner's example object as a stranger, as its owner, and without a token.

    Proven if the stranger gets ``expect``, the owner 200 and a request without a token 401. So a
    service that refuses everybody, or is down, proves nothing.
    """

    name = "probe.authorization"
    reaches = IncidentStatus.ERADICATED
    params = AuthorizationParams
    facts = AuthorizationFacts

    def run(self, params: AuthorizationParams, ctx: Context) -> Outcome:
        """
        Raises:
            VerificationFailed: The answers are others than these.

            BadInput: The endpoint is unknown, is no GET, or has no example path.

            ProviderUnreachable, ProviderRefused: As `Prober.request`.
        """
        path = _example_path(params.endpoint, ctx)
        prober = ctx.connection(Prober, params.probe)
        wanted: tuple[tuple[Who, int], ...] = (
            ("stranger", params.expect),
            ("owner", 200),
            ("nobody", 401),
        )
        seen = {who: prober.get(path, who, params.via).status for who, _ in wanted}
        proof = Proof(
            checks=tuple(
                Check(
                    name=f"{who} at the {params.via}: GET {path}",
                    ok=seen[who] == expected,
                    expected=str(expected),
                    seen=str(seen[who]),
                )
                for who, expected in wanted
            )
        )
        if not proof.ok:
            wrong = "; ".join(
                f"{check.name} gave {check.seen}, not {check.expected}"
                for check in proof.checks
                if not check.ok
            )
            raise VerificationFailed(
                f"The authorization of {params.endpoint} is not proven: {wrong}. The endpoint is "
                "not safe to reopen; see whether the fix is really deployed."
            )
        facts = AuthorizationFacts(
            stranger_status=seen["stranger"],
            owner_status=seen["owner"],
            anonymous_status=seen["nobody"],
            proven=True,
            checked_path=path,
        )
        return Outcome(facts=facts.model_dump(mode="json"), proof=proof)


def _example_path(key: str, ctx: Context) -> str:
    endpoint: Endpoint | None = ctx.endpoints.get(key)
    if endpoint is None:
        raise BadInput(
            f"The inventory has no endpoint {key!r}; nothing was asked. Write it as the "
            "inventory does: `GET /api/orders/{order_id}`."
        )
    if endpoint.method != "GET":
        raise BadInput(
            f"{key} is not a GET, and a probe must not change data; nothing was asked. Prove it "
            "by hand, in a `manual` step."
        )
    if endpoint.example_path is None:
        raise BadInput(
            f"The inventory has no example path for {key}, so there is no object to ask for. Give "
            "its path parameters an `example` in the OpenAPI document: an object of the probe's "
            "owner."
        )
    return endpoint.example_path
