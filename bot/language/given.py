"""Checks what is given to the inputs of a runbook: by a trigger, or by a step that calls it."""

from __future__ import annotations

from collections.abc import Mapping

from bot.language.fields import Section
from bot.language.inputs import coerce
from bot.language.runbook import Input
from bot.language.yaml_source import Broken, Scalar, plain


def check_given(given: Section | None, inputs: Mapping[str, Input | None]) -> list[str]:
    """Report literal values that their inputs do not take.

    Returns:
        The inputs that must be given and are not.
    """
    lacking: list[str] = []
    for name, declared in inputs.items():
        entry = given.entry(name) if given else None
        if given is None or entry is None:
            if declared is not None and not declared.has_default:
                lacking.append(name)
            continue
        node = entry.value
        is_expression = isinstance(node, Scalar) and "{{" in node.raw
        if declared is None or is_expression or isinstance(node, Broken):
            continue
        try:
            coerce(declared, plain(node))
        except ValueError as error:
            given.reading.add(node.mark, given.path(name), str(error))
    return lacking
