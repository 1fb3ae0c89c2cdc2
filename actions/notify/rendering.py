"""Notices from templates. Values are data: none is ever parsed as a template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from actions.notify.cleaning import clean_line, clean_text
from bot.errors import BadInput

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parents[2] / "templates" / "notices"
"""``templates/`` lies beside the packages, in a clone as in an installation."""

DEFAULT = "default"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

SAMPLE: Mapping[str, Any] = MappingProxyType(
    {
        "incident_id": "INC-0",
        "title": "A sample",
        "audience": "sample",
        "data": ["personal"],
        "unknown_data": [],
        "people": 1,
        "records": None,
        "endpoint": None,
        "window": None,
        "evidence": None,
        "message": None,
        "done": [],
    }
)
"""Every name that a template may use, with a value of its kind."""


def render(audience: str, values: Mapping[str, Any], template: str | None = None) -> str:
    """Return the text of a notice.

    Args:
        audience: Its own template (``legal.txt.j2``) is used if there is one, else the default.

        values: As in ``SAMPLE``. Texts are cleaned here.

        template: Name of a template, without ``.txt.j2``, for all audiences.

    Raises:
        BadInput: There is no such template, or it does not render.
    """
    import jinja2

    name = template or (audience if _exists(audience) else DEFAULT)
    if not _exists(name):
        raise BadInput(
            f"There is no notice template {name!r}, so nobody was told; use one of: "
            f"{', '.join(names())}."
        )
    cleaned = {key: _clean(key, value) for key, value in values.items()}
    try:
        text = _environment().get_template(f"{name}.txt.j2").render(cleaned)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        place = f"line {line} of " if line else ""
        raise BadInput(
            f"{place}templates/notices/{name}.txt.j2 does not render ({error}), so nobody was "
            "told; mend the template."
        ) from error
    return clean_text(text, limit=8000) + "\n"


def names() -> tuple[str, ...]:
    """Return the names of all templates."""
    return tuple(sorted(path.name.removesuffix(".txt.j2") for path in TEMPLATES.glob("*.txt.j2")))


def _exists(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and (TEMPLATES / f"{name}.txt.j2").is_file()


def _clean(key: str, value: Any) -> Any:
    match value:
        case str():
            return clean_text(value) if key == "message" else clean_line(value)
        case list() | tuple():
            return [_clean(key, item) for item in value]
        case _:
            return value


@cache
def _environment() -> Environment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # plain text; what sends it escapes for its own markup
        trim_blocks=True,
        lstrip_blocks=True,
    )
