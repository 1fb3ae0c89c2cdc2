"""OpenAPI 3.x -> endpoints, with who owns them and what data they show.

Read are ``paths``, the parameters' examples, and two extensions on the operation, its path or the
whole document (the nearest one counts)::

    x-owner: team-orders
    x-data-classification: [personal, payment]

Everything else in the document is left alone: this is no validator. Only references within the
document (``#/…``) are followed.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from bot.errors import SettingsInvalid
from bot.inventory.document import List, Map, Node, Problems, Scalar, read
from bot.model.endpoint import Endpoint

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
OWNER, CLASSIFICATION = "x-owner", "x-data-classification"
MAX_REFERENCES = 20
"""Followed in a row; more is a circle."""

_PARAMETER = re.compile(r"\{([^{}/]+)\}")
_PATH = re.compile(r"/[^\s?#]*")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_EMPTY = Map(1, 1)


def load_openapi(text: str, file: str) -> dict[str, Endpoint]:
    """Return every operation of an OpenAPI 3.x document in YAML or JSON, by endpoint key.

    A path is as callers see it: with the path of the server's URL in front.

    Args:
        file: Its name, for messages.

    Raises:
        SettingsInvalid: Holds every problem of the document.
    """
    problems = Problems()
    root = read(text, problems)
    endpoints: dict[str, Endpoint] = {}
    if isinstance(root, Map):
        endpoints = _Reader(root, problems).endpoints()
    elif root is not None:
        problems.add(root, "", "An OpenAPI document is a mapping with openapi, info and paths.")
    if problems.found:
        raise SettingsInvalid(file, tuple(dict.fromkeys(problems.found)))
    return endpoints


class _Reader:
    def __init__(self, root: Map, problems: Problems) -> None:
        self._root = root
        self._problems = problems

    def endpoints(self) -> dict[str, Endpoint]:
        self._check_version()
        node = self._root.entries.get("paths")
        if node is None:
            self._problems.add(self._root, "", "'paths' is missing here.")
        paths = self._map(node, "paths")
        endpoints: dict[str, Endpoint] = {}
        shapes: dict[str, str] = {}
        for template, item in paths.entries.items():
            where = f"paths.{template}"
            if template.startswith("x-"):
                continue
            if not _PATH.fullmatch(template):
                message = "A path begins with a slash and has no spaces, '?' or '#'."
                self._problems.add(item, where, message)
                continue
            twin = shapes.setdefault(_PARAMETER.sub("{}", template), template)
            if twin != template:
                message = f"It matches the same requests as '{twin}'. Keep one."
                self._problems.add(item, where, message)
            for endpoint in self._operations(template, self._map(item, where), where):
                endpoints[endpoint.key] = endpoint
        return endpoints

    def _check_version(self) -> None:
        version = self._root.entries.get("openapi")
        text = version.text or "" if isinstance(version, Scalar) else ""
        if not re.fullmatch(r"3\.\d+(\.\d+)?", text):
            message = "Only OpenAPI 3.x is read; 'openapi' must say so, such as openapi: 3.1.0."
            self._problems.add(version or self._root, "openapi", message)

    def _operations(self, template: str, item: Map, where: str) -> list[Endpoint]:
        found: list[Endpoint] = []
        for method in METHODS:
            node = item.entries.get(method)
            if node is None:
                continue
            here = f"{where}.{method}"
            operation = self._map(node, here)
            levels = ((operation, here), (item, where), (self._root, ""))
            prefix = self._prefix(levels)
            example = self._example_path(template, levels)
            found.append(
                Endpoint(
                    method=method.upper(),
                    path=prefix + template,
                    operation_id=self._text(operation, "operationId", here),
                    summary=self._text(operation, "summary", here) or "",
                    owner=self._owner(levels),
                    data_classification=self._classification(levels),
                    example_path=None if example is None else prefix + example,
                )
            )
        return found

    # --- what is said at several levels, of which the nearest counts ---------------------------

    def _owner(self, levels: tuple[tuple[Map, str], ...]) -> str | None:
        for level, where in levels:
            if OWNER in level.entries:
                return self._text(level, OWNER, where)
        return None

    def _classification(self, levels: tuple[tuple[Map, str], ...]) -> tuple[str, ...]:
        for level, where in levels:
            node = level.entries.get(CLASSIFICATION)
            if node is None:
                continue
            items = node.items if isinstance(node, List) else [node]
            path = f"{where}.{CLASSIFICATION}".lstrip(".")
            words = [item.text for item in items if isinstance(item, Scalar) and item.text]
            if len(words) != len(items) or not all(map(_WORD.fullmatch, words)):
                message = "Here goes a list of classes (a-z, 0-9, _ or -), such as [personal]."
                self._problems.add(node, path, message)
            return tuple(dict.fromkeys(words))
        return ()

    def _prefix(self, levels: tuple[tuple[Map, str], ...]) -> str:
        """Return the path of the first server's URL, without a slash at its end."""
        for level, where in levels:
            servers = level.entries.get("servers")
            if not isinstance(servers, List) or not servers.items:
                continue
            server = self._map(servers.items[0], f"{where}.servers[0]".lstrip("."))
            url = self._text(server, "url", where) or ""
            variables = server.entries.get("variables")
            for name, body in (variables.entries if isinstance(variables, Map) else {}).items():
                default = body.entries.get("default") if isinstance(body, Map) else None
                value = default.text if isinstance(default, Scalar) else None
                url = url.replace("{" + name + "}", value or "")
            try:
                return urlsplit(url).path.rstrip("/")
            except ValueError:
                self._problems.add(server, where, f"'{url[:60]}' is not a URL.")
        return ""

    # --- examples ------------------------------------------------------------------------------

    def _example_path(self, template: str, levels: tuple[tuple[Map, str], ...]) -> str | None:
        """Return the template with its parameters' examples in place, or None if one has none."""
        examples: dict[str, str] = {}
        for level, where in reversed(levels[:2]):
            node = level.entries.get("parameters")
            if node is not None and not isinstance(node, List):
                self._problems.add(node, f"{where}.parameters", "Here goes a list of parameters.")
                continue
            for index, each in enumerate(node.items if node else ()):
                parameter = self._map(each, f"{where}.parameters[{index}]")
                place, name = parameter.entries.get("in"), parameter.entries.get("name")
                if _text_of(place) == "path" and (key := _text_of(name)):
                    examples.pop(key, None)
                    example = self._example(parameter)
                    if example:
                        examples[key] = quote(example, safe="")
        names = _PARAMETER.findall(template)
        if not all(name in examples for name in names):
            return None
        return _PARAMETER.sub(lambda found: examples[found[1]], template)

    def _example(self, parameter: Map) -> str | None:
        """Return a parameter's example: its own, the first of several, or its schema's."""
        schema = self._follow(parameter.entries.get("schema"))
        for holder in (parameter, schema):
            if not isinstance(holder, Map):
                continue
            several = holder.entries.get("examples")
            if isinstance(several, Map):  # a parameter's: by name, each with its value
                first = self._follow(next(iter(several.entries.values()), None))
                several = first.entries.get("value") if isinstance(first, Map) else None
            elif isinstance(several, List):  # a schema's
                several = several.items[0] if several.items else None
            for node in (holder.entries.get("example"), several, holder.entries.get("default")):
                text = _text_of(node)
                if text:
                    return text
        return None

    # --- nodes ---------------------------------------------------------------------------------

    def _map(self, node: Node | None, where: str) -> Map:
        """Return a mapping, following references; an empty one after reporting anything else."""
        target = self._follow(node, where)
        if isinstance(target, Map):
            return target
        if target is not None:
            self._problems.add(target, where, "Here goes a mapping.")
        return _EMPTY

    def _follow(self, node: Node | None, where: str = "") -> Node | None:
        for _ in range(MAX_REFERENCES):
            reference = node.entries.get("$ref") if isinstance(node, Map) else None
            if not isinstance(reference, Scalar):
                return node
            node = self._resolve(reference, where)
        self._problems.add(node, where, "Its $ref goes round in a circle.")
        return None

    def _resolve(self, reference: Scalar, where: str) -> Node | None:
        """Follow a JSON pointer (RFC 6901) within the document."""
        pointer = reference.text or ""
        if not pointer.startswith("#/"):
            message = f"'{pointer[:80]}': only references within the document (#/…) are followed."
            self._problems.add(reference, where, message)
            return None
        node: Node | None = self._root
        for part in pointer[2:].split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            node = node.entries.get(key) if isinstance(node, Map) else None
        if node is None:
            self._problems.add(reference, where, f"Nothing is at '{pointer[:80]}'.")
        return node

    def _text(self, node: Map, key: str, where: str) -> str | None:
        value = node.entries.get(key)
        if value is None or isinstance(value, Scalar):
            return _text_of(value)
        self._problems.add(value, f"{where}.{key}".lstrip("."), "Here goes text.")
        return None


def _text_of(node: Node | None) -> str | None:
    return node.text if isinstance(node, Scalar) else None
