"""What each configuration language makes of a patch, as its documentation says it reads it.

Each reader takes the text of a patch and tells what a request gets: ``closed``, ``refused``,
``limited`` or nothing. The paths of requests are as the gateway sees them, once equal spellings are
made one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import yaml

from actions.gateway.handoff import haproxy, nginx


@dataclass(frozen=True)
class Request:
    """``key`` is the name of a key that the gateway has checked, ``sub`` that of a token whose
    signature it has verified; empty without."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = "198.51.100.1"
    key: str = ""
    sub: str = ""

    def decoded(self) -> str:
        return unquote(self.path)

    def comes_from(self, networks: list[str]) -> bool:
        me = ipaddress.ip_address(self.address)
        return any(me in ipaddress.ip_network(network) for network in networks)


# --- Envoy ---------------------------------------------------------------------------------------


class EnvoyReader:
    def __init__(self, text: str) -> None:
        document = yaml.load(text, yaml.CSafeLoader)
        self.routes = document.get("routes", [])
        self.filters = {f["name"].rpartition(".")[2]: f for f in document.get("http_filters", [])}

    def __call__(self, request: Request) -> str:
        for route in self.routes:
            if all(_header(m, request) for m in route["match"]["headers"]):
                assert route["direct_response"]["status"] == 503
                return "closed"
        if "block" in self.filters:
            (policy,) = self.filters["block"]["typed_config"]["rules"]["policies"].values()
            if any(_principal(p, request) for p in policy["principals"]):
                return "refused"
        if "limit" in self.filters:
            config = self.filters["limit"]["typed_config"]
            buckets = [d["entries"][0]["value"] for d in config["descriptors"]]
            for limit in config["rate_limits"]:
                (action,) = limit["actions"]
                value = action["header_value_match"]
                if all(_header(matcher, request) for matcher in value["headers"]):
                    assert value["descriptor_value"] in buckets
                    return "limited"
        return ""


def _header(matcher: Mapping[str, Any], request: Request) -> bool:
    headers = {**request.headers, ":method": request.method, ":path": request.path}
    value = headers.get(matcher["name"])
    regex = matcher["string_match"]["safe_regex"]["regex"]
    if regex.startswith("(?i)"):
        regex = f"(?i:{regex[4:]})"
    if value is None:
        return False  # an absent header matches nothing, inverted or not
    return (re.fullmatch(regex, value) is not None) != matcher.get("invert_match", False)


def _principal(matcher: Mapping[str, Any], request: Request) -> bool:
    match next(iter(matcher.items())):
        case "and_ids", ids:
            return all(_principal(each, request) for each in ids["ids"])
        case "or_ids", ids:
            return any(_principal(each, request) for each in ids["ids"])
        case "not_id", other:
            return not _principal(other, request)
        case "header", header:
            return _header(header, request)
        case "remote_ip", prefix:
            return request.comes_from([f"{prefix['address_prefix']}/{prefix['prefix_len']}"])
        case "sourced_metadata", metadata:
            matcher = metadata["metadata_matcher"]
            assert [part["key"] for part in matcher["path"]] == ["jwt_payload", "sub"]
            return matcher["value"]["string_match"]["exact"] == request.sub
    raise AssertionError(matcher)


# --- HAProxy -------------------------------------------------------------------------------------


def haproxy_words(line: str) -> list[str]:
    """Cut a line into words as section 2.2 of HAProxy's manual says."""
    words, word, state = [], None, ""
    characters = iter(line)
    for character in characters:
        if state == "'":
            state, word = ("", word) if character == "'" else (state, (word or "") + character)
        elif character == "'":
            state, word = "'", word or ""
        elif character == "\\":
            word = (word or "") + next(characters)
        elif character == "#":
            break
        elif character in " \t":
            if word is not None:
                words.append(word)
            word = None
        else:
            assert character != '"'
            word = (word or "") + character
    assert state == "", line
    return [*words, *([word] if word is not None else [])]


class HaproxyReader:
    def __init__(self, text: str) -> None:
        frontend, _, tables = text.partition(haproxy.TABLES)
        self.lines = [words for line in frontend.splitlines() if (words := haproxy_words(line))]
        assert all(len(words) <= 64 for words in self.lines)
        self.tables = re.findall(r"^backend (\S+)$", tables, re.MULTILINE)
        self.acls: dict[str, list[list[str]]] = {}
        for words in self.lines:
            if words[0] == "acl":
                self.acls.setdefault(words[1], []).append(words[2:])

    def __call__(self, request: Request) -> str:
        variables: dict[str, int] = {}
        tracked = ""
        for words in self.lines:
            if words[0] == "acl":
                continue
            assert words[0] == "http-request"
            where = words.index("if")
            action, condition = words[1:where], words[where + 1 :]
            if not self._holds(condition, request, variables, limited=bool(tracked)):
                continue
            if action[0].startswith("set-var("):
                variables[action[0][8:-1]] = int(action[1][4:-1])
            elif action[0] == "track-sc2":
                tracked = action[3]
                assert tracked in self.tables
            elif action[0] == "return":
                return {"503": "closed", "403": "refused", "429": "limited"}[action[2]]
            else:
                assert action == ["sc-inc-gpc0(2)"]
        return ""

    def _holds(
        self, words: list[str], request: Request, variables: Mapping[str, int], *, limited: bool
    ) -> bool:
        text = " ".join(words)
        if "sc_gpc0_rate" in text:
            # As if the rate was always reached.
            return limited and self._holds(words[:1], request, variables, limited=limited)
        holds, wanted = True, True
        rest = iter(words)
        for word in rest:
            name = word.removeprefix("!")
            wanted = not word.startswith("!")
            if name == "{":
                inner = [next(rest) for _ in range(4)]
                assert inner[1:] == ["-m", "found", "}"]
                found = inner[0][4:-1] in variables
            else:
                found = any(_acl(acl, request, variables) for acl in self.acls[name])
            holds = holds and found == wanted
        return holds


def _acl(words: list[str], request: Request, variables: Mapping[str, int]) -> bool:
    sample = words[0]
    if words[1:3] == ["-m", "int"]:
        return variables.get(sample[4:-1]) == int(words[3])
    patterns = words[words.index("--") + 1 :]
    known = {"var(txn.caller_key)": request.key, "var(txn.caller_sub)": request.sub}
    if sample in known:
        return known[sample] in patterns
    if sample == "src":
        return request.comes_from(patterns)
    if sample in ("path", "path,url_dec"):
        path = request.path.partition("?")[0]
        value = unquote(path) if "url_dec" in sample else path
        if words[1:3] == ["-m", "beg"]:
            return value.startswith(tuple(patterns))
        return any(re.search(pattern, value) for pattern in patterns)
    if sample == "method":
        return request.method in patterns
    name = sample.removeprefix("req.hdr(").removesuffix(")")
    values = [v.strip().lower() for v in request.headers.get(name, "").split(",")]
    return any(pattern.lower() in values for pattern in patterns)


# --- nginx ---------------------------------------------------------------------------------------


def nginx_words(text: str) -> list[str]:
    """Cut a configuration into words, ``{``, ``}`` and ``;``, as nginx's reader does. A word that
    stood in quotes begins with a quote."""
    words, position = [], 0
    pattern = re.compile(r'\s+|#[^\n]*|"((?:[^"\\]|\\.)*)"|([{};])|([^\s;{}"][^\s;{}]*)', re.DOTALL)
    while position < len(text):
        match = pattern.match(text, position)
        assert match, text[position : position + 80]
        position = match.end()
        if match[1] is not None:
            words.append('"' + re.sub(r"\\([\"'\\])", r"\1", match[1]))
        elif match[2] or match[3]:
            words.append(match[2] or match[3])
    return words


class NginxReader:
    def __init__(self, text: str) -> None:
        first, _, second = text.partition(nginx.SERVER)
        self.maps: dict[str, tuple[str, list[list[str]]]] = {}
        self.zones: dict[str, str] = {}
        words = iter(nginx_words(first))
        for word in words:
            if word == "limit_req_zone":
                key, zone = next(words), next(words)
                self.zones[zone.removeprefix("zone=").partition(":")[0]] = key
                assert re.fullmatch(r"rate=[1-9][0-9]*r/m", next(words))
                assert next(words) == ";"
                continue
            assert word in ("map", "geo"), word
            source = next(words) if word == "map" else "$remote_addr"
            name = next(words)
            assert next(words) == "{"
            self.maps[name] = (source.removeprefix('"'), list(_rows(words)))
        self.server = nginx_words(second)

    def __call__(self, request: Request) -> str:
        for position, word in enumerate(self.server):
            if word == "if":
                variable, _, value = self.server[position + 1 : position + 4]
                if self._value(variable.removeprefix("("), request) == value.removesuffix(")"):
                    return value.removesuffix(")")
        for position, word in enumerate(self.server):
            if word == "limit_req":
                zone = self.server[position + 1].removeprefix("zone=")
                if self._value(self.zones[zone], request):
                    return "limited"
        return ""

    def _value(self, name: str, request: Request) -> str:
        known = {
            "$request_method": request.method,
            "$uri": request.decoded().partition("?")[0],
            "$request_uri": request.path,
            "$api_client": request.key,
        }
        if name in known:
            return known[name]
        if name.startswith("$http_"):
            return request.headers.get(name[6:].replace("_", "-"), "")
        source, rows = self.maps[name]
        default = ""
        for pattern, value in rows:
            if pattern == "default":
                is_variable = value.startswith("$")
                default = self._value(value, request) if is_variable else value.removeprefix('"')
            elif source == "$remote_addr":
                if request.comes_from([pattern]):
                    return value
            else:
                filled = re.sub(r"\$\w+", lambda m: self._value(m[0], request), source)
                if _matches(pattern.removeprefix('"'), filled):
                    return value
        return default


def _rows(words: Iterator[str]) -> Iterator[list[str]]:
    for word in words:
        if word == "}":
            return
        yield [word, next(words)]
        assert next(words) == ";"


def _matches(pattern: str, text: str) -> bool:
    if pattern.startswith("~*"):
        return re.search(pattern[2:], text, re.IGNORECASE) is not None
    if pattern.startswith("~"):
        return re.search(pattern[1:], text) is not None
    return pattern == text


# --- Kong ----------------------------------------------------------------------------------------


class KongReader:
    """Of its routes only: what plugins do on the operator's own is Kong's."""

    def __init__(self, text: str) -> None:
        self.routes = yaml.load(text, yaml.CSafeLoader).get("routes", [])

    def __call__(self, request: Request) -> str:
        path = request.path.partition("?")[0]
        for route in self.routes:
            (expression,) = route["paths"]
            asked = all(
                request.headers.get(name, "").lower() in [v.lower() for v in values]
                for name, values in route.get("headers", {}).items()
            )
            named = request.method in route.get("methods", [request.method])
            assert expression.startswith("~/")
            if asked and named and re.match(expression[1:], path):
                return "closed"
        return ""


# --- Terraform and AWS WAF -----------------------------------------------------------------------

Block = tuple[str, list[str], list[Any]]
"""Type, labels, and what is in it: blocks, and pairs of a name and a value."""


def read_hcl(text: str) -> list[Block]:
    """Read blocks, attributes, strings, numbers, lists and references."""
    pattern = re.compile(
        r'\s+|#[^\n]*|"((?:[^"\\$%]|\\.|\$\$\{|%%\{|[$%](?!\{))*)"|([{}\[\],=])|([\w.]+)'
    )
    tokens, position = [], 0
    while position < len(text):
        match = pattern.match(text, position)
        assert match, text[position : position + 80]
        position = match.end()
        if match[1] is not None:
            tokens.append(("text", _unquoted(match[1])))
        elif match[2] or match[3]:
            tokens.append(("sign" if match[2] else "word", match[2] or match[3]))
    return list(_blocks(iter(tokens)))


def _unquoted(text: str) -> str:
    escaped = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}

    def plain(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return escaped[match[2]] if match[2] else match[0][1:]

    return re.sub(r"\\[uU]([0-9a-f]{8}|[0-9a-f]{4})|\\(.)|\$\$\{|%%\{", plain, text)


def _blocks(tokens: Iterator[tuple[str, str]]) -> Iterator[Any]:
    for kind, token in tokens:
        if (kind, token) == ("sign", "}"):
            return
        assert kind == "word", token
        labels = []
        for inner_kind, inner in tokens:
            if (inner_kind, inner) == ("sign", "{"):
                yield token, labels, list(_blocks(tokens))
                break
            if (inner_kind, inner) == ("sign", "="):
                yield token, _value(*next(tokens), tokens)
                break
            assert inner_kind == "text"
            labels.append(inner)


def _value(kind: str, token: str, tokens: Iterator[tuple[str, str]]) -> Any:
    if (kind, token) == ("sign", "["):
        values = []
        for inner_kind, inner in tokens:
            if (inner_kind, inner) == ("sign", "]"):
                return values
            if inner_kind == "text":
                values.append(inner)
    if kind == "word" and token.isdigit():
        return int(token)
    return {"true": True, "false": False}.get(token, token) if kind == "word" else token


def attributes(block: Block) -> dict[str, Any]:
    return {item[0]: item[1] for item in block[2] if len(item) == 2}


def inner(block: Block, type_: str | None = None) -> list[Block]:
    return [item for item in block[2] if len(item) == 3 and type_ in (None, item[0])]


class WafReader:
    def __init__(self, text: str) -> None:
        self.blocks = read_hcl(text)
        self.sets = {
            f"{'.'.join(labels)}.arn": attributes((type_, labels, items))["addresses"]
            for type_, labels, items in self.blocks
            if labels[0] == "aws_wafv2_ip_set"
        }
        (self.group,) = (b for b in self.blocks if b[1][0] == "aws_wafv2_rule_group")
        self.rules = sorted(inner(self.group, "rule"), key=lambda r: attributes(r)["priority"])

    def __call__(self, request: Request) -> str:
        labels: set[str] = set()
        for rule in self.rules:
            (statement,) = inner(rule, "statement")
            ((action, _, details),) = inner(inner(rule, "action")[0])
            if not self._holds(inner(statement)[0], request, labels):
                continue
            if action == "count":
                labels |= {attributes(label)["name"] for label in inner(rule, "rule_label")}
                continue
            code = attributes(details[0])["response_code"]
            return {503: "closed", 403: "refused", 429: "limited"}[code]
        return ""

    def _holds(self, block: Block, request: Request, labels: set[str]) -> bool:
        type_, _, _ = block
        nested = [inner(each)[0] for each in inner(block, "statement")]
        match type_:
            case "and_statement":
                assert len(nested) > 1
                return all(self._holds(each, request, labels) for each in nested)
            case "or_statement":
                assert len(nested) > 1
                return any(self._holds(each, request, labels) for each in nested)
            case "not_statement":
                return not self._holds(nested[0], request, labels)
            case "label_match_statement":
                return attributes(block)["key"] in labels
            case "ip_set_reference_statement":
                return request.comes_from(self.sets[attributes(block)["arn"]])
            case "rate_based_statement":
                # As if the limit was always reached.
                (scope,) = inner(block, "scope_down_statement")
                return self._holds(inner(scope)[0], request, labels)
            case "regex_match_statement":
                return _regex_holds(block, request)
        raise AssertionError(type_)


def _regex_holds(block: Block, request: Request) -> bool:
    ((field_, _, of_field),) = inner(inner(block, "field_to_match")[0])
    value: bytes | None
    match field_:
        case "uri_path":
            value = request.path.partition("?")[0].encode()
        case "method":
            value = request.method.encode()
        case _:
            header = request.headers.get(dict(of_field)["name"])
            value = None if header is None else header.encode()
    for transformation in inner(block, "text_transformation"):
        change: Callable[[bytes], bytes] = {
            "NONE": lambda text: text,
            "LOWERCASE": lambda text: text.lower(),
            "URL_DECODE": unquote_to_bytes,
            "NORMALIZE_PATH": lambda text: text,
        }[attributes(transformation)["type"]]
        value = None if value is None else change(value)
    regex = attributes(block)["regex_string"]
    return value is not None and re.search(regex.encode(), value) is not None


READERS: dict[str, Callable[[str], Callable[[Request], str]]] = {
    "envoy": EnvoyReader,
    "haproxy": HaproxyReader,
    "nginx": NginxReader,
    "kong": KongReader,
    "terraform-aws-waf": WafReader,
}
