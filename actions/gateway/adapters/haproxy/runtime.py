"""HAProxy's Runtime API, as far as maps and counters go.

Each command has a connection of its own, so that after a reload it reaches the process that serves.
https://docs.haproxy.org/2.8/management.html#9.3
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from actions.gateway.adapters.haproxy.maps import Entries, lines, parsed
from bot.errors import Conflict, ProviderRefused, ProviderUnreachable

TIMEOUT_S = 2.0

PAYLOAD_BYTES = 8_000
"""Of one command. HAProxy takes what fits into its buffer: 16 kB, unless it is set to less."""

_NEW_VERSION = re.compile(r"New version created: (\d+)")
_ENTRY = re.compile(r"0x[0-9a-f]+ (.*)")
_COUNTER = re.compile(r"0x[0-9a-f]+: key=(\S+) .*\bgpc0=(\d+)")
_OUTDATED = re.compile("Version number (out of range|in the future)")
_NO_MAP = "Unknown map identifier"
_NO_RIGHTS = "insufficient privileges"


class RuntimeApi:
    """
    Args:
        gateway: Its name, for messages.

        path: The UNIX socket, of level admin.
    """

    def __init__(self, gateway: str, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._gateway, self._path = gateway, path
        self._timeout_s = timeout_s

    def entries(self, files: Sequence[Path]) -> list[Entries]:
        """
        Return what maps hold now, in HAProxy's own order.

        Raises:
            ProviderUnreachable: No usable answer, or its configuration has no such maps.
        """
        answers = self._ask("; ".join(f"show map {file}" for file in files), len(files))
        found = []
        for answer, file in zip(answers, files, strict=True):
            if answer and answer[0].startswith(_NO_MAP):
                raise ProviderUnreachable(
                    f"Gateway {self._gateway} has no map {file}, so Firedoor can hold nothing "
                    "there. Put Firedoor's part of deploy/gateways/haproxy.example.cfg into its "
                    "configuration, with the folder that firedoor.yaml names as `maps_dir`."
                )
            matches = [_ENTRY.fullmatch(line) for line in answer]
            if not all(matches):
                raise self._not_haproxy()
            found.append(parsed(match.group(1) for match in matches if match))
        return found

    def stage(self, file: Path, entries: Entries) -> int:
        """
        Hand in what a map shall hold, which no request sees yet; return the number to commit it
        by.

        Raises:
            ProviderRefused: HAProxy does not take an entry.
        """
        answer = self._said(f"prepare map {file}")
        created = _NEW_VERSION.match(answer)
        if created is None:
            raise self._no(f"prepare map {file}", answer)
        number = int(created.group(1))
        try:
            for payload in _payloads(lines(entries)):
                self._do(f"add map @{number} {file}", payload)
        except ProviderRefused:
            self.drop(file, number)
            raise
        return number

    def commit(self, file: Path, number: int) -> None:
        """
        Put what was staged in place of what a map holds, in one step for every thread.

        Raises:
            Conflict: Another writer has committed something newer, or HAProxy was restarted.
        """
        self._do(f"commit map @{number} {file}")

    def drop(self, file: Path, number: int) -> None:
        """Throw away what was staged."""
        self._do(f"clear map @{number} {file}")

    def counters(self, table: str) -> dict[str, int]:
        """Return ``gpc0`` by key of a stick table. Raises ProviderUnreachable, ProviderRefused."""
        answer = self._said(f"show table {table}")
        if not answer.startswith("# table: ") or _NO_RIGHTS in answer:
            raise self._no(f"show table {table}", answer)
        return {m.group(1): int(m.group(2)) for m in map(_COUNTER.match, answer.splitlines()) if m}

    def forget(self, table: str, key: str) -> None:
        """Count a key from zero."""
        self._do(f"clear table {table} key {key}")

    # --- talking ---------------------------------------------------------------------------------

    def _do(self, command: str, payload: str | None = None) -> None:
        answer = self._said(command, payload)
        if answer:
            raise self._no(command, answer)

    def _no(self, command: str, answer: str) -> ProviderRefused | Conflict:
        said = " ".join(answer.split()) or "nothing"
        if len(said) > 300:
            said = f"{said[:120]} ... {said[-170:]}"  # the reason is at the end
        if _OUTDATED.search(answer):
            return Conflict(
                f"The maps of gateway {self._gateway} were changed by another writer just now, or "
                f"it was restarted (`{command}`: {said}). They are read and tried again."
            )
        return ProviderRefused(
            f"Gateway {self._gateway} refuses `{command}` ({said}); it serves on with the maps "
            f"that it has. {self._path} must be of level admin, and its configuration as "
            "deploy/gateways/haproxy.example.cfg shows it."
        )

    def _said(self, command: str, payload: str | None = None) -> str:
        return "\n".join(self._ask(command, 1, payload)[0])

    def _ask(self, command: str, count: int, payload: str | None = None) -> list[list[str]]:
        """Return the lines of each of ``count`` answers. Each of them ends with an empty line; if
        one does not, it is not whole."""
        sent = f"{command}\n" if payload is None else f"{command} <<\n{payload}\n\n"
        *received, rest = self._exchange(sent.encode()).split("\n")
        answers: list[list[str]] = [[]]
        for line in received:
            if line:
                answers[-1].append(line)
            else:
                answers.append([])
        if rest or answers.pop() or len(answers) != count:
            raise self._not_haproxy()
        return answers

    def _exchange(self, sent: bytes) -> str:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(self._timeout_s)
                line.connect(str(self._path))
                line.sendall(sent)
                return b"".join(_received(line, self._timeout_s)).decode()
        except UnicodeDecodeError:
            raise self._not_haproxy() from None
        except OSError as error:
            raise ProviderUnreachable(
                f"Gateway {self._gateway} gives no answer at {self._path} "
                f"({error.strerror or type(error).__name__}); nothing is known of its maps. See "
                "whether HAProxy runs, and whether Firedoor's user may open its socket."
            ) from None

    def _not_haproxy(self) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"{self._path} of gateway {self._gateway} gives an answer that is not HAProxy's, or "
            "not all of it; nothing is known of its maps. See what listens there."
        )


def _received(line: socket.socket, timeout_s: float) -> Iterator[bytes]:
    """Yield what comes until the other side ends. Raises OSError: also if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while part := line.recv(65_536):
        yield part
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        line.settimeout(left_s)


def _payloads(texts: Sequence[str]) -> Iterator[str]:
    """Yield lines, as many together as a command may have."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) >= PAYLOAD_BYTES:
            yield "\n".join(part)
            part, size = [], 0
        part.append(text)
        size += len(text) + 1
    if part:
        yield "\n".join(part)
