"""OpenAPI documents -> endpoints."""

# ruff: noqa: E501  # in the tables below a problem's place and message stand side by side

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.errors import SettingsInvalid
from bot.inventory import load_openapi
from bot.inventory.document import MAX_BYTES, MAX_DEPTH, MAX_NODES
from bot.model.endpoint import Endpoint

ORDERS = """\
openapi: 3.1.0
info: {title: Orders, version: 1.0.0}
x-owner: team-platform
x-data-classification: [internal]
servers: [{url: "https://{host}/{base}/", variables: {host: {default: api.example}, base: {default: shop}}}]
paths:
  x-note: {anything: at all}
  /orders/{order_id}:
    x-owner: team-orders
    parameters:
      - $ref: "#/components/parameters/OrderId"
      - {name: verbose, in: query, example: 1}
    get:
      operationId: getOrder
      summary: Shows an order.
      x-data-classification: [personal, payment, personal]
    delete:
      x-owner: team-deletion
      x-data-classification: []
      parameters: [{name: order_id, in: path, schema: {type: string, default: "a/b ü"}}]
  /orders: {get: {}, post: {x-data-classification: personal}, summary: Orders}
  /users/{user_id}/orders/{order_id}:
    get:
      parameters:
        - {name: user_id, in: path, examples: {first: {$ref: "#/components/examples/User"}}}
        - {name: order_id, in: path, schema: {$ref: "#/components/schemas/Id"}}
  /files/{name}.{format}:
    get: {parameters: [{name: name, in: path, example: a}, {name: format, in: path, example: pdf}]}
  /unknown/{thing}: {get: {parameters: [{name: thing, in: path, schema: {type: string}}]}}
  /bare/{thing}: {get: {parameters: [{name: thing, in: path}]}}
  /shared: {$ref: "#/components/pathItems/Shared"}
components:
  parameters: {OrderId: {name: order_id, in: path, example: 0042}}
  examples: {User: {value: 7}}
  schemas: {Id: {$ref: "#/components/schemas/Number"}, Number: {type: integer, examples: [9, 10]}}
  pathItems: {Shared: {head: {operationId: headShared}}}
"""


@pytest.fixture(autouse=True, params=["CSafeLoader", "SafeLoader"])
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may be built without libyaml: both of its parsers must give the same."""
    monkeypatch.setattr("bot.inventory.document._Loader", getattr(yaml, request.param))


def loaded(text: str) -> dict[str, Endpoint]:
    return load_openapi(text, "openapi.yaml")


def problems_of(text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(SettingsInvalid) as caught:
        loaded(text)
    assert caught.value.exit_code == 2
    return [(each.line, each.column, each.where, each.message) for each in caught.value.problems]


class TestEndpoints:
    def test_every_operation_is_an_endpoint(self):
        """
        Keys are method and path as callers see them: with the server's path in front.
        """
        assert list(loaded(ORDERS)) == [
            "GET /shop/orders/{order_id}",
            "DELETE /shop/orders/{order_id}",
            "GET /shop/orders",
            "POST /shop/orders",
            "GET /shop/users/{user_id}/orders/{order_id}",
            "GET /shop/files/{name}.{format}",
            "GET /shop/unknown/{thing}",
            "GET /shop/bare/{thing}",
            "HEAD /shop/shared",
        ]
        assert all(endpoint.key == key for key, endpoint in loaded(ORDERS).items())

    def test_what_an_operation_says(self):
        """
        Its id and its summary are kept.
        """
        endpoint = loaded(ORDERS)["GET /shop/orders/{order_id}"]

        assert (endpoint.operation_id, endpoint.summary) == ("getOrder", "Shows an order.")

    @pytest.mark.parametrize(
        ("key", "owner", "data"),
        [
            ("GET /shop/orders/{order_id}", "team-orders", ("personal", "payment")),
            ("DELETE /shop/orders/{order_id}", "team-deletion", ()),
            ("GET /shop/orders", "team-platform", ("internal",)),
            ("POST /shop/orders", "team-platform", ("personal",)),
        ],
    )
    def test_the_nearest_level_counts(self, key: str, owner: str, data: tuple[str, ...]):
        """
        Owner and classification are the operation's, else its path's, else the document's.
        """
        endpoint = loaded(ORDERS)[key]

        assert (endpoint.owner, endpoint.data_classification) == (owner, data)

    @pytest.mark.parametrize(
        ("key", "path"),
        [
            ("GET /shop/orders/{order_id}", "/shop/orders/0042"),
            ("DELETE /shop/orders/{order_id}", "/shop/orders/a%2Fb%20%C3%BC"),
            ("GET /shop/orders", "/shop/orders"),
            ("GET /shop/users/{user_id}/orders/{order_id}", "/shop/users/7/orders/9"),
            ("GET /shop/files/{name}.{format}", "/shop/files/a.pdf"),
            ("GET /shop/unknown/{thing}", None),
            ("GET /shop/bare/{thing}", None),
            ("HEAD /shop/shared", "/shop/shared"),
        ],
    )
    def test_example_paths(self, key: str, path: str | None):
        """
        Examples fill the template: the operation's before the path's, a parameter's own before its
        schema's, as they stand in the file and percent-encoded.
        """
        assert loaded(ORDERS)[key].example_path == path

    def test_json_is_read_too(self):
        """
        A document in JSON gives the same, also when it is indented with tabs.
        """
        document = yaml.safe_load(ORDERS.replace("0042", '"0042"'))

        assert loaded(json.dumps(document, indent="\t", ensure_ascii=False)) == loaded(ORDERS)
        assert loaded(json.dumps(document)) == loaded(ORDERS)

    def test_the_sandbox_document(self):
        """
        The document of the sandbox's orders API can be read and gives the demo what it needs.
        """
        file = Path(__file__).parents[3] / "bot" / "sandbox" / "openapi.yaml"

        endpoint = loaded(file.read_text(encoding="utf-8"))["GET /api/orders/{order_id}"]

        assert endpoint.owner
        assert set(endpoint.data_classification) == {"personal", "payment"}
        assert endpoint.example_path
        assert "{" not in endpoint.example_path

    @pytest.mark.parametrize(
        ("servers", "path"),
        [
            ("", "/x"),
            ("servers: []", "/x"),
            ("servers: [{url: /}]", "/x"),
            ("servers: [{url: /v1/}]", "/v1/x"),
            ("servers: [{url: 'https://a.example'}, {url: 'https://b.example/v2'}]", "/x"),
            ("servers: [{url: 'https://a.example/{v}', variables: {v: 5}}]", "/x"),
        ],
    )
    def test_the_first_server_counts(self, servers: str, path: str):
        """
        Its URL may be relative, absent or have variables.
        """
        assert [each.path for each in loaded(minimal(servers)).values()] == [path]

    def test_a_path_may_have_its_own_server(self):
        """
        The nearest level that names servers counts.
        """
        text = minimal("servers: [{url: /v1}]").replace("{get", "{servers: [{url: /v2}], get")

        assert list(loaded(text)) == ["GET /v2/x"]

    def test_values_that_are_empty(self):
        """
        Null stands for nothing.
        """
        text = minimal("x-owner:").replace("{get: {}}", "{get: {summary: , parameters: []}}")

        assert loaded(text) == {"GET /x": Endpoint(method="GET", path="/x", example_path="/x")}


def minimal(more: str = "", paths: str = "{/x: {get: {}}}") -> str:
    return f"openapi: 3.0.3\npaths: {paths}\n{more}\n"


class TestProblems:
    def test_all_problems_at_once(self):
        """
        One round trip: every problem with line, column and path, each once.
        """
        text = """\
openapi: "2.0"
paths:
  orders: {get: {}}
  /a/{x}: {get: {x-owner: [a]}, put: {operationId: {}}}
  /a/{y}: {parameters: {}, get: {}, put: {}}
  /b: {get: [], post: {x-data-classification: [Personal]}}
  /c: {get: {$ref: "#/components/nothing"}, put: {$ref: "other.yaml#/x"}}
"""
        assert problems_of(text) == [
            (1, 10, "openapi", "Only OpenAPI 3.x is read; 'openapi' must say so, such as openapi: 3.1.0."),
            (3, 11, "paths.orders", "A path begins with a slash and has no spaces, '?' or '#'."),
            (4, 27, "paths./a/{x}.get.x-owner", "Here goes text."),
            (4, 52, "paths./a/{x}.put.operationId", "Here goes text."),
            (5, 11, "paths./a/{y}", "It matches the same requests as '/a/{x}'. Keep one."),
            (5, 24, "paths./a/{y}.parameters", "Here goes a list of parameters."),
            (6, 13, "paths./b.get", "Here goes a mapping."),
            (6, 47, "paths./b.post.x-data-classification", "Here goes a list of classes (a-z, 0-9, _ or -), such as [personal]."),
            (7, 20, "paths./c.get", "Nothing is at '#/components/nothing'."),
            (7, 57, "paths./c.put", "'other.yaml#/x': only references within the document (#/…) are followed."),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "line", "part"),
        [
            ("", 1, "The document is empty."),
            ("- a", 1, "An OpenAPI document is a mapping"),
            ("openapi: 3.1.0", 1, "'paths' is missing here."),
            ("paths: {}", 1, "Only OpenAPI 3.x is read"),
            ("openapi: [3]\npaths: {}", 1, "Only OpenAPI 3.x is read"),
            ("openapi: 3.1.0\npaths: []", 2, "Here goes a mapping."),
            ("a: b: c", 1, "neither YAML nor JSON"),
            ("a: '\x07'", 1, "impossible character"),
            ('a: "\\UFFFFFFFF"', 1, "neither YAML nor JSON"),
            ("a: &x 1\nb: *x", 2, "Aliases ('*name') are not read. Use $ref."),
            ("a: 1\n---\nb: 1", 2, "second document"),
            ("a: 1\n? [b]\n: 1", 2, "A key must be text."),
            (minimal("x-owner: 1\nx-owner: 2"), 4, "The key 'x-owner' is here twice."),
            ("[" * 50_000, 1, f"nested over {MAX_DEPTH} deep"),
            ("#" * (MAX_BYTES + 1), 1, "larger than 16 MiB"),
            (minimal("servers: [{url: 'http://['}]"), 3, "is not a URL"),
            (minimal("servers: [x]"), 3, "Here goes a mapping."),
            (minimal("", "{/x: {$ref: '#/paths/~1x'}}"), 1, "goes round in a circle"),
            (minimal("x-data-classification: {a: b}"), 3, "a list of classes"),
            (minimal("x-data-classification: [[a]]"), 3, "a list of classes"),
        ],
    )
    def test_what_is_no_inventory(self, text: str, line: int, part: str):
        """
        Anything else is one problem with a place.
        """
        [(at, _, _, message)] = problems_of(text)

        assert part in message
        assert at == line or "circle" in part

    def test_an_alias_bomb(self):
        """
        Aliases are refused at the first one, so nothing grows.
        """
        bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b]\n"

        assert [line for line, *_ in problems_of(bomb)] == [2]

    def test_too_many_values(self, monkeypatch: pytest.MonkeyPatch):
        """
        A document without end is given up.
        """
        monkeypatch.setattr("bot.inventory.document.MAX_NODES", 100)
        assert MAX_NODES > 100_000

        [(_, _, _, message)] = problems_of("[" + "1," * 200 + "]")

        assert message == "The document has over 100 values."

    def test_escaped_pointers(self):
        """
        ``~1`` and ``~0`` in a reference stand for ``/`` and ``~`` (RFC 6901).
        """
        extra: dict[str, Any] = {"x-a/b~c": {"get": {"summary": "found"}}}
        document = {"openapi": "3.0.0", "paths": {"/x": {"$ref": "#/x-a~1b~0c"}}, **extra}

        assert loaded(json.dumps(document))["GET /x"].summary == "found"
