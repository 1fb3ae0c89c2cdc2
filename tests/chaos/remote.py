"""The other system, in a process that is never killed, with a log of every effect.

It takes one question a connection, in the order of their coming, and does what is asked at once:
what a process asked for right before it died is done before its successor can look. Slow and lost
are only the answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

from bot.errors import ProviderUnreachable

EFFECTS = ("set", "mint", "retire", "burn", "converge", "open_channel", "post", "update", "mail")
"""What changes something. All else only looks."""

ANSWER_S = 20.0


class Remote:
    """A client. ``around`` is called before and after each effect that it asks for."""

    def __init__(
        self, path: str, around: Callable[[str, str], None] = lambda _side, _what: None
    ) -> None:
        self._path, self._around = path, around

    def ask(self, op: str, /, **what: Any) -> Any:
        """
        Raises:
            ProviderUnreachable: No answer came; whether it took effect is not known.
        """
        question = {"op": op, "pid": os.getpid(), "asked": time.time(), **what}
        is_effect = op in EFFECTS
        if is_effect:
            self._around("before", f"effect: {op} {_label(what)}")
        answer = self._call(json.dumps(question).encode() + b"\n")
        if is_effect:
            self._around("after", f"effect: {op} {_label(what)}")
        return answer

    def _call(self, question: bytes) -> Any:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_S)
                connection.connect(self._path)
                connection.sendall(question)
                parts = []
                while part := connection.recv(65_536):
                    parts.append(part)
        except OSError as error:
            raise ProviderUnreachable(f"The remote system gave no answer ({error}).") from error
        text = b"".join(parts)
        if not text.endswith(b"\n"):
            raise ProviderUnreachable("The answer of the remote system was lost.")
        return json.loads(text)


def _label(what: dict[str, Any]) -> str:
    return str(what.get("by") or what.get("key") or what.get("name") or "")


class System:
    """What the remote system holds."""

    def __init__(self) -> None:
        self.values: dict[str, str | None] = {}
        self.keys: dict[str, list[dict[str, Any]]] = {}
        self.burnt: list[str] = []
        self.controls: dict[str, list[Any]] = {}
        self.versions: dict[str, str] = {}
        self.channels: dict[str, str] = {}
        self.posts: list[dict[str, Any]] = []
        self.mails: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self._made = 0

    def do(self, question: dict[str, Any]) -> Any:
        op = question["op"]
        answer = getattr(self, f"do_{op}")(question)
        if op in EFFECTS:
            short = {k: v for k, v in question.items() if k not in ("controls", "message")}
            self.log.append({"n": len(self.log) + 1, "at": time.time(), **short, "made": answer})
        return answer

    def do_get(self, q: dict[str, Any]) -> Any:
        return self.values.get(q["key"])

    def do_set(self, q: dict[str, Any]) -> Any:
        self.values[q["key"]] = q["value"]

    def do_keys(self, q: dict[str, Any]) -> Any:
        return [key["id"] for key in self.keys.get(q["key"], []) if key["live"]]

    def do_mint(self, q: dict[str, Any]) -> Any:
        self._made += 1
        made = {"id": f"k{self._made}", "live": True, "by": q["by"]}
        self.keys.setdefault(q["key"], []).append(made)
        return made["id"]

    def do_retire(self, q: dict[str, Any]) -> Any:
        for key in self.keys.get(q["key"], []):
            if key["id"] == q["value"]:
                key["live"] = False

    def do_is_burnt(self, q: dict[str, Any]) -> Any:
        return q["key"] in self.burnt

    def do_burn(self, q: dict[str, Any]) -> Any:
        self.burnt.append(q["key"])

    def do_converge(self, q: dict[str, Any]) -> Any:
        self.controls[q["key"]], self.versions[q["key"]] = q["controls"], q["value"]
        return q["value"]

    def do_version(self, q: dict[str, Any]) -> Any:
        return self.versions.get(q["key"], "")

    def do_controls(self, q: dict[str, Any]) -> Any:
        return self.controls.get(q["key"], [])

    def do_open_channel(self, q: dict[str, Any]) -> Any:
        return self.channels.setdefault(q["name"], f"C{len(self.channels) + 1}")

    def do_post(self, q: dict[str, Any]) -> Any:
        ts = f"{len(self.posts) + 1}.0"
        post = {"ts": ts, "channel": q["channel"], "key": q["key"], "title": q["message"]["title"]}
        self.posts.append({**post, "pid": q["pid"], "at": time.time()})
        return ts

    def do_find(self, q: dict[str, Any]) -> Any:
        wanted = (q["channel"], q["key"])
        return next((p["ts"] for p in self.posts if (p["channel"], p["key"]) == wanted), None)

    def do_update(self, q: dict[str, Any]) -> Any:
        for post in self.posts:
            if post["ts"] == q["ts"]:
                post["title"] = q["message"]["title"]

    def do_mail(self, q: dict[str, Any]) -> Any:
        self.mails.append({"to": q["to"], "key": q["key"]})

    def do_history(self, _q: dict[str, Any]) -> Any:
        names = ("values", "keys", "burnt", "controls", "versions", "channels", "posts", "mails")
        return {"effects": self.log, **{name: getattr(self, name) for name in names}}


class Weather:
    """How well answers get through; the same for the same seed and questions."""

    def __init__(self) -> None:
        self.set({})

    def set(self, q: dict[str, Any]) -> None:
        self._slow, self._slow_s = q.get("slow", 0.0), q.get("slow_s", 0.0)
        self._lost = q.get("lost", 0.0)
        self._random = random.Random(q.get("seed", 0))

    def delay_s(self) -> float:
        slow = self._random.random() < self._slow
        return self._random.uniform(0.1, 1.0) * self._slow_s if slow else 0.0

    def is_lost(self) -> bool:
        return self._random.random() < self._lost


def serve(spec: dict[str, Any]) -> None:
    """Be the remote system at the socket ``spec["path"]`` until killed."""
    asyncio.run(_serve(spec["path"]))


async def _serve(path: str) -> None:
    system, weather = System(), Weather()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line.endswith(b"\n"):
                question = json.loads(line)
                if question["op"] == "weather":
                    weather.set(question)
                    answer: Any = None
                    delay_s, lost = 0.0, False
                else:
                    answer = system.do(question)
                    is_told = question["op"] == "history"
                    delay_s = 0.0 if is_told else weather.delay_s()
                    lost = not is_told and weather.is_lost()
                if delay_s:
                    await asyncio.sleep(delay_s)
                if not lost:
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
        except ConnectionError:
            pass  # who asked is gone
        finally:
            writer.close()

    temporary = path + ".new"
    server = await asyncio.start_unix_server(take, temporary, backlog=500, limit=2**22)
    os.rename(temporary, path)  # whoever sees it can connect
    async with server:
        await server.serve_forever()
