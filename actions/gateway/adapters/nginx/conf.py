"""Text of an nginx configuration: quoting, and blocks that define variables. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quoted(text: str) -> str:
    """Return one parameter of a directive that stands for a text, whatever is in it.

    Inside quotes nginx takes a backslash only before a quote, a backslash, ``t``, ``r`` and ``n``;
    with every backslash doubled none of these can come about by chance. Where a directive knows
    variables, a dollar sign in the text still begins one.
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def exactly(text: str) -> str:
    r"""Return a key of a ``map`` block for exactly this text.

    A plain key would do for it in upper case too: nginx matches those "ignoring the case"
    (https://nginx.org/en/docs/http/ngx_http_map_module.html). And ``$`` would let one more line
    feed pass; ``\z`` is the very end.
    """
    return quoted(rf"~^{re.escape(text)}\z")


class Definitions:
    """Definitions of variables, in the order of their making. The same name is defined once."""

    def __init__(self) -> None:
        self._blocks: dict[str, str] = {}

    def map(
        self, name: str, source: str, entries: Iterable[tuple[str, str]], default: str = ""
    ) -> str:
        """
        Define a variable by a ``map`` block; return its name with the dollar sign.

        Args:
            source: What is looked up; it may hold variables.

            entries: Keys, ready to be written, and the values, which may hold variables. The first
                regular expression that matches is taken.
        """
        lines = [f"default {quoted(default)};"]
        lines += [f"{key} {quoted(value)};" for key, value in entries]
        return self._define("map", f"{quoted(source)} ${name}", name, lines)

    def constant(self, name: str, value: str) -> str:
        """Define a variable that is always the same; or that others' values make up."""
        return self.map(name, "", (), value)

    def geo(self, name: str, networks: Iterable[str]) -> str:
        """Define a variable that is 1 for callers in one of some networks, else 0."""
        lines = ["default 0;", *(f"{network} 1;" for network in networks)]
        return self._define("geo", f"${name}", name, lines)

    def __str__(self) -> str:
        return "\n".join(self._blocks.values())

    def _define(self, kind: str, head: str, name: str, lines: list[str]) -> str:
        body = "".join(f"    {line}\n" for line in lines)
        self._blocks.setdefault(name, f"{kind} {head} {{\n{body}}}\n")
        return f"${name}"
