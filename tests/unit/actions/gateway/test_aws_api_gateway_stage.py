"""A stage's settings and Firedoor's notes in it, as operations that API Gateway takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from actions.gateway.adapters.aws_api_gateway.stage import Limit, Stage, applied
from actions.gateway.adapters.aws_api_gateway.wanted import Api, wanted_of
from bot.errors import ProviderRefused
from bot.model.containment import ANY_METHOD, Control, ControlKind

KEY = "/api/orders/{id}/GET"
STAGE_WIDE = {
    "throttlingRateLimit": 500.0,
    "throttlingBurstLimit": 100,
    "loggingLevel": "INFO",
    "metricsEnabled": True,
}
OWN = {"throttlingRateLimit": 50.0, "throttlingBurstLimit": 20, "loggingLevel": "ERROR"}
PATH = "~1api~1orders~1{id}/GET"


def stage(**settings: dict[str, Any]) -> Stage:
    named = {"stage": "*/*", "own": PATH}
    found = {named[name]: dict(value) for name, value in settings.items()}
    return Stage({"methodSettings": found, "variables": {"theirs": "kept"}})


def throttle(path: str, method: str = "GET", rate: float = 1.0) -> Control:
    return Control(kind=ControlKind.THROTTLE, method=method, path=path, rate_per_s=rate)


class TestLimits:
    def test_method_without_settings_gets_the_stages(self) -> None:
        """
        A method's own settings stand for all of the stage's, so those are copied with the limit.
        """
        before = stage(stage=STAGE_WIDE)

        (group,) = before.limited({KEY: Limit(2.0, 2)})

        written = {each["path"]: each["value"] for each in group}
        assert written[f"/{PATH}/logging/loglevel"] == "INFO"
        assert written[f"/{PATH}/metrics/enabled"] == "true"
        assert written[f"/{PATH}/throttling/rateLimit"] == "2"
        assert written[f"/{PATH}/throttling/burstLimit"] == "2"

    @pytest.mark.parametrize("settings", [{"stage": STAGE_WIDE}, {"own": OWN}, {}])
    def test_it_is_put_back_as_it_was(self, settings: dict[str, dict[str, Any]]) -> None:
        """
        After the last limit the stage is what it was before the first: whether the method had
        settings of its own, the stage's, or none at all.
        """
        before = stage(**settings)
        limited = applied(before, before.limited({KEY: Limit(2.0, 2)}))
        assert limited.limit(KEY) == Limit(2.0, 2)

        after = applied(limited, limited.limited({}))

        assert after.variables == before.variables
        assert set(after.settings) == set(before.settings)
        assert after.limit(KEY) == before.limit(KEY)

    def test_other_settings_that_came_meanwhile_stay(self) -> None:
        """
        What another hand has set for the method while it was limited outlives the limit.
        """
        before = stage(stage=STAGE_WIDE)
        limited = applied(before, before.limited({KEY: Limit(2.0, 2)}))
        limited.settings[KEY]["loggingLevel"] = "ERROR"

        after = applied(limited, limited.limited({}))

        assert after.settings[KEY]["loggingLevel"] == "ERROR"
        assert after.limit(KEY) == Limit(500.0, 100)

    def test_lower_limit_of_the_operators_stays(self) -> None:
        """
        A containment never lets more through than before.
        """
        before = stage(own=OWN)

        after = applied(before, before.limited({KEY: Limit(80.0, 80)}))

        assert after.limit(KEY) == Limit(50.0, 20)

    def test_variables_are_of_the_form_that_is_taken(self) -> None:
        """
        Names and values of stage variables have the characters that API Gateway allows.
        """
        before = stage(stage=STAGE_WIDE, own=OWN)
        after = applied(before, before.limited({KEY: Limit(0.016667, 1), "/GET": Limit(1e6, 9)}))

        for name, value in after.variables.items():
            assert re.fullmatch(r"[A-Za-z0-9_]+", name)
            assert re.fullmatch(r"[A-Za-z0-9\-._~:/?#&=,]+", value)

    def test_root_has_a_key_too(self) -> None:
        """
        The path of the root is one slash.
        """
        (group,) = stage().limited({"/GET": Limit(1.0, 1)})

        assert group[0]["path"] == "/~1/GET/throttling/rateLimit"


RESOURCES = [
    {"path": "/"},
    {"path": "/orders/{id}", "resourceMethods": {"GET": {}, "DELETE": {}}},
    {"path": "/carts/{cart}", "resourceMethods": {"ANY": {}}},
    {"path": "/rest/{proxy+}", "resourceMethods": {"ANY": {}}},
]
API = Api("edge", RESOURCES, "/api")


class TestMethods:
    def test_names_of_parameters_are_the_apis_own(self) -> None:
        """
        An endpoint of the inventory is found by the form of its path, below the base path.
        """
        limits = API.limits(wanted_of([throttle("/api/orders/{order_id}")]))

        assert limits == {"/orders/{id}/GET": Limit(1.0, 1)}

    def test_route_is_each_of_its_methods(self) -> None:
        """
        A limit on a route is one on each method there is; of ``ANY``, on each that it stands for.
        A method's own limit is the lower of both.
        """
        route = throttle("/api/orders/{x}", ANY_METHOD, 5.0)
        get = throttle("/api/orders/{x}", rate=2.0)

        assert API.limits(wanted_of([route, get])) == {
            "/orders/{id}/GET": Limit(2.0, 2),
            "/orders/{id}/DELETE": Limit(5.0, 5),
        }
        carts = API.limits(wanted_of([throttle("/api/carts/{x}", ANY_METHOD)]))
        assert sorted(key.rpartition("/")[2] for key in carts) == [
            "DELETE",
            "GET",
            "HEAD",
            "OPTIONS",
            "PATCH",
            "POST",
            "PUT",
        ]

    @pytest.mark.parametrize("path", ["/api/rest/{x}", "/api/nothing", "/api"])
    def test_what_the_api_does_not_have_is_refused(self, path: str) -> None:
        """
        What a greedy path serves has no settings of its own: limiting it would limit the rest.
        """
        with pytest.raises(ProviderRefused, match="has no method"):
            API.limits(wanted_of([throttle(path)]))
