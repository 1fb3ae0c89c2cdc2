"""HashiCorp's configuration language, as much of it as blocks of attributes need. Pure.

https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias


@dataclass(frozen=True)
class Reference:
    """Another object's attribute, as it is written: ``aws_wafv2_ip_set.callers.arn``."""

    text: str


Value = str | int | bool | Reference | Sequence[str]
Item: TypeAlias = "tuple[str, Value] | Block"


@dataclass(frozen=True)
class Block:
    """``type "label" { … }``, with attributes (a name and a value) and blocks in it."""

    type: str
    items: Sequence[Item] = ()
    labels: Sequence[str] = ()

    def lines(self, indent: str = "") -> Iterator[str]:
        opening = " ".join([self.type, *map(quoted, self.labels)])
        if not self.items:
            yield f"{indent}{opening} {{}}"
            return
        yield f"{indent}{opening} {{"
        for _, neighbours in groupby(self.items, key=lambda item: isinstance(item, Block)):
            items = list(neighbours)
            # As `terraform fmt` has it: the equals signs of neighbours stand below each other.
            width = max(0 if isinstance(item, Block) else len(item[0]) for item in items)
            for item in items:
                if isinstance(item, Block):
                    yield from item.lines(f"{indent}  ")
                else:
                    yield f"{indent}  {item[0]:<{width}} = {_value(item[1])}"
        yield f"{indent}}}"


def _value(value: Value) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Reference):
        return value.text
    return f"[{', '.join(map(quoted, value))}]"


def quoted(text: str) -> str:
    """Return a string that stands for exactly this text: nothing in it is a template."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("${", "$${").replace("%{", "%%{")
    return '"' + "".join(map(_visible, escaped)) + '"'


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
