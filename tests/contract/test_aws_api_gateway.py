"""Amazon API Gateway beyond the contract of all gateways: its API keys, on moto.

moto passes no traffic, so nothing here proves that anything is contained.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from actions.gateway.adapters.aws_api_gateway import adapter
from bot.action import Writing
from bot.errors import LeaseLost, ProviderRefused
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from tests.gateways.standins.aws_api_gateway import STAGE, AwsApi

ROOT = Path(__file__).resolve().parents[2]
ORDER = "/api/orders/{order_id}"
ME = "/api/customers/me"


def block(name: str, path: str = ORDER) -> Control:
    key = Principal(kind=PrincipalKind.API_KEY, value=name)
    return Control(kind=ControlKind.BLOCK, method="GET", path=path, principals=(key,))


def throttle(path: str, method: str = "GET") -> Control:
    return Control(kind=ControlKind.THROTTLE, method=method, path=path, rate_per_s=1.0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsApi]:
    api = AwsApi(tmp_path_factory.mktemp("api"))
    yield api
    api.close()


@pytest.fixture
def api(running: AwsApi) -> Iterator[AwsApi]:
    """A stage with no control in force."""
    running.gateway.converge(())
    running.server.calls.clear()
    yield running
    running.accept()


class TestKeys:
    def test_blocked_key_is_disabled_and_comes_back(self, api: AwsApi) -> None:
        """
        A block disables the key of that name and no other, and its end enables it again; all is
        then as it was.
        """
        before = api.export()

        version = api.gateway.converge([block("partner-7"), throttle(ME)])

        assert (api.is_enabled("partner-7"), api.is_enabled("partner-8")) == (False, True)
        assert api.gateway.observe() == version
        api.gateway.converge(())
        assert api.export() == before

    def test_key_that_was_disabled_already_stays_so(self, api: AwsApi) -> None:
        """
        The end of a containment opens nothing that was not open before it.
        """
        api.gateway.converge([block("retired")])

        api.gateway.converge(())

        assert not api.is_enabled("retired")

    def test_key_that_another_hand_enables_is_drift(self, api: AwsApi) -> None:
        """
        It is seen, disabled again, and told.
        """
        version = api.gateway.converge([block("partner-7")])
        api.api.update_api_key(
            apiKey=api.keys["partner-7"],
            patchOperations=[{"op": "replace", "path": "/enabled", "value": "true"}],
        )
        assert api.gateway.observe() == f"{version}, edited"
        told = list[str]()

        api.gateway.converge([block("partner-7")], Writing(displaced=told.append))

        assert not api.is_enabled("partner-7")
        assert len(told) == 1

    def test_interrupted_change_is_finished(self, api: AwsApi) -> None:
        """
        Who comes after a process that was cut off between stage and key finds what it was at, and
        what the key was before.
        """
        calls = list[None]()

        def lost_later() -> None:
            calls.append(None)
            if len(calls) > 1:
                raise LeaseLost("Another worker drives the run.")

        with pytest.raises(LeaseLost):
            api.gateway.converge([block("partner-7")], Writing(begin=lost_later))
        assert api.is_enabled("partner-7")
        assert api.adapter().observe().endswith("unfinished")
        told = list[str]()

        api.adapter().converge([block("partner-7")], Writing(displaced=told.append))

        assert not api.is_enabled("partner-7")
        assert told == []
        api.gateway.converge(())
        assert api.is_enabled("partner-7")

    def test_method_that_asks_for_no_key_is_refused(self, api: AwsApi) -> None:
        """
        Where no key is needed, disabling one keeps nobody out.
        """
        written = api.server.writes

        with pytest.raises(ProviderRefused, match="without an API key"):
            api.gateway.converge([block("partner-7", ME)])

        assert api.server.writes == written

    def test_name_must_be_one_keys(self, api: AwsApi) -> None:
        """
        Neither an unknown name nor the beginning of one is taken for a key.
        """
        with pytest.raises(ProviderRefused, match="0 API keys"):
            api.gateway.converge([block("partner")])

    def test_whoever_approves_it_reads_how_wide_it_is(self, api: AwsApi) -> None:
        """
        The plan names one endpoint; a key that is switched off is refused everywhere.
        """
        assert "every endpoint of every API" in api.gateway.supports(block("partner-7")).wider
        assert api.gateway.supports(throttle(ORDER)).wider == ""

    def test_operator_must_allow_it(self, api: AwsApi) -> None:
        """
        A key is disabled as a whole, so it is declared unsupported unless the settings say so.
        """
        support = api.adapter(disable_api_keys=False).supports(block("partner-7"))

        assert not support.ok
        assert support.nearest is ControlKind.THROTTLE


class TestSupports:
    def test_what_needs_a_deployment_is_declared(self, api: AwsApi) -> None:
        """
        A close would ship what others have not deployed yet.
        """
        support = api.gateway.supports(Control(kind=ControlKind.CLOSE, method="GET", path=ORDER))

        assert not support.ok
        assert "deployment" in support.why

    def test_its_limit_is_best_effort_and_answers_itself(self, api: AwsApi) -> None:
        """
        The proof from outside looks for API Gateway's own 429.
        """
        support = api.gateway.supports(throttle(ORDER))

        assert (support.ok, support.best_effort, support.own_status) == (True, True, 429)


class TestManyMethods:
    def test_more_than_one_call_takes_is_done_in_several(
        self, api: AwsApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A change of more operations than a call takes is split by method, and undone exactly.
        """
        monkeypatch.setattr(adapter, "MAX_OPERATIONS", 30)
        before = api.export()

        version = api.gateway.converge([throttle("/api/carts/{x}", "*"), throttle(ORDER)])

        assert api.gateway.observe() == version
        settings = api.stage()["methodSettings"]
        assert settings["~1api~1carts~1{cart}/PUT"]["throttlingRateLimit"] == 1.0
        patches = [call for call in api.server.calls if call.startswith("apigateway:PATCH")]
        assert len(patches) > 1
        api.gateway.converge(())
        assert api.export() == before


class TestRights:
    def test_the_policy_grants_what_is_called(self, api: AwsApi) -> None:
        """
        The example policy grants each call that is made, on its own resource, and no other.
        """
        api.gateway.converge([block("partner-7"), throttle(ME)])
        api.gateway.converge(())
        policy = json.loads((ROOT / "deploy/gateways/iam-policy-api-gateway.json").read_text())
        granted = set()
        for statement in policy["Statement"]:
            actions = statement["Action"]
            path = statement["Resource"].rpartition("::")[2]
            path = path.replace("a1b2c3d4e5", api.api_id).replace("prod", STAGE)
            for action in [actions] if isinstance(actions, str) else actions:
                granted.add(f"{action} {path}")
        called = {call for call in api.server.calls if call.startswith("apigateway:")}

        used = {
            pattern for pattern in granted for call in called if fnmatch.fnmatchcase(call, pattern)
        }
        unmatched = [c for c in called if not any(fnmatch.fnmatchcase(c, p) for p in granted)]

        assert unmatched == []
        assert used == granted
