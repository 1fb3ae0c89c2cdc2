"""Jinja's grammar, narrowed: expression text -> our tree.

Jinja's lexer and parser read the text; none of Jinja's compiler or runtime is used. Translating is
the allow-list: a node of Jinja's that is not in ``_KINDS`` is refused, so nothing new in Jinja
becomes possible here by itself.

Rule 1: text, tokens, brackets and depth are bounded *before* anything recursive sees them.
Rule 2: Jinja's nodes know their line only. Its tokens are renumbered so that the "line" of each is
        its offset; that is why every ``lineno`` below is an offset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, NoReturn

from jinja2 import Environment, TemplateSyntaxError
from jinja2 import nodes as jinja
from jinja2.lexer import TokenStream
from jinja2.parser import Parser

from bot.errors import ExpressionInvalid
from bot.language import tree
from bot.language.filters import FILTERS, FUNCTIONS, Signature
from bot.language.hints import MIXED_TEXT, did_you_mean, shortened, which
from bot.language.values import bounded

MAX_LENGTH = 2_000
MAX_TOKENS = 400
MAX_BRACKETS = 12
MAX_PREFIXES = 24
"""Of ``not``, ``else`` and signs: each makes Jinja's parser recurse once."""

MAX_DEPTH = 48
"""Of the tree; a chain of n operators or accesses is n deep."""

NAMES = ("alert", "incident", "inputs", "inventory", "run", "steps")
"""What an expression may read anywhere; a foreach adds its own."""

WORDS = frozenset(
    {"and", "else", "false", "if", "in", "is", "none", "not", "or", "true"}
    | {"nil", "null", "undefined"}
)
"""What has a meaning of its own in an expression, and cannot be a name."""

_ENVIRONMENT = Environment(autoescape=False)  # noqa: S701  # only its lexer is used, nothing renders
_PREFIXES = frozenset({"not", "else", "+", "-"})
_STRING = re.compile(r"""(?:[^\\]|\\[\\'"nt])*""", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")

_Token = tuple[int, str, str]


def read(source: str, more: Collection[str] = ()) -> tree.Node:
    """Return the tree of an expression, given without its braces.

    Args:
        more: Names that may be read besides ``NAMES``.

    Raises:
        ExpressionInvalid: It is not in the language; ``offset`` says where.
    """
    if len(source) > MAX_LENGTH:
        raise ExpressionInvalid(
            f"The expression has {len(source)} characters; at most {MAX_LENGTH} are read. Split it "
            "over several steps or inputs."
        )
    if not source.strip():
        raise ExpressionInvalid("The expression is empty. Write one between the braces.")
    if _SURROGATE.search(source):
        raise ExpressionInvalid("The expression holds half a character (a lone surrogate).")
    tokens = list(_tokens(source))
    _check_tokens(tokens)
    try:
        # The parser is made on nothing and then given the renumbered tokens (rule 2).
        parser = Parser(_ENVIRONMENT, "")
        parser.stream = TokenStream(_ENVIRONMENT.lexer.wrap(tokens), None, None)
        parsed = parser.parse_expression()
        if not parser.stream.eos:
            parser.fail("there is more after its end")
    except TemplateSyntaxError as error:
        raise _unreadable(error, error.lineno) from error
    node = _translate(parsed, 0)
    _check_names(node, {*NAMES, *more})
    return node


def _unreadable(error: TemplateSyntaxError, offset: int) -> ExpressionInvalid:
    reason = shortened(error.message or "", 120).rstrip(".").replace("template", "expression")
    return ExpressionInvalid(f"The expression cannot be read: {reason}.", offset)


def _tokens(source: str) -> Iterator[_Token]:
    """Yield Jinja's raw tokens, each with its offset where Jinja has its line."""
    offset = 0
    try:
        for _, kind, text in _ENVIRONMENT.lexer.tokeniter(source, None, None, "variable"):
            yield offset, kind, text
            offset += len(text)
    except TemplateSyntaxError as error:
        raise _unreadable(error, offset) from error


def _check_tokens(tokens: list[_Token]) -> None:
    """Bound what the recursive parser will see, and refuse what its lexer is too kind about."""
    if len(tokens) > MAX_TOKENS:
        raise ExpressionInvalid(
            f"The expression has over {MAX_TOKENS} parts. Split it over several steps or inputs."
        )
    open_brackets = prefixes = 0
    for offset, kind, text in tokens:
        if kind == "variable_end":
            raise ExpressionInvalid(MIXED_TEXT, offset)
        if kind in ("integer", "float") and not text.isascii():
            raise ExpressionInvalid("Write numbers with the digits 0 to 9.", offset)
        if kind == "string" and not _STRING.fullmatch(text):
            known = r"\\, \', \", \n and \t"
            raise ExpressionInvalid(f"Of the escapes only {known} are known here.", offset)
        open_brackets += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        prefixes += text in _PREFIXES
        if open_brackets > MAX_BRACKETS or prefixes > MAX_PREFIXES:
            _too_deep(offset)


def _too_deep(offset: int) -> NoReturn:
    raise ExpressionInvalid(
        "The expression is nested too deeply. Split it over several steps or inputs.", offset
    )


def _translate(node: jinja.Node, depth: int) -> tree.Node:
    if depth > MAX_DEPTH:
        _too_deep(node.lineno)
    translate = _KINDS.get(type(node))
    if translate is None:
        _refuse(node)
    return translate(node, depth + 1)


def _refuse(node: jinja.Node) -> NoReturn:
    what = _REFUSED.get(type(node), f"{type(node).__name__} is not part of this language")
    raise ExpressionInvalid(f"{what}.", node.lineno)


_REFUSED: dict[type[jinja.Node], str] = {
    jinja.Tuple: "A comma makes a list only in square brackets: write [a, b]",
    jinja.Slice: "Slices are not part of this language; there are the filters first and last",
    jinja.Concat: "'~' is not part of this language; build text with join: ['a', b] | join",
    jinja.Test: "'is' is not part of this language; compare instead: x == none",
    jinja.Pos: "A plus sign in front of a value is not part of this language",
    jinja.Div: "Division is not part of this language; there are +, - and *",
    jinja.FloorDiv: "Division is not part of this language; there are +, - and *",
    jinja.Mod: "'%' is not part of this language; there are +, - and *",
    jinja.Pow: "'**' is not part of this language; there are +, - and *",
}


def _literal(node: jinja.Const, depth: int) -> tree.Node:
    try:
        return tree.Literal(node.lineno, bounded(node.value))
    except ExpressionInvalid as error:
        raise ExpressionInvalid(str(error), node.lineno) from error


def _name(node: jinja.Name, depth: int) -> tree.Node:
    return tree.Name(node.lineno, node.name)


def _check_names(node: tree.Node, names: Collection[str]) -> None:
    """Refuse a name that has no meaning. A tree is at most ``MAX_DEPTH`` deep."""
    for child in tree.children(node):
        _check_names(child, names)
    if not isinstance(node, tree.Name) or node.name in names:
        return
    if node.name in FUNCTIONS:
        hint = f" It is a function: write {node.name}()."
    elif node.name in WORDS:
        hint = " Write none."
    else:
        hint = which(node.name, names)
    raise ExpressionInvalid(f"Nothing is named '{shortened(node.name)}'.{hint}", node.offset)


def _attribute(node: jinja.Getattr, depth: int) -> tree.Node:
    offset = node.lineno + 1  # Jinja's token is the dot
    key = tree.Literal(offset, _plain_key(node.attr, offset))
    return tree.Access(offset, _translate(node.node, depth), key)


def _item(node: jinja.Getitem, depth: int) -> tree.Node:
    key = _translate(node.arg, depth)
    if isinstance(key, tree.Literal):
        if isinstance(key.value, bool | float) or key.value is None:
            raise ExpressionInvalid("Square brackets take text or a whole number.", node.lineno)
        _plain_key(str(key.value), node.lineno)
    return tree.Access(node.lineno, _translate(node.node, depth), key)


def _plain_key(key: str, offset: int) -> str:
    if key.startswith("__"):
        raise ExpressionInvalid(
            f"'{shortened(key)}' begins with two underscores; such names are not read. Values here "
            "are plain data without inner workings.",
            offset,
        )
    return key


_ARITHMETIC: dict[type[jinja.Node], Any] = {jinja.Add: "+", jinja.Sub: "-", jinja.Mul: "*"}


def _arithmetic(node: jinja.BinExpr, depth: int) -> tree.Node:
    left, right = _translate(node.left, depth), _translate(node.right, depth)
    for side in (left, right):
        if isinstance(side, tree.ListOf | tree.MapOf) or (
            isinstance(side, tree.Literal)
            and not (isinstance(side.value, int | float) and not isinstance(side.value, bool))
        ):
            raise ExpressionInvalid(
                f"'{_ARITHMETIC[type(node)]}' takes numbers, moments and durations only. To build "
                "text, use join.",
                side.offset,
            )
    return tree.Arithmetic(node.lineno, _ARITHMETIC[type(node)], left, right)


def _negative(node: jinja.Neg, depth: int) -> tree.Node:
    return tree.Negative(node.lineno, _translate(node.node, depth))


_COMPARATORS: dict[str, tree.Comparator] = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "lteq": "<=",
    "gt": ">",
    "gteq": ">=",
    "in": "in",
    "notin": "not in",
}


def _comparison(node: jinja.Compare, depth: int) -> tree.Node:
    first = _translate(node.expr, depth)
    rest = tuple(
        (_COMPARATORS[operand.op], _translate(operand.expr, depth)) for operand in node.ops
    )
    return tree.Comparison(node.lineno, first, rest)


def _logic(node: jinja.And | jinja.Or, depth: int) -> tree.Node:
    left, right = _translate(node.left, depth), _translate(node.right, depth)
    return tree.Logic(node.lineno, "and" if isinstance(node, jinja.And) else "or", left, right)


def _not(node: jinja.Not, depth: int) -> tree.Node:
    return tree.Not(node.lineno, _translate(node.node, depth))


def _choice(node: jinja.CondExpr, depth: int) -> tree.Node:
    if node.expr2 is None:
        raise ExpressionInvalid("An 'if' needs its else: a if b else c.", node.lineno)
    test, then = _translate(node.test, depth), _translate(node.expr1, depth)
    return tree.Choice(node.lineno, test, then, _translate(node.expr2, depth))


def _list(node: jinja.List, depth: int) -> tree.Node:
    return tree.ListOf(node.lineno, tuple(_translate(item, depth) for item in node.items))


def _map(node: jinja.Dict, depth: int) -> tree.Node:
    entries: dict[str, tree.Node] = {}
    for pair in node.items:
        key = pair.key.value if isinstance(pair.key, jinja.Const) else None
        if not isinstance(key, str) or key in entries:
            raise ExpressionInvalid("Keys here are text in quotes, each once.", pair.lineno)
        entries[_plain_key(key, pair.lineno)] = _translate(pair.value, depth)
    return tree.MapOf(node.lineno, tuple(entries.items()))


def _filter(node: jinja.Filter, depth: int) -> tree.Node:
    signature = FILTERS.get(node.name)
    if signature is None or node.node is None:
        hint = which(node.name, FILTERS)
        raise ExpressionInvalid(f"No filter is named '{shortened(node.name)}'.{hint}", node.lineno)
    target = _translate(node.node, depth)
    return tree.Filter(
        node.lineno, node.name, target, _arguments(node, node.name, signature, depth)
    )


def _call(node: jinja.Call, depth: int) -> tree.Node:
    name = node.node.name if isinstance(node.node, jinja.Name) else None
    signature = FUNCTIONS.get(name or "")
    if name is None or signature is None:
        hint = did_you_mean(name or "", FUNCTIONS)
        if name in FILTERS:
            hint = f" '{name}' is a filter: x | {name}."
        raise ExpressionInvalid(f"Only now() and duration(…) can be called.{hint}", node.lineno)
    return tree.Call(node.lineno, name, _arguments(node, name, signature, depth))


def _arguments(
    node: jinja.Filter | jinja.Call, name: str, signature: Signature, depth: int
) -> tuple[tree.Node, ...]:
    if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
        raise ExpressionInvalid(
            f"'{name}' takes its arguments by place: no names, no stars.", node.lineno
        )
    if not signature.least <= len(node.args) <= signature.most:
        wanted = str(signature.least)
        if signature.most != signature.least:
            wanted += f" to {signature.most}"
        raise ExpressionInvalid(
            f"'{name}' takes {wanted} arguments in its brackets, and got {len(node.args)}.",
            node.lineno,
        )
    return tuple(_translate(argument, depth) for argument in node.args)


_KINDS: dict[type[jinja.Node], Callable[[Any, int], tree.Node]] = {
    jinja.Const: _literal,
    jinja.Name: _name,
    jinja.Getattr: _attribute,
    jinja.Getitem: _item,
    jinja.Add: _arithmetic,
    jinja.Sub: _arithmetic,
    jinja.Mul: _arithmetic,
    jinja.Neg: _negative,
    jinja.Compare: _comparison,
    jinja.And: _logic,
    jinja.Or: _logic,
    jinja.Not: _not,
    jinja.CondExpr: _choice,
    jinja.List: _list,
    jinja.Dict: _map,
    jinja.Filter: _filter,
    jinja.Call: _call,
}
"""The allow-list."""
