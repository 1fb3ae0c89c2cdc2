"""What a person enters, in the shapes of ``state.values`` and ``actions``; and what Slack refuses.

Slack's clients check required fields, lengths and numbers before the app hears of anything; so do
we, with sentences like theirs.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from bot.errors import BadInput
from bot.sandbox.slack_standin.blockkit import options_of

Json = dict[str, Any]

# The key of each element's value in Slack's JSON, and the key of what it shows at first.
_KEYS = {
    "plain_text_input": ("value", "initial_value"),
    "number_input": ("value", "initial_value"),
    "datepicker": ("selected_date", "initial_date"),
    "timepicker": ("selected_time", "initial_time"),
    "datetimepicker": ("selected_date_time", "initial_date_time"),
    "static_select": ("selected_option", "initial_option"),
    "radio_buttons": ("selected_option", "initial_option"),
    "overflow": ("selected_option", ""),
    "multi_static_select": ("selected_options", "initial_options"),
    "checkboxes": ("selected_options", "initial_options"),
    "users_select": ("selected_user", "initial_user"),
    "multi_users_select": ("selected_users", "initial_users"),
}
_LISTS = ("multi_static_select", "checkboxes", "multi_users_select")


class InvalidValue(BadInput):
    """A person entered what the element does not take. The message is for the person."""


def is_input(element: Json) -> bool:
    """Say whether an element keeps a value (a button does not)."""
    return element["type"] in _KEYS


def initial(element: Json) -> Json:
    """Return the value of an element that nobody has touched."""
    key, initial_key = _KEYS[element["type"]]
    empty: Any = [] if element["type"] in _LISTS else None
    return {"type": element["type"], key: element.get(initial_key, empty)}


def entered(element: Json, given: Any) -> Json:
    """
    Return the value of an element into which a person put ``given``.

    Args:
        given: The text, date (``YYYY-MM-DD``), time (``HH:MM``), seconds since 1970, the
            ``value`` of an option, a user id; a list of them where several can be chosen. None
            empties the element.

    Raises:
        InvalidValue: The element does not take it.
    """
    kind = element["type"]
    key, _ = _KEYS[kind]
    if given is None or given == "" or given == []:
        return {"type": kind, key: [] if kind in _LISTS else None}
    return {"type": kind, key: _ENTER[kind](element, given)}


def is_empty(value: Json) -> bool:
    """Say whether a value of `entered` or `initial` holds nothing."""
    return all(value[key] in (None, "", []) for key in value if key != "type")


def _text(element: Json, given: Any) -> str:
    text = str(given)
    low, high = element.get("min_length", 0), element.get("max_length", 3000)
    if len(text) < low:
        raise InvalidValue(f"Please enter at least {low} characters.")
    if len(text) > high:
        raise InvalidValue(f"Please enter at most {high} characters.")
    return text


def _number(element: Json, given: Any) -> str:
    try:
        number = Decimal(str(given))
    except InvalidOperation:
        raise InvalidValue("Please enter a number.") from None
    if not number.is_finite():
        raise InvalidValue("Please enter a number.")
    if not element["is_decimal_allowed"] and number != number.to_integral_value():
        raise InvalidValue("Please enter a whole number.")
    if "min_value" in element and number < Decimal(element["min_value"]):
        raise InvalidValue(f"Please enter a number of {element['min_value']} or more.")
    if "max_value" in element and number > Decimal(element["max_value"]):
        raise InvalidValue(f"Please enter a number of {element['max_value']} or less.")
    return str(given)


def _date(_element: Json, given: Any) -> str:
    try:
        return date.fromisoformat(str(given)).isoformat()
    except ValueError:
        raise InvalidValue("Please enter a date as YYYY-MM-DD.") from None


def _moment(_element: Json, given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError):
        raise InvalidValue("Please choose a date and a time.") from None


def _option(element: Json, given: Any) -> Json:
    for option in options_of(element):
        if option["value"] == given:
            return option
    raise InvalidValue("Please choose one of the options.")


def _options(element: Json, given: Any) -> list[Json]:
    chosen = [_option(element, each) for each in _several(given)]
    _at_most(element, chosen)
    return chosen


def _users(element: Json, given: Any) -> list[str]:
    users = [str(each) for each in _several(given)]
    _at_most(element, users)
    return users


def _several(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _at_most(element: Json, chosen: list[Any]) -> None:
    most = element.get("max_selected_items")
    if most is not None and len(chosen) > most:
        raise InvalidValue(f"Please choose at most {most}.")


def _as_it_is(_element: Json, given: Any) -> str:
    return str(given)


_ENTER: dict[str, Any] = {
    "plain_text_input": _text,
    "number_input": _number,
    "datepicker": _date,
    "timepicker": _as_it_is,
    "datetimepicker": _moment,
    "static_select": _option,
    "radio_buttons": _option,
    "overflow": _option,
    "multi_static_select": _options,
    "checkboxes": _options,
    "users_select": _as_it_is,
    "multi_users_select": _users,
}
