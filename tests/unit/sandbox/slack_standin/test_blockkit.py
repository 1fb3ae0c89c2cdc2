"""Block Kit that Slack would refuse is refused, with what is wrong and where."""

from __future__ import annotations

import pytest

from bot.sandbox.slack_standin import blockkit


def text(content="x", kind="plain_text", **more):
    return {"type": kind, "text": content, **more}


def button(**more):
    return {"type": "button", "text": text(), "action_id": "a", **more}


def actions(*elements, **more):
    return {"type": "actions", "elements": list(elements), **more}


def section(content="x", **more):
    return {"type": "section", "text": text(content, "mrkdwn"), **more}


def option(value, **more):
    return {"text": text(value), "value": value, **more}


def field(element, **more):
    return {"type": "input", "label": text("Label"), "element": element, **more}


def select(**more):
    return {"type": "static_select", "options": [option("a"), option("b")], **more}


INVALID = {
    "unknown-block": (
        [{"type": "hero"}],
        "unsupported type: hero [json-pointer:/blocks/0/type]",
    ),
    "unknown-element": (
        [actions({"type": "slider"})],
        "unsupported type: slider [json-pointer:/blocks/0/elements/0/type]",
    ),
    "element-in-the-wrong-place": (
        [actions({"type": "plain_text_input"})],
        "unsupported type: plain_text_input [json-pointer:/blocks/0/elements/0/type]",
    ),
    "unknown-key": (
        [actions(button(disabled=True))],
        "invalid additional property: disabled [json-pointer:/blocks/0/elements/0]",
    ),
    "missing-text": (
        [{"type": "header"}],
        "missing required field: text [json-pointer:/blocks/0]",
    ),
    "markup-in-a-header": (
        [{"type": "header", "text": text("*x*", "mrkdwn")}],
        "failed to match all allowed schemas [json-pointer:/blocks/0/text]",
    ),
    "long-header": (
        [{"type": "header", "text": text("x" * 151)}],
        "must be less than 151 characters [json-pointer:/blocks/0/text/text]",
    ),
    "empty-text": (
        [section("")],
        "must be more than 0 characters [json-pointer:/blocks/0/text/text]",
    ),
    "long-text": (
        [section("x" * 3001)],
        "must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
    ),
    "section-of-nothing": (
        [{"type": "section"}],
        "failed to match all allowed schemas [json-pointer:/blocks/0]",
    ),
    "eleven-fields": (
        [{"type": "section", "fields": [text()] * 11}],
        "no more than 10 items allowed [json-pointer:/blocks/0/fields]",
    ),
    "long-field": (
        [{"type": "section", "fields": [text("x" * 2001)]}],
        "must be less than 2001 characters [json-pointer:/blocks/0/fields/0/text]",
    ),
    "long-button": (
        [actions(button(text=text("x" * 76)))],
        "must be less than 76 characters [json-pointer:/blocks/0/elements/0/text/text]",
    ),
    "markup-in-a-button": (
        [actions(button(text=text("*x*", "mrkdwn")))],
        "failed to match all allowed schemas [json-pointer:/blocks/0/elements/0/text]",
    ),
    "long-value": (
        [actions(button(value="x" * 2001))],
        "must be less than 2001 characters [json-pointer:/blocks/0/elements/0/value]",
    ),
    "unknown-style": (
        [actions(button(style="warning"))],
        "value must be one of: primary, danger [json-pointer:/blocks/0/elements/0/style]",
    ),
    "address-that-is-none": (
        [actions(button(url="javascript:alert(1)"))],
        "invalid url [json-pointer:/blocks/0/elements/0/url]",
    ),
    "same-action-id-in-a-block": (
        [actions(button(), button())],
        "`action_id` a already exists [json-pointer:/blocks/0/elements/1/action_id]",
    ),
    "same-block-id": (
        [section(block_id="b"), section(block_id="b")],
        "`block_id` b already exists [json-pointer:/blocks/1/block_id]",
    ),
    "fifty-one-blocks": (
        [section()] * 51,
        "no more than 50 items allowed [json-pointer:/blocks]",
    ),
    "twenty-six-buttons": (
        [actions(*(button(action_id=str(n)) for n in range(26)))],
        "no more than 25 items allowed [json-pointer:/blocks/0/elements]",
    ),
    "no-buttons": (
        [actions()],
        "no less than 1 items allowed [json-pointer:/blocks/0/elements]",
    ),
    "eleven-in-a-context": (
        [{"type": "context", "elements": [text()] * 11}],
        "no more than 10 items allowed [json-pointer:/blocks/0/elements]",
    ),
    "long-option-value": (
        [actions(select(options=[option("x" * 151, text=text())]))],
        "must be less than 151 characters [json-pointer:/blocks/0/elements/0/options/0/value]",
    ),
    "initial-option-that-is-none": (
        [actions(select(initial_option=option("c")))],
        "`initial_option` is not one of the `options` "
        "[json-pointer:/blocks/0/elements/0/initial_option]",
    ),
    "date-that-is-none": (
        [actions({"type": "datepicker", "initial_date": "2026-02-30"})],
        "invalid date [json-pointer:/blocks/0/elements/0/initial_date]",
    ),
    "confirm-without-question": (
        [actions(button(confirm={"title": text(), "confirm": text(), "deny": text()}))],
        "missing required field: text [json-pointer:/blocks/0/elements/0/confirm]",
    ),
    "image-without-words": (
        [{"type": "image", "image_url": "https://x.example/a.png"}],
        "missing required field: alt_text [json-pointer:/blocks/0]",
    ),
    "text-as-a-string": (
        [{"type": "section", "text": "x"}],
        "must provide an object [json-pointer:/blocks/0/text]",
    ),
    "lengths-upside-down": (
        [field({"type": "plain_text_input", "min_length": 9, "max_length": 3})],
        "`min_length` must not exceed `max_length` [json-pointer:/blocks/0/element/min_length]",
    ),
    "long-block-id": (
        [section(block_id="x" * 256)],
        "must be less than 256 characters [json-pointer:/blocks/0/block_id]",
    ),
}

VIEW = {"type": "modal", "title": text("Run"), "submit": text("Go"), "blocks": [field(select())]}
INVALID_VIEWS = {
    "long-title": (
        {**VIEW, "title": text("x" * 25)},
        "must be less than 25 characters [json-pointer:/view/title/text]",
    ),
    "long-private-metadata": (
        {**VIEW, "private_metadata": "x" * 3001},
        "must be less than 3001 characters [json-pointer:/view/private_metadata]",
    ),
    "no-blocks": (
        {**VIEW, "blocks": []},
        "no less than 1 items allowed [json-pointer:/view/blocks]",
    ),
    "hundred-and-one-blocks": (
        {**VIEW, "blocks": [section()] * 101},
        "no more than 100 items allowed [json-pointer:/view/blocks]",
    ),
    "input-without-submit": (
        {key: value for key, value in VIEW.items() if key != "submit"},
        "`submit` is required when an `input` block is in the `blocks` array [json-pointer:/view]",
    ),
    "same-block-id": (
        {**VIEW, "blocks": [field(select(), block_id="b")] * 2},
        "`block_id` b already exists [json-pointer:/view/blocks/1/block_id]",
    ),
    "unknown-type": (
        {**VIEW, "type": "dialog"},
        "unsupported type: dialog [json-pointer:/view/type]",
    ),
}


@pytest.mark.parametrize(("blocks", "finding"), INVALID.values(), ids=INVALID)
def test_what_slack_refuses_in_a_message_is_found(blocks, finding):
    """Each mistake is found, and the finding points at it."""
    assert f"[ERROR] {finding}" in blockkit.message_findings(blocks)


@pytest.mark.parametrize(("view", "finding"), INVALID_VIEWS.values(), ids=INVALID_VIEWS)
def test_what_slack_refuses_in_a_view_is_found(view, finding):
    """Views have limits of their own, and pointers that begin with /view."""
    assert f"[ERROR] {finding}" in blockkit.view_findings(view)


VALID = {
    "same-action-id-in-two-blocks": [actions(button()), actions(button())],
    "limits-reached": [
        {"type": "header", "text": text("x" * 150)},
        section("x" * 3000),
        {"type": "section", "fields": [text("x" * 2000)] * 10},
        actions(button(text=text("x" * 75), value="x" * 2000, style="danger")),
    ],
    "fifty-blocks": [section()] * 50,
    "every-element": [
        actions(
            button(confirm={"title": text(), "text": text(), "confirm": text(), "deny": text()}),
            select(action_id="b", placeholder=text("Choose")),
            {"type": "datepicker", "action_id": "c", "initial_date": "2026-02-28"},
            {"type": "checkboxes", "action_id": "d", "options": [option("a")]},
            {"type": "radio_buttons", "action_id": "e", "options": [option("a")]},
            {"type": "overflow", "action_id": "f", "options": [option("a")]},
            {"type": "users_select", "action_id": "g"},
            {"type": "multi_users_select", "action_id": "h", "max_selected_items": 2},
        ),
        field({"type": "plain_text_input", "multiline": True}),
        field({"type": "number_input", "is_decimal_allowed": False, "min_value": "0"}),
        section(accessory={"type": "image", "image_url": "https://x.example/a", "alt_text": "a"}),
        {"type": "divider"},
        {"type": "context", "elements": [text("x", "mrkdwn"), text()]},
    ],
    "rich-text": [
        {
            "type": "rich_text",
            "elements": [
                {
                    "type": "rich_text_preformatted",
                    "elements": [{"type": "text", "text": "- a\n+ b", "style": {"bold": True}}],
                },
                {
                    "type": "rich_text_list",
                    "style": "bullet",
                    "elements": [
                        {
                            "type": "rich_text_section",
                            "elements": [{"type": "user", "user_id": "U0SAM"}],
                        }
                    ],
                },
            ],
        }
    ],
    "no-blocks-at-all": [],
}


@pytest.mark.parametrize("blocks", VALID.values(), ids=VALID)
def test_what_slack_takes_is_taken(blocks):
    """A valid message has no findings: the checks do not refuse what works."""
    assert blockkit.message_findings(blocks) == []


def test_one_mistake_is_said_once():
    """A thing that breaks several rules of the schema gives one sentence for each place."""
    findings = blockkit.message_findings([3])

    assert findings == ["[ERROR] must provide an object [json-pointer:/blocks/0]"]


def test_sdk_models_are_asked_too(monkeypatch):
    """What only the models of slack_sdk refuse is refused as well."""
    from slack_sdk.models.blocks import DividerBlock

    monkeypatch.setattr(DividerBlock, "block_id_max_length", 3)

    findings = blockkit.message_findings([{"type": "divider", "block_id": "abcd"}])

    assert len(findings) == 1
    assert "[json-pointer:/blocks/0]" in findings[0]


@pytest.mark.parametrize(
    "metadata",
    [{"event_type": "x"}, {"event_payload": {}}, {"event_type": "x", "event_payload": []}, "x"],
)
def test_metadata_needs_type_and_payload(metadata):
    """Metadata is {event_type, event_payload}."""
    assert blockkit.metadata_findings(metadata)


class TestLimitsOfLength:
    def test_all_text_together(self):
        """The text of all blocks counts together."""
        assert blockkit.blocks_text_length([section("abc"), actions(button(text=text("def")))]) == 6
