"""Block Kit, checked on every send: a message that Slack would refuse is refused here.

Three layers, because none finds everything (tried out on 17 mistakes): our JSON Schema
(`blockkit.schema.json`: shapes, choices, lengths, counts), the models of slack_sdk, and the rules
below that join several places. Findings read like Slack's:
``[ERROR] must be less than 76 characters [json-pointer:/blocks/0/elements/0/text/text]``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

MESSAGE_TEXT_MAX = 40_000

Json = dict[str, Any]
Path = tuple[str | int, ...]


def message_findings(blocks: Any) -> list[str]:
    """Return what Slack would say about the blocks of a message; nothing if they are fine."""
    findings = _schema_findings("message_blocks", blocks, ("blocks",))
    if not findings:
        findings = [
            *_joined_findings(blocks, ("blocks",)),
            *_sdk_findings(blocks, ("blocks",)),
        ]
    return findings


def view_findings(view: Any) -> list[str]:
    """Return what Slack would say about a view; nothing if it is fine."""
    findings = _schema_findings("view", view, ("view",))
    if not findings:
        place = ("view", "blocks")
        findings = [
            *_joined_findings(view["blocks"], place),
            *_view_rules(view),
            *_sdk_findings(view["blocks"], place),
        ]
    if not findings:
        findings = list(_sdk_view_findings(view))
    return findings


def metadata_findings(metadata: Any) -> list[str]:
    """Return what is wrong with a message's metadata: ``event_type`` and ``event_payload``."""
    return _schema_findings("metadata", metadata, ("metadata",))


def blocks_text_length(blocks: Sequence[Json]) -> int:
    """Return the characters of all text in blocks, which Slack bounds together."""
    return sum(len(node["text"]) for node in walk(blocks) if isinstance(node.get("text"), str))


def walk(node: Any) -> Iterator[Json]:
    """Yield every object within a JSON value, outer ones first."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def elements_of(block: Json) -> list[tuple[Path, Json]]:
    """Return the interactive elements of a block, each with its place inside the block."""
    if block["type"] == "input":
        return [(("element",), block["element"])]
    if block["type"] == "section" and "accessory" in block:
        accessory = block["accessory"]
        return [] if accessory["type"] == "image" else [(("accessory",), accessory)]
    if block["type"] == "actions":
        return [(("elements", index), each) for index, each in enumerate(block["elements"])]
    return []


# -- layer 1: the schema


@functools.cache
def _validator(definition: str) -> Draft202012Validator:
    schema = json.loads(
        resources.files(__package__).joinpath("blockkit.schema.json").read_text("utf-8")
    )
    return Draft202012Validator({**schema, "$ref": f"#/$defs/{definition}"})


def _schema_findings(definition: str, value: Any, root: Path) -> list[str]:
    # One mistake breaks several rules of the schema; each sentence is said once.
    found: dict[str, None] = {}
    for error in sorted(_validator(definition).iter_errors(value), key=_depth_and_place):
        for path, sentence in _in_slack_words(error):
            found[_finding(sentence, root + path)] = None
    return list(found)


def _depth_and_place(error: ValidationError) -> tuple[int, list[str]]:
    return len(error.absolute_path), [str(part) for part in error.absolute_path]


def _in_slack_words(error: ValidationError) -> Iterable[tuple[Path, str]]:
    path = tuple(error.absolute_path)
    value: Any = error.instance
    limit: Any = error.validator_value
    schema: Any = error.schema
    last = path[-1] if path else None
    match error.validator:
        case "additionalProperties":
            known = schema["properties"]
            return [(path, f"invalid additional property: {k}") for k in value if k not in known]
        case "required":
            return [(path, f"missing required field: {key}") for key in limit if key not in value]
        case "enum" | "const" if last == "type" and path[:-1] and path[-2] in ("text", "title"):
            return [(path[:-1], "failed to match all allowed schemas")]
        case "enum" | "const" if last == "type":
            return [(path, f"unsupported type: {value}")]
        case "enum":
            return [(path, f"value must be one of: {', '.join(map(str, limit))}")]
        case "maxLength":
            return [(path, f"must be less than {limit + 1} characters")]
        case "minLength":
            return [(path, f"must be more than {limit - 1} characters")]
        case "maxItems":
            return [(path, f"no more than {limit} items allowed")]
        case "minItems":
            return [(path, f"no less than {limit} items allowed")]
        case "type":
            return [(path, f"must provide {_a(str(limit))}")]
        case "pattern" if last in ("url", "image_url"):
            return [(path, "invalid url")]
        case _:
            return [(path, "failed to match all allowed schemas")]


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"


# -- layer 2: slack_sdk


def _sdk_findings(blocks: Sequence[Json], root: Path) -> Iterator[str]:
    for index, block in enumerate(blocks):
        try:
            parsed = Block.parse(block)
            if parsed is None:
                yield _finding(f"unsupported type: {block['type']}", (*root, index, "type"))
            else:
                parsed.to_dict()  # validates nested objects too, which validate_json does not
        except (SlackObjectFormationError, TypeError, ValueError) as error:
            yield _finding(str(error), (*root, index))


def _sdk_view_findings(view: Json) -> Iterator[str]:
    try:
        View(**view).to_dict()
    except (SlackObjectFormationError, TypeError, ValueError) as error:
        yield _finding(str(error), ("view",))


# -- layer 3: rules that join several places


def _joined_findings(blocks: Sequence[Json], root: Path) -> Iterator[str]:
    block_ids: set[str] = set()
    focused = 0
    for index, block in enumerate(blocks):
        here = (*root, index)
        block_id = block.get("block_id")
        if block_id in block_ids:
            yield _finding(f"`block_id` {block_id} already exists", (*here, "block_id"))
        if block_id is not None:
            block_ids.add(block_id)
        # Slack wants an action_id to be unique in its block only.
        action_ids: set[str] = set()
        for place, element in elements_of(block):
            action_id = element.get("action_id")
            if action_id in action_ids:
                sentence = f"`action_id` {action_id} already exists"
                yield _finding(sentence, (*here, *place, "action_id"))
            if action_id is not None:
                action_ids.add(action_id)
            focused += bool(element.get("focus_on_load"))
            for finding, inside in _element_rules(element):
                yield _finding(finding, (*here, *place, *inside))
    if focused > 1:
        yield _finding("only one element can have `focus_on_load`", root)


def _view_rules(view: Json) -> Iterator[str]:
    if "submit" not in view and any(block["type"] == "input" for block in view["blocks"]):
        sentence = "`submit` is required when an `input` block is in the `blocks` array"
        yield _finding(sentence, ("view",))


def _element_rules(element: Json) -> Iterator[tuple[str, Path]]:
    options = options_of(element)
    if "initial_option" in element and element["initial_option"] not in options:
        yield "`initial_option` is not one of the `options`", ("initial_option",)
    for index, option in enumerate(element.get("initial_options", ())):
        if option not in options:
            yield "`initial_options` are not all among the `options`", ("initial_options", index)
    for option in options:
        if "url" in option and element["type"] != "overflow":
            yield "`url` is allowed in the options of an overflow menu only", ()
    if not _is_date(element.get("initial_date", "2000-01-01")):
        yield "invalid date", ("initial_date",)
    if element.get("min_length", 0) > element.get("max_length", 3000):
        yield "`min_length` must not exceed `max_length`", ("min_length",)
    low, high = element.get("min_value"), element.get("max_value")
    if low is not None and high is not None and float(low) > float(high):
        yield "`min_value` must not exceed `max_value`", ("min_value",)


def options_of(element: Json) -> list[Json]:
    """Return the options of a select, with those of its groups, or an empty list."""
    groups = element.get("option_groups", ())
    return [*element.get("options", ()), *(option for g in groups for option in g["options"])]


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _finding(sentence: str, path: Path) -> str:
    pointer = "".join(f"/{part}" for part in path)
    return f"[ERROR] {sentence} [json-pointer:{pointer}]"
