"""Istio and the Gateway API beyond the contract of all gateways, on a stand-in of the Kubernetes
API.

No proxy listens to it, so nothing here proves that anything is contained.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actions.gateway.adapters.kubernetes.own_object import MANAGED_BY, VERSION
from bot.action import Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from tests.gateways.standins.kubernetes_gateways import (
    NAME,
    GatewayApi,
    Istio,
    KubernetesSubject,
)

ME = "/api/customers/me"
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=ME)
OTHER = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders")


@pytest.fixture(scope="module")
def all_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    made = {kind.kind: kind(tmp_path_factory.mktemp(kind.kind)) for kind in (Istio, GatewayApi)}
    yield made
    for subject in made.values():
        subject.close()


@pytest.fixture(params=["istio", "gateway-api"])
def subject(request: pytest.FixtureRequest, all_running: dict[str, Any]) -> Any:
    """Each of the two in turn, with no control in force."""
    return ready(all_running[request.param])


@pytest.fixture
def istio(all_running: dict[str, Any]) -> Any:
    return ready(all_running["istio"])


@pytest.fixture
def route(all_running: dict[str, Any]) -> Any:
    return ready(all_running["gateway-api"])


def ready(subject: KubernetesSubject) -> KubernetesSubject:
    subject.api.takes = subject.api.controls = True
    subject.accept()
    subject.gateway = subject.adapter()
    subject.gateway.converge(())
    return subject


def in_and_out(subject: KubernetesSubject) -> None:
    """Write in every way there is."""
    for controls in ([CLOSE], [CLOSE, OTHER], []):
        subject.gateway.converge(controls)


class TestObject:
    def test_it_says_whose_it_is_and_what_it_holds(self, subject: KubernetesSubject) -> None:
        """
        Who finds it in the cluster sees that it is Firedoor's, and its version.
        """
        version = subject.gateway.converge([CLOSE])

        metadata = subject.own()["metadata"]
        assert metadata["labels"][MANAGED_BY] == "firedoor"
        assert metadata["annotations"][VERSION] == version

    def test_it_is_there_only_while_something_is_in_force(self, subject: Any) -> None:
        """
        The last lift takes it away.
        """
        subject.gateway.converge([CLOSE])
        assert NAME in str(subject.export())

        subject.gateway.converge(())

        assert NAME not in str(subject.export())

    def test_what_others_put_into_its_metadata_stays(self, subject: KubernetesSubject) -> None:
        """
        Labels of other tools are no edit of what it says, and survive a change.
        """
        version = subject.gateway.converge([CLOSE])
        there = subject.own()
        labels = {**there["metadata"]["labels"], "cost-centre": "7"}
        metadata = {**there["metadata"], "labels": labels}
        path = f"{subject.objects}/{NAME}"
        subject.api.as_operator("PUT", path, {**there, "metadata": metadata})
        assert subject.gateway.observe() == version

        subject.gateway.converge([CLOSE, OTHER])

        assert subject.own()["metadata"]["labels"]["cost-centre"] == "7"

    def test_object_of_another_hand_is_never_touched(self, subject: KubernetesSubject) -> None:
        """
        One that has the name by chance, and not the label, stays as it is.
        """
        theirs = subject.theirs()
        theirs["metadata"]["name"] = NAME
        subject.api.as_operator("POST", subject.objects, theirs)
        before = subject.export()
        try:
            with pytest.raises(ProviderRefused, match="not Firedoor's"):
                subject.gateway.converge([CLOSE])
            assert subject.export() == before
        finally:
            subject.api.as_operator("DELETE", f"{subject.objects}/{NAME}")

    def test_deletion_is_only_of_what_was_seen(self, subject: KubernetesSubject) -> None:
        """
        If another hand changes the object right before it is removed, it is not removed.
        """
        subject.gateway.converge([CLOSE, OTHER])

        with pytest.raises(Conflict):
            subject.gateway.converge((), Writing(begin=subject.edit_ours))

        assert subject.own()

    def test_replaced_edit_is_kept(self, subject: KubernetesSubject) -> None:
        """
        The sentence says in which file what another hand had made of it is.
        """
        subject.gateway.converge([CLOSE, OTHER])
        subject.edit_ours()
        told = list[str]()

        subject.gateway.converge([CLOSE, OTHER], Writing(displaced=told.append))

        (file,) = [word.rstrip(".;") for word in told[0].split() if "/kept/" in word]
        assert '"rules"' in Path(file).read_text()


class TestAccess:
    def test_token_is_read_anew_for_each_call(self, subject: KubernetesSubject) -> None:
        """
        Tokens of service accounts rotate while Firedoor runs.
        """
        subject.gateway.observe()
        old, subject.api.token = subject.api.token, "rotated"
        try:
            with pytest.raises(ProviderUnreachable, match="401"):
                subject.gateway.observe()
            subject.token_file.write_text("rotated\n")

            assert subject.gateway.observe() == subject.gateway.version_of(())
        finally:
            subject.api.token = old
            subject.token_file.write_text(old)

    def test_server_of_another_certificate_is_not_believed(
        self, subject: KubernetesSubject, tmp_path: Path
    ) -> None:
        """
        Only who has the CA's certificate is told the token.
        """
        Istio(tmp_path).close()
        other = subject.adapter(ca_file=tmp_path / "ca.pem")

        with pytest.raises(ProviderUnreachable, match="gives no answer"):
            other.observe()

    def test_token_is_not_sent_in_the_clear(self, subject: KubernetesSubject) -> None:
        """
        Without TLS nothing is asked, unless it is on this machine.
        """
        with pytest.raises(BadInput, match="TLS"):
            subject.adapter(server="http://kubernetes.acme.example:6443")

    def test_missing_right_to_write_is_told_and_nothing_changes(self, subject: Any) -> None:
        """
        A role without `create` is refused by name; what is there stays.
        """
        rules, before = subject.api.rules, subject.export()
        subject.api.rules = [
            {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]}
            for rule in rules
        ]
        try:
            with pytest.raises(ProviderRefused, match="cannot create"):
                subject.gateway.converge([CLOSE])
            assert subject.export() == before
        finally:
            subject.api.rules = rules

    def test_a_token_that_a_server_repeats_is_not(self, subject: Any) -> None:
        """
        A webhook may put into its message whatever it got.
        """
        subject.refuse()

        with pytest.raises(
            ProviderRefused, match=r"denied the request of Bearer \[redacted\]"
        ) as it:
            subject.gateway.converge([CLOSE])

        assert subject.api.token not in str(it.value)

    def test_missing_right_to_read_is_no_word_on_what_is_there(self, subject: Any) -> None:
        """
        Nothing is known then, so it is not taken for an empty gateway.
        """
        rules, subject.api.rules = subject.api.rules, []
        try:
            with pytest.raises(ProviderUnreachable, match="nothing is known"):
                subject.gateway.observe()
        finally:
            subject.api.rules = rules

    def test_missing_definition_is_not_an_empty_gateway(self, subject: Any) -> None:
        """
        An API server that does not know the kind has no object of it, and no gateway either.
        """
        subject.gateway._place = type(subject.gateway._place)(
            "security.istio.io", "v9", "AuthorizationPolicy", "authorizationpolicies", "x"
        )

        with pytest.raises(ProviderUnreachable, match="installed"):
            subject.gateway.observe()

    def test_every_right_of_the_example_role_is_used(self, subject: KubernetesSubject) -> None:
        """
        It grants nothing that is not needed: without any one of its verbs something fails.
        """
        rules = subject.api.rules
        try:
            for position, rule in enumerate(rules):
                for verb in rule["verbs"]:
                    less = {**rule, "verbs": [v for v in rule["verbs"] if v != verb]}
                    subject.api.rules = [*rules[:position], less, *rules[position + 1 :]]
                    with pytest.raises((ProviderRefused, ProviderUnreachable)):
                        in_and_out(subject)
                    subject.api.rules = rules
                    subject.gateway.converge(())
        finally:
            subject.api.rules = rules


class TestIstio:
    def test_what_it_cannot_is_declared(self, istio: Istio) -> None:
        """
        Claims need an issuer, API keys are not checked, and a close answers 403.
        """
        key = (Principal(kind=PrincipalKind.API_KEY, value="partner-7"),)
        claim = (Principal(kind=PrincipalKind.CLAIM, value="c-1"),)

        def support(principals: tuple[Principal, ...], **changes: Any) -> Any:
            wanted = Control(kind=ControlKind.BLOCK, method="GET", path=ME, principals=principals)
            return istio.adapter(**changes).supports(wanted)

        assert not support(key).ok
        assert support(claim).ok
        assert not support(claim, issuer=None).ok
        assert istio.gateway.supports(CLOSE).own_status == 403

    @pytest.mark.parametrize("changes", [{"selector": {}}, {"ports": ()}])
    def test_policy_for_everything_is_refused(self, istio: Istio, changes: Any) -> None:
        """
        Without a selector it would deny at every workload; without ports, all of TCP.
        """
        with pytest.raises(BadInput, match="selector or no ports"):
            istio.adapter(**changes)


class TestGatewayApi:
    def test_route_that_nobody_takes_is_not_in_force(self, route: GatewayApi) -> None:
        """
        As long as the controller does not say that it takes the route, nothing is closed.
        """
        route.api.controls = False

        with pytest.raises(ProviderUnreachable, match="not taken yet"):
            route.gateway.converge([CLOSE])

        assert route.gateway.observe() != route.gateway.version_of([CLOSE])

    def test_refused_route_is_put_back(self, route: GatewayApi) -> None:
        """
        What the controller refuses is not left behind; what it had taken is there again.
        """
        route.gateway.converge([OTHER])
        before = route.own()["spec"]
        route.api.takes = False

        with pytest.raises(ProviderRefused, match="refuses"):
            route.gateway.converge([CLOSE, OTHER])

        assert route.own()["spec"] == before

    def test_refused_first_route_is_removed(self, route: GatewayApi) -> None:
        """
        Where there was none, none is left.
        """
        before = route.export()
        route.api.takes = False

        with pytest.raises(ProviderRefused):
            route.gateway.converge([CLOSE])

        assert route.export() == before

    def test_route_that_would_come_first_is_named(self, route: GatewayApi) -> None:
        """
        If the operator's route would go on to get the requests, nothing is written.
        """
        rule = {"matches": [{"path": {"type": "Exact", "value": ME}, "method": "GET"}]}
        theirs = route.theirs()
        theirs["metadata"]["name"] = "exact"
        theirs["spec"]["rules"] = [rule]
        route.api.as_operator("POST", route.objects, theirs)
        try:
            before = route.writes()
            with pytest.raises(ProviderRefused, match="HTTPRoute orders/exact"):
                route.gateway.converge([CLOSE])
            assert route.writes() == before
        finally:
            route.api.as_operator("DELETE", f"{route.objects}/exact")

    @pytest.mark.parametrize(
        ("wanted", "nearest"),
        [
            (Control(kind=ControlKind.CLOSE, method="GET", path="/orders/{id}"), None),
            (
                Control(kind=ControlKind.THROTTLE, method="GET", path=ME, rate_per_s=1.0),
                ControlKind.CLOSE,
            ),
        ],
    )
    def test_it_closes_literal_paths_and_nothing_else(
        self, route: GatewayApi, wanted: Control, nearest: ControlKind | None
    ) -> None:
        """
        For the rest each implementation decides by itself.
        """
        support = route.gateway.supports(wanted)

        assert (support.ok, support.nearest) == (False, nearest)

    def test_close_answers_500(self, route: GatewayApi) -> None:
        """
        The proof from outside looks for the status that the Gateway API demands.
        """
        closed = Control(kind=ControlKind.CLOSE, method=ANY_METHOD, path=ME)

        assert route.gateway.supports(closed).own_status == 500
