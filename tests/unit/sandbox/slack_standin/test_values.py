"""What a person enters becomes Slack's shapes, or a sentence that says what is wrong."""

from __future__ import annotations

import pytest

from bot.sandbox.slack_standin import values

OPTIONS = [
    {"text": {"type": "plain_text", "text": label}, "value": label.lower()} for label in ("A", "B")
]
NUMBER = {"type": "number_input", "is_decimal_allowed": False, "min_value": "1", "max_value": "9"}


@pytest.mark.parametrize(
    ("element", "given", "shape"),
    [
        ({"type": "plain_text_input"}, "x", {"value": "x"}),
        ({"type": "plain_text_input"}, "", {"value": None}),
        (NUMBER, 5, {"value": "5"}),
        ({"type": "datepicker"}, "2026-11-23", {"selected_date": "2026-11-23"}),
        ({"type": "datetimepicker"}, "1763900000", {"selected_date_time": 1763900000}),
        ({"type": "static_select", "options": OPTIONS}, "b", {"selected_option": OPTIONS[1]}),
        ({"type": "radio_buttons", "options": OPTIONS}, "a", {"selected_option": OPTIONS[0]}),
        ({"type": "checkboxes", "options": OPTIONS}, ["a", "b"], {"selected_options": OPTIONS}),
        ({"type": "checkboxes", "options": OPTIONS}, [], {"selected_options": []}),
        ({"type": "users_select"}, "U0SAM", {"selected_user": "U0SAM"}),
        ({"type": "multi_users_select"}, ["U0SAM"], {"selected_users": ["U0SAM"]}),
        (
            {"type": "static_select", "option_groups": [{"options": OPTIONS}]},
            "a",
            {"selected_option": OPTIONS[0]},
        ),
    ],
)
def test_entered_values_have_the_shapes_of_slack(element, given, shape):
    """Each element has its own key in state.values."""
    assert values.entered(element, given) == {"type": element["type"], **shape}


@pytest.mark.parametrize(
    ("element", "given"),
    [
        ({"type": "plain_text_input", "max_length": 2}, "abc"),
        (NUMBER, "abc"),
        (NUMBER, "NaN"),
        (NUMBER, 1.5),
        (NUMBER, 0),
        (NUMBER, 10),
        ({"type": "datepicker"}, "23.11.2026"),
        ({"type": "datetimepicker"}, "now"),
        ({"type": "static_select", "options": OPTIONS}, "c"),
        ({"type": "multi_users_select", "max_selected_items": 1}, ["U0SAM", "U0IRIS"]),
    ],
)
def test_what_an_element_does_not_take_is_refused(element, given):
    """Slack's own client would not send it."""
    with pytest.raises(values.InvalidValue, match="Please"):
        values.entered(element, given)


def test_untouched_elements_hold_what_they_show():
    """An initial value counts as entered."""
    shown = values.initial({"type": "plain_text_input", "initial_value": "x"})

    assert shown == {"type": "plain_text_input", "value": "x"}
    assert values.is_empty(values.initial({"type": "checkboxes", "options": OPTIONS}))
