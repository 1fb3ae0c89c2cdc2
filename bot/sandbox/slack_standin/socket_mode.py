"""Socket Mode: the app's WebSockets, and the envelopes that go through them.

An envelope goes to one of the open connections. The app has 3 s to acknowledge it; then it is
sent again, up to three times, under a new envelope id and with ``retry_attempt`` and
``retry_reason``. Slack promises that for events only; here it holds for commands and clicks too,
so that an app that would do a thing twice is found out.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.sandbox.slack_standin.people import APP_ID
from bot.sandbox.slack_standin.workspace import Workspace

Json = dict[str, Any]
_WhenDone = Callable[[asyncio.Future[Json]], None]
EnvelopeType = Literal["slash_commands", "interactive", "events_api"]
Outcome = Literal["acked", "timeout", "no_connection"]

ACK_TIMEOUT_S = 3.0
MAX_CONNECTIONS = 10
TICKET_LIFE_S = 30.0
# How long Slack waits before each new try: docs.slack.dev on the Events API. The others are ours.
RETRY_DELAYS_S: dict[EnvelopeType, tuple[float, ...]] = {
    "events_api": (0.0, 60.0, 300.0),
    "slash_commands": (0.0, 0.0, 0.0),
    "interactive": (0.0, 0.0, 0.0),
}
_RETRY_REASONS = {"timeout": "timeout", "connection_lost": "connection_failed"}


@dataclass
class Attempt:
    """One try. ``acked_ms`` is None for as long as no acknowledgement came, even a late one."""

    envelope_id: str
    number: int
    reason: str
    acked_ms: float | None = None
    failure: str = ""


@dataclass
class Delivery:
    """
    What became of one payload.

    ``outcome`` is what the person saw: of the first try, within the time for it. ``reply`` is the
    payload of the acknowledgement.
    """

    number: int
    type: EnvelopeType
    subject: str
    at_s: float
    outcome: Outcome = "timeout"
    elapsed_ms: float | None = None
    reply: Json = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def is_acked(self) -> bool:
        return any(attempt.acked_ms is not None for attempt in self.attempts)


class _Connection:
    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.pending: dict[str, asyncio.Future[Json]] = {}


class ConnectionLost(Exception):
    """The connection ended before the app acknowledged."""


class Sockets:
    """The open connections of the app, and a log of what was delivered over them."""

    def __init__(self, workspace: Workspace, ack_timeout_s: float = ACK_TIMEOUT_S) -> None:
        self._workspace = workspace
        self.ack_timeout_s = ack_timeout_s
        self._tickets: dict[str, float] = {}
        self._connections: list[_Connection] = []
        self._turn = itertools.count()
        self._numbers = itertools.count(1)
        self._arrived = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.log: deque[Delivery] = deque(maxlen=2_000)

    @property
    def open_count(self) -> int:
        return len(self._connections)

    # -- connections

    def new_ticket(self) -> str:
        """Return a ticket for one connection, as in the address that the app is given."""
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = time.monotonic() + TICKET_LIFE_S
        return ticket

    async def serve(self, websocket: WebSocket) -> None:
        """Hold one connection open until it ends."""
        ticket = websocket.query_params.get("ticket", "")
        if self._tickets.pop(ticket, 0.0) < time.monotonic():
            await websocket.close(code=1008)
            return
        await websocket.accept()
        connection = _Connection(websocket)
        if self.open_count >= MAX_CONNECTIONS:
            await self._send(connection, _disconnect("too_many_websockets"))
            await websocket.close()
            return
        self._connections.append(connection)
        await self._send(connection, self._hello())
        self._arrived.set()
        self._workspace.changed()
        try:
            while True:
                self._take(connection, await websocket.receive_text())
        except WebSocketDisconnect:
            pass
        finally:
            self._forget(connection)

    def _hello(self) -> Json:
        return {
            "type": "hello",
            "num_connections": self.open_count,
            "debug_info": {"host": "applink-standin", "approximate_connection_time": 18_060},
            "connection_info": {"app_id": APP_ID},
        }

    def _take(self, connection: _Connection, text: str) -> None:
        message = json.loads(text)
        self._workspace.archive.receive(self._workspace.clock(), "ack", {"body": message})
        future = connection.pending.get(message.get("envelope_id", ""))
        if future is not None and not future.done():
            future.set_result(message.get("payload") or {})

    def _forget(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
        if not self._connections:
            self._arrived.clear()
        for future in list(connection.pending.values()):
            if not future.done():
                future.set_exception(ConnectionLost())
        self._workspace.changed()

    async def disconnect(self, *, warning: bool = False, after_s: float = 1.0) -> int:
        """
        Drop all connections; return how many there were.

        Args:
            warning: Say so first, and drop ``after_s`` later, as Slack does when it moves an app
                to another of its servers.
        """
        dropped = list(self._connections)
        if warning:
            for connection in dropped:
                await self._send(connection, _disconnect("warning"))
            await asyncio.sleep(after_s)
        for connection in dropped:
            self._forget(connection)
            try:
                await connection.websocket.close(code=1001)
            except RuntimeError:  # it closed by itself meanwhile
                continue
        return len(dropped)

    async def _send(self, connection: _Connection, message: Json) -> None:
        try:
            await connection.websocket.send_text(json.dumps(message))
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionLost from error

    # -- deliveries

    async def deliver(self, kind: EnvelopeType, subject: str, payload: Json) -> Delivery:
        """
        Send what a person did to the app, and wait for the acknowledgement of the first try.

        Later tries go on in the background.
        """
        delivery = self._new_delivery(kind, subject)
        if not self._connections:
            delivery.outcome = "no_connection"
        else:
            started_s = time.monotonic()
            reply = await self._attempt(delivery, payload, 0, "")
            delivery.elapsed_ms = (time.monotonic() - started_s) * 1_000
            if reply is None:
                self._in_background(self._repeat(delivery, payload))
            else:
                delivery.outcome, delivery.reply = "acked", reply
        self._workspace.changed()
        return delivery

    def publish(self, subject: str, payload: Json) -> Delivery:
        """Send an event to the app, in the background: nobody waits for it."""
        delivery = self._new_delivery("events_api", subject)
        self._in_background(self._publish(delivery, payload))
        return delivery

    async def _publish(self, delivery: Delivery, payload: Json) -> None:
        started_s = time.monotonic()
        if await self._attempt(delivery, payload, 0, "") is None:
            await self._repeat(delivery, payload)
        if delivery.is_acked:
            delivery.outcome = "acked"
            delivery.elapsed_ms = (time.monotonic() - started_s) * 1_000
        elif not self._connections:
            delivery.outcome = "no_connection"
        self._workspace.changed()

    async def _repeat(self, delivery: Delivery, payload: Json) -> None:
        for number, delay_s in enumerate(RETRY_DELAYS_S[delivery.type], start=1):
            await asyncio.sleep(delay_s)
            if delivery.is_acked:
                return
            reason = _RETRY_REASONS[delivery.attempts[-1].failure]
            if await self._attempt(delivery, payload, number, reason) is not None:
                self._workspace.changed()
                return

    async def _attempt(
        self, delivery: Delivery, payload: Json, number: int, reason: str
    ) -> Json | None:
        """Return the payload of the acknowledgement (maybe empty), or None if none came in time."""
        attempt = Attempt(secrets.token_hex(16), number, reason)
        delivery.attempts.append(attempt)
        started_s = time.monotonic()
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self.ack_timeout_s):
                connection = await self._next_connection()
                connection.pending[attempt.envelope_id] = future
                future.add_done_callback(_forget_pending(connection, attempt.envelope_id))
                await self._send(connection, _envelope(delivery.type, attempt, payload))
                # Shielded, so that an acknowledgement which comes late is still seen.
                reply = await asyncio.shield(future)
        except TimeoutError:
            attempt.failure = "timeout"
            future.add_done_callback(_note_late_ack(attempt, started_s))
            return None
        except ConnectionLost:
            attempt.failure = "connection_lost"
            return None
        attempt.acked_ms = (time.monotonic() - started_s) * 1_000
        return reply

    async def _next_connection(self) -> _Connection:
        while not self._connections:
            await self._arrived.wait()
        return self._connections[next(self._turn) % len(self._connections)]

    def _new_delivery(self, kind: EnvelopeType, subject: str) -> Delivery:
        delivery = Delivery(next(self._numbers), kind, subject, self._workspace.clock())
        self.log.append(delivery)
        return delivery

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _forget_pending(connection: _Connection, envelope_id: str) -> _WhenDone:
    def forget(_future: asyncio.Future[Json]) -> None:
        connection.pending.pop(envelope_id, None)

    return forget


def _note_late_ack(attempt: Attempt, started_s: float) -> _WhenDone:
    def note(future: asyncio.Future[Json]) -> None:
        if not future.cancelled() and future.exception() is None:
            attempt.acked_ms = (time.monotonic() - started_s) * 1_000

    return note


def _envelope(kind: EnvelopeType, attempt: Attempt, payload: Json) -> Json:
    envelope: Json = {
        "envelope_id": attempt.envelope_id,
        "type": kind,
        "accepts_response_payload": kind != "events_api",
        "payload": payload,
    }
    if kind == "events_api" or attempt.number > 0:
        envelope |= {"retry_attempt": attempt.number, "retry_reason": attempt.reason}
    return envelope


def _disconnect(reason: str) -> Json:
    return {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-standin"}}
