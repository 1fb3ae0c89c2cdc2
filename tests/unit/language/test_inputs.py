"""Binding inputs and answers, and finding the trigger of an alert."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from bot.errors import BadInput, ExpressionInvalid
from bot.language.expressions import parse
from bot.language.inputs import bind, bind_fields, coerce, match
from bot.language.load import load
from bot.language.runbook import Input, InputType, Runbook
from bot.model.alert import Alert
from bot.model.endpoint import Endpoint
from tests.unit.language.acme_actions import ACTIONS
from tests.unit.language.texts import GOOD

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ORDERS = "GET /api/orders/{order_id}"
ENDPOINTS = {
    endpoint.key: endpoint
    for endpoint in (
        Endpoint(method="GET", path="/api/orders/{order_id}"),
        Endpoint(method="DELETE", path="/api/orders/{order_id}"),
        Endpoint(method="GET", path="/api/orders"),
        Endpoint(method="GET", path="/health"),
    )
}


@pytest.fixture(scope="module")
def runbook() -> Runbook:
    return load(GOOD, "good.yaml", ACTIONS)


def refused(type_: InputType, value: Any, **more: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        coerce(Input("x", type_), value, **more)
    return str(caught.value)


class TestTypes:
    @pytest.mark.parametrize(
        ("type_", "given", "bound"),
        [
            ("string", "x", "x"),
            ("string", "", ""),
            ("string", "{{ 7 * 7 }}", "{{ 7 * 7 }}"),
            ("integer", 5, 5),
            ("integer", "5", 5),
            ("integer", " -5 ", -5),
            ("integer", 5.0, 5),
            ("number", 5, 5),
            ("number", 1.5, 1.5),
            ("number", "1.5", 1.5),
            ("number", "15", 15),
            ("number", "1e3", 1000.0),
            ("boolean", True, True),
            ("boolean", "false", False),
            ("datetime", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
            ("datetime", " 2026-01-01T00:00:00.5Z ", "2026-01-01T00:00:00.500000Z"),
            (
                "datetime",
                datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
                "2026-01-01T00:00:00Z",
            ),
            ("duration", "15m", 900),
            ("duration", 90, 90),
            ("duration", 0.5, 0.5),
            ("endpoint", ORDERS, ORDERS),
        ],
    )
    def test_text_is_understood_for_every_type(self, type_: str, given: Any, bound: Any):
        """
        Chats, command lines and alerts give text; JSON gives the thing itself.
        """
        result = coerce(Input("x", InputType(type_)), given, ENDPOINTS)

        assert result == bound
        assert type(result) is type(bound)

    @pytest.mark.parametrize(
        ("type_", "given", "part"),
        [
            ("string", 5, "5 is not text; put it in quotes."),
            ("string", True, "true is not text"),
            ("string", ["a"], '["a"] is not text'),
            ("string", "x" * 10_001, "longer than 10000"),
            ("string", "\ud800", "half a character"),
            ("integer", "5.5", "'5.5' is not a whole number."),
            ("integer", 5.5, "5.5 is not a whole number."),
            ("integer", True, "true is not a whole number."),
            ("integer", "٣", "is not a whole number."),
            ("integer", "9" * 5000, "is not a whole number."),
            ("integer", 2**53, "is not a whole number."),
            ("number", "x", "'x' is not a number."),
            ("number", float("inf"), "is not a number."),
            ("number", "1e999", "is not a number."),
            ("number", False, "false is not a number."),
            ("boolean", "yes", "'yes' is not true or false."),
            ("boolean", 1, "1 is not true or false."),
            ("datetime", "yesterday", "such as 2026-03-01T12:30:00Z"),
            ("datetime", "2026-01-01T00:00:00", "needs an offset; for UTC write a Z"),
            ("datetime", "2026-01-01", "needs an offset"),
            ("datetime", "0001-01-01T00:00:00+23:00", "between the years 1 and 9999"),
            ("datetime", datetime(2026, 1, 1), "needs an offset"),  # noqa: DTZ001  # the point
            ("datetime", 5, "5 is not a moment"),
            ("duration", "15", "'15' is not a duration"),
            ("duration", "1h30m", "is not a duration"),
            ("duration", "9999999d", "at most ten years"),
            ("duration", -1, "-1 is not a duration"),
            ("duration", True, "true is not a duration"),
            ("endpoint", 5, "5 is not an endpoint"),
        ],
    )
    def test_what_is_not_of_the_type(self, type_: str, given: Any, part: str):
        """
        The message says what was given and what goes there.
        """
        assert part in refused(InputType(type_), given, endpoints=ENDPOINTS)

    @pytest.mark.parametrize(
        ("given", "hint"),
        [
            ("get /api/orders/{order_id}", f"Did you mean '{ORDERS}'?"),
            ("GET /api/orders/{id}", f"Did you mean '{ORDERS}'?"),
            ("GET /api/orders/17", f"Did you mean '{ORDERS}'?"),
            ("GET  /api/orders/17/?x=1", f"Did you mean '{ORDERS}'?"),
            ("GET /api/orders/", "Did you mean 'GET /api/orders'?"),
            ("POST /api/orders/17", f"That path has DELETE /api/orders/{{order_id}}, {ORDERS}."),
            ("GET /api/ordres", "Did you mean 'GET /api/orders'?"),
            ("/health", "Did you mean 'GET /health'?"),
            ("nonsense", "There are DELETE /api/orders/{order_id}, GET /api/orders, "),
            ("GET /api/orders//", "Did you mean 'GET /api/orders'?"),
        ],
    )
    def test_an_endpoint_that_is_not_in_the_inventory(self, given: str, hint: str):
        """
        People write methods in small letters, other parameter names, and concrete paths.
        """
        message = refused(InputType.ENDPOINT, given, endpoints=ENDPOINTS)

        assert "is not in the inventory." in message
        assert hint in message

    def test_an_empty_inventory_is_said(self):
        """
        The remedy is then another one.
        """
        assert "The inventory is empty" in refused(InputType.ENDPOINT, ORDERS, endpoints={})

    @pytest.mark.parametrize("given", ["get /x", "GET x", "GET /a b", "BREW /x", "GET /x?y=1"])
    def test_without_an_inventory_the_form_is_checked(self, given: str):
        """
        Runbooks are checked where no inventory is.
        """
        assert coerce(Input("x", InputType.ENDPOINT), ORDERS) == ORDERS
        assert "A method".lower() in refused(InputType.ENDPOINT, given)

    def test_one_of_listed_values(self):
        """
        ``enum`` is compared after the type is understood.
        """
        declared = Input("x", InputType.INTEGER, enum=(1, 2))

        assert coerce(declared, "2") == 2
        with pytest.raises(ValueError, match="'3' is not one of 1, 2"):
            coerce(declared, "3")


class TestBind:
    def test_values_and_defaults(self, runbook: Runbook):
        """
        Every declared input has a JSON value; computed defaults take the time given.
        """
        assert bind(runbook, {"endpoint": ORDERS}, ENDPOINTS, NOW) == {
            "endpoint": ORDERS,
            "since": "2026-02-28T12:00:00Z",
        }

    def test_null_is_not_given(self, runbook: Runbook):
        """
        A form leaves out what nobody filled in, or sends null.
        """
        bound = bind(runbook, {"endpoint": ORDERS, "since": None}, ENDPOINTS, NOW)

        assert bound["since"] == "2026-02-28T12:00:00Z"

    def test_all_problems_at_once(self, runbook: Runbook):
        """
        One error names every input that is wrong.
        """
        given = {"endpoint": "GET /nope", "since": "soon", "sinse": 1, "other": 2}

        with pytest.raises(BadInput) as caught:
            bind(runbook, given, ENDPOINTS, NOW)

        lines = str(caught.value).splitlines()
        assert lines[0] == "Runbook api1 was not started; mend its inputs and try again."
        assert [line.split(":")[0].strip() for line in lines[1:]] == [
            "sinse",
            "other",
            "endpoint",
            "since",
        ]
        assert caught.value.exit_code == 2

    def test_a_missing_input_says_what_it_is(self, runbook: Runbook):
        """
        With its type, and its first example.
        """
        with pytest.raises(BadInput) as caught:
            bind(runbook, {}, ENDPOINTS, NOW)

        assert f"  endpoint: a value is needed (endpoint, such as {ORDERS})." in str(caught.value)

    def test_a_misspelt_input_is_one_problem(self, runbook: Runbook):
        """
        It is unknown, and so not missing as well.
        """
        with pytest.raises(BadInput) as caught:
            bind(runbook, {"endpiont": ORDERS}, ENDPOINTS, NOW)

        assert str(caught.value).splitlines()[1:] == [
            "  endpiont: no input has this name. Did you mean 'endpoint'?"
        ]

    def test_names_are_listed_when_none_is_near(self, runbook: Runbook):
        """
        So that nobody has to open the file.
        """
        with pytest.raises(
            BadInput, match=r"xyz: no input has this name. There are endpoint, since"
        ):
            bind(runbook, {"endpoint": ORDERS, "xyz": 1}, ENDPOINTS, NOW)

    def test_optional_inputs(self):
        """
        A default of null makes an input that may stay empty.
        """
        fields = {"x": Input("x", InputType.STRING, default=None, has_default=True)}

        assert bind_fields(fields, {}) == {"x": None}

    def test_a_default_that_is_wrong_only_at_the_run(self):
        """
        It is reported like a given value.
        """
        fields = {
            "x": Input("x", InputType.ENDPOINT, default="GET /gone", has_default=True),
            "y": Input("y", InputType.STRING, default=parse("run.id"), has_default=True),
        }

        with pytest.raises(BadInput) as caught:
            bind_fields(fields, {}, ENDPOINTS)

        assert "x: 'GET /gone' is not in the inventory." in str(caught.value)
        assert "y: In {{ run.id }}: 'run' cannot be read here." in str(caught.value)


class TestAnswers:
    def test_answers_are_bound_like_inputs(self, runbook: Runbook):
        """
        Text from a form becomes the declared type.
        """
        manual = runbook.step("fixed").manual
        assert manual is not None

        assert bind_fields(manual.fields, {"version": "1.2", "checks": "3"}) == {
            "version": "1.2",
            "checks": 3,
        }
        assert bind_fields(manual.fields, {"version": "1.2"})["checks"] == 1

    def test_a_wrong_answer(self, runbook: Runbook):
        """
        The message speaks of the answer and its fields.
        """
        manual = runbook.step("fixed").manual
        assert manual is not None

        with pytest.raises(BadInput) as caught:
            bind_fields(manual.fields, {"checks": "many", "verzion": "1"})

        assert str(caught.value).splitlines() == [
            "The answer was not taken; mend its fields and try again.",
            "  verzion: no field has this name. Did you mean 'version'?",
            "  checks: 'many' is not a whole number.",
        ]

    def test_endpoints_in_answers(self):
        """
        With an inventory they must be in it; without one their form is checked.
        """
        fields = {"e": Input("e", InputType.ENDPOINT)}

        assert bind_fields(fields, {"e": "GET /else"}) == {"e": "GET /else"}
        with pytest.raises(BadInput, match="is not in the inventory"):
            bind_fields(fields, {"e": "GET /else"}, ENDPOINTS)


def alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "source": "alertmanager",
        "fingerprint": "f",
        "labels": {"alertname": "CrossOwnerReads", "endpoint": ORDERS},
        "starts_at": datetime(2026, 3, 1, 11, 0, tzinfo=UTC),
    }
    return Alert(**{**values, **changes})


class TestMatch:
    def test_an_alert_sets_off_a_trigger(self, runbook: Runbook):
        """
        The first trigger of its source whose condition holds, with its inputs evaluated.
        """
        matched = match(runbook, alert(), NOW)

        assert matched is not None
        trigger, given = matched
        assert trigger.auto == ("close",)
        assert given == {"endpoint": ORDERS, "since": "2026-03-01T11:00:00Z"}
        assert bind(runbook, given, ENDPOINTS, NOW)["since"] == "2026-03-01T11:00:00Z"

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"source": "grafana"}, id="another-source"),
            pytest.param({"labels": {"alertname": "Other"}}, id="another-alert"),
            pytest.param({"labels": {}}, id="label-missing"),
            pytest.param({"status": "resolved"}, id="resolved"),
        ],
    )
    def test_other_alerts_do_not(self, runbook: Runbook, changes: Any):
        """
        A label that is not there makes a condition that does not hold, not an error.
        """
        assert match(runbook, alert(**changes), NOW) is None

    def test_an_alert_that_matches_but_lacks_an_input(self, runbook: Runbook):
        """
        That is reported: a matching alert must not be passed over in silence.
        """
        with pytest.raises(ExpressionInvalid, match=r"alert\.labels has no 'endpoint'"):
            match(runbook, alert(labels={"alertname": "CrossOwnerReads"}), NOW)

    def test_a_trigger_without_a_condition(self):
        """
        It takes every firing alert of its source.
        """
        text = GOOD.replace("    if: \"{{ alert.labels.alertname == 'CrossOwnerReads' }}\"\n", "")
        runbook = load(text, "x.yaml", ACTIONS)

        assert match(runbook, alert(labels={"endpoint": ORDERS}), NOW) is not None

    def test_texts_of_an_alert_are_data(self, runbook: Runbook):
        """
        What looks like an expression in an alert is never evaluated.
        """
        labels = {"alertname": "CrossOwnerReads", "endpoint": "{{ now() }}"}

        matched = match(runbook, alert(labels=labels), NOW)

        assert matched is not None
        assert matched[1]["endpoint"] == "{{ now() }}"
        with pytest.raises(BadInput, match="not in the inventory"):
            bind(runbook, matched[1], ENDPOINTS, NOW)

    def test_the_second_trigger(self):
        """
        Triggers are tried in order.
        """
        second = """
  - source: alertmanager
    inputs: {endpoint: "{{ alert.labels.endpoint }}"}
steps:
"""
        runbook = load(GOOD.replace("\nsteps:\n", second), "x.yaml", ACTIONS)

        matched = match(runbook, alert(labels={"endpoint": ORDERS}), NOW)

        assert matched is not None
        assert matched[0] is runbook.triggers[1]
        assert matched[1] == {"endpoint": ORDERS}
