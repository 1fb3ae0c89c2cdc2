r"""Slack's mrkdwn, parsed into runs: what a person sees, and whether a text does more than show.

Slack treats three characters as its own: ``&``, ``<`` and ``>``. Whoever sends text of others
must write them as ``&amp;``, ``&lt;`` and ``&gt;``; what stays between raw angle brackets is a
command (``<!channel>`` calls everybody, ``<@U…>`` calls one person, ``<url|text>`` shows a text
that may lie about the address). ``verbatim`` switches off the automatic links only, never these.

A run is a JSON object with ``kind``; the page builds one DOM node for it and puts text only where
text belongs. Kinds: ``text``, ``bold``, ``italic``, ``strike``, ``code``, ``pre``, ``quote``
(these six hold ``runs``), ``link`` (``url``, ``text``, ``host``), ``user``, ``channel``,
``group``, ``broadcast`` (``id`` or ``range``), ``date`` and ``emoji``.

Two choices where Slack's clients differ or say nothing: commands work inside code too, which is
the worst case for the sender; and text is otherwise shown as Slack's desktop client shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

Run = dict[str, Any]

# Private-use characters that stand for a parsed command while its surroundings are parsed.
_OPEN, _CLOSE = "\ue000", "\ue001"
_COMMAND = re.compile(r"<([^<>\n]+)>")
_PLACEHOLDER = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_FENCE = re.compile(r"```\n?(.+?)\n?```", re.DOTALL)
_NOT_IN_ADDRESS = rf"\s<>|`*~{_OPEN}{_CLOSE}"
_AUTOLINK = re.compile(rf"https?://[^{_NOT_IN_ADDRESS}]*[^{_NOT_IN_ADDRESS}.,;:!?)]")
_EMOJI = re.compile(r":([a-z0-9_+-]+):")
_SPANS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("code", re.compile(r"`([^`\n]+)`")),
    ("bold", re.compile(r"(?<![\w*])\*(?=\S)([^*\n]*?\S)\*(?![\w*])")),
    ("italic", re.compile(r"(?<![\w_])_(?=\S)([^_\n]*?\S)_(?![\w_])")),
    ("strike", re.compile(r"(?<![\w~])~(?=\S)([^~\n]*?\S)~(?![\w~])")),
)
_EMOJIS = {
    "+1": "👍",
    "alarm_clock": "⏰",
    "arrow_right": "➡️",
    "arrows_counterclockwise": "🔄",
    "bar_chart": "📊",
    "bell": "🔔",
    "closed_lock_with_key": "🔐",
    "eyes": "👀",
    "fire": "🔥",
    "hourglass": "⌛",
    "hourglass_flowing_sand": "⏳",
    "key": "🔑",
    "large_green_circle": "🟢",
    "large_orange_circle": "🟠",
    "large_yellow_circle": "🟡",
    "lock": "🔒",
    "mag": "🔍",
    "no_entry": "⛔",
    "octagonal_sign": "🛑",
    "page_facing_up": "📄",
    "pushpin": "📌",
    "red_circle": "🔴",
    "rotating_light": "🚨",
    "shield": "🛡️",
    "unlock": "🔓",
    "warning": "⚠️",
    "white_check_mark": "✅",
    "x": "❌",
}


def parse(text: str, *, verbatim: bool = False) -> list[Run]:
    """Return the runs of a mrkdwn text. ``verbatim``: bare addresses do not become links."""
    return _Parser(verbatim).parse(text)


def plain(text: str) -> list[Run]:
    """
    Return the runs of a plain_text: emoji by name, and nothing else.

    Entities stay as they are. (Whether Slack's clients would decode ``&amp;`` here is not verified;
    shown as it is, a text that was escaped for the wrong kind is seen at once.)
    """
    return _split(
        _EMOJI, text, _emoji, lambda rest: [{"kind": "text", "text": rest}] if rest else []
    )


def escape(text: str) -> str:
    """Return text as Slack hands on what a person typed: ``&``, ``<`` and ``>`` are escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    """Return the characters that an escaped text stands for. Once only: ``&amp;lt;`` → ``&lt;``."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class _Parser:
    def __init__(self, verbatim: bool) -> None:
        self._verbatim = verbatim
        self._commands: list[Run] = []

    def parse(self, text: str) -> list[Run]:
        clean = text.replace(_OPEN, "\ufffd").replace(_CLOSE, "\ufffd")
        return self._fences(_COMMAND.sub(self._keep_command, clean))

    def _keep_command(self, match: re.Match[str]) -> str:
        run = _command(match[1])
        if run is None:
            return match[0]
        self._commands.append(run)
        return f"{_OPEN}{len(self._commands) - 1}{_CLOSE}"

    def _fences(self, text: str) -> list[Run]:
        return _split(
            _FENCE,
            text,
            lambda match: {"kind": "pre", "runs": self._leaves(match[1], plain=True)},
            self._quotes,
        )

    def _quotes(self, text: str) -> list[Run]:
        runs: list[Run] = []
        quoted: list[str] = []
        others: list[str] = []

        def flush() -> None:
            if quoted:
                runs.append({"kind": "quote", "runs": self._spans("\n".join(quoted))})
            if others:
                runs.extend(self._spans("\n".join(others)))
            quoted.clear()
            others.clear()

        for line in text.split("\n"):
            mark = next((mark for mark in ("&gt;", ">") if line.startswith(mark)), None)
            if (others and mark) or (quoted and mark is None):
                flush()
            if mark is None:
                others.append(line)
            else:
                quoted.append(line.removeprefix(mark).lstrip(" "))
        flush()
        return runs

    def _spans(self, text: str, level: int = 0) -> list[Run]:
        if level == len(_SPANS):
            return self._leaves(text)
        kind, pattern = _SPANS[level]

        def span(match: re.Match[str]) -> Run:
            inner = (
                self._leaves(match[1], plain=True)
                if kind == "code"
                else self._spans(match[1], level + 1)
            )
            return {"kind": kind, "runs": inner}

        return _split(pattern, text, span, lambda rest: self._spans(rest, level + 1))

    def _leaves(self, text: str, *, plain: bool = False) -> list[Run]:
        """``plain``: inside code, where neither emoji nor bare addresses are looked for."""

        def words(rest: str) -> list[Run]:
            return [{"kind": "text", "text": unescape(rest)}]

        def emojis(rest: str) -> list[Run]:
            return words(rest) if plain else _split(_EMOJI, rest, _emoji, words)

        def addresses(rest: str) -> list[Run]:
            if plain or self._verbatim:
                return emojis(rest)
            return _split(_AUTOLINK, rest, lambda match: _link(match[0], match[0]), emojis)

        return _split(_PLACEHOLDER, text, lambda match: self._commands[int(match[1])], addresses)


def _split(
    pattern: re.Pattern[str],
    text: str,
    found: Callable[[re.Match[str]], Run],
    between: Callable[[str], list[Run]],
) -> list[Run]:
    runs: list[Run] = []
    end = 0
    for match in pattern.finditer(text):
        if match.start() > end:
            runs.extend(between(text[end : match.start()]))
        runs.append(found(match))
        end = match.end()
    if end < len(text):
        runs.extend(between(text[end:]))
    return _joined(runs)


def _joined(runs: list[Run]) -> list[Run]:
    """Return runs with neighbouring texts made one."""
    joined: list[Run] = []
    for run in runs:
        if run["kind"] == "text" and joined and joined[-1]["kind"] == "text":
            joined[-1] = {"kind": "text", "text": joined[-1]["text"] + run["text"]}
        else:
            joined.append(run)
    return joined


def _command(inner: str) -> Run | None:
    """Return the run of what stands between angle brackets, or None if Slack shows it as it is."""
    target, _, label = inner.partition("|")
    match target[:1]:
        case "@" if re.fullmatch(r"[UW][A-Z0-9]+", target[1:]):
            return {"kind": "user", "id": target[1:], "text": unescape(label)}
        case "#" if re.fullmatch(r"[CG][A-Z0-9]+", target[1:]):
            return {"kind": "channel", "id": target[1:], "text": unescape(label)}
        case "!":
            return _special(target[1:], label)
    if re.match(r"(https?|mailto|tel):", target):
        return _link(unescape(target), unescape(label) or unescape(target))
    return None


def _special(name: str, label: str) -> Run:
    if name in ("channel", "here", "everyone"):
        return {"kind": "broadcast", "range": name}
    if name.startswith("subteam^"):
        return {"kind": "group", "id": name.removeprefix("subteam^"), "text": unescape(label)}
    parts = name.split("^")
    if parts[0] == "date" and len(parts) >= 3 and parts[1].isdigit():
        fallback = unescape(label)
        return {"kind": "date", "at_s": int(parts[1]), "format": parts[2], "text": fallback}
    return {"kind": "text", "text": unescape(label) or f"<!{name}>"}


def _link(url: str, text: str) -> Run:
    # What a careful reader looks at: the text of a link may name another place than its address.
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # such as https://[nonsense
        host = ""
    return {"kind": "link", "url": url, "text": text, "host": host}


def _emoji(match: re.Match[str]) -> Run:
    character = _EMOJIS.get(match[1])
    if character is None:
        return {"kind": "text", "text": match[0]}
    return {"kind": "emoji", "name": match[1], "text": character}
