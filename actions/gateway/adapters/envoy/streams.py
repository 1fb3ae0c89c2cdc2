"""What is said on the streams of a fleet's nodes, and what follows from it. Pure.

The state-of-the-world protocol, for route configurations only:
https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from actions.gateway.adapters.envoy.rendering import ROUTE_CONFIGURATION
from actions.gateway.adapters.envoy.reports import Node, Refusal, Report, Stamp

CLASHES = 3
CLASH_S = 120.0
"""So many streams of one node id that took the place of a live one, within so many seconds, are of
several nodes. One or two are of a node whose connection broke without a word; Envoy tries again
within 30 s at most."""

MAX_TEXT = 300
"""Characters that are kept of what a node says."""


@dataclass(frozen=True)
class Routes:
    """
    One writing of the snapshot.

    Attributes:
        name: Of the route configuration.

        body: The route configuration in its binary form.
    """

    stamp: Stamp
    version: str
    name: str
    body: bytes


@dataclass(frozen=True)
class Request:
    """What is looked at in a DiscoveryRequest; ``refusal`` is None if nothing is refused."""

    node: str = ""
    type_url: str = ROUTE_CONFIGURATION
    version: str = ""
    nonce: str = ""
    names: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(eq=False)
class Stream:
    """
    One node's stream.

    Attributes:
        wake: Called when there may be something to send.

        end: Called with the reason when another stream takes its place.

        version: What the node says that it has in force.

        sent: The version that was sent last, under ``nonce``.
    """

    peer: str
    wake: Callable[[], None]
    end: Callable[[str], None]
    node: str = ""
    version: str = ""
    asks: tuple[str, ...] = ()
    sent: str = ""
    nonce: str = ""
    answered: bool = True
    count: int = 0
    unanswered: dict[str, str] = field(default_factory=dict)


class Streams:
    """
    The nodes that have a stream, and the routes that they are to have.

    Args:
        before: Returns the routes to go back to if those on trial are refused; None once no
            others were in force before.

        awaited: Ids of nodes that had a stream before a restart.

        now_s: A clock that only goes on.
    """

    def __init__(
        self,
        before: Callable[[], Routes | None],
        awaited: tuple[str, ...] = (),
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._before, self._now_s = before, now_s
        self._clashes: dict[str, list[float]] = {}
        self._awaited = dict.fromkeys(awaited)
        self._nodes: dict[str, Stream] = {}
        self._refusals: dict[str, Refusal] = {}
        self._stamp: Stamp | None = None
        self.routes: Routes | None = None

    def offer(self, routes: Routes) -> None:
        """Have a new writing of the snapshot, which every node is to get."""
        self._stamp = routes.stamp
        self._refusals = {
            node: refusal
            for node, refusal in self._refusals.items()
            if refusal.version != routes.version or self._has_kept(node, routes.version)
        }
        self._aim(routes)

    def give_up_waiting(self) -> None:
        """Wait no longer for nodes of before the restart."""
        self._awaited.clear()

    # --- one stream ----------------------------------------------------------------------------

    def take(self, stream: Stream, request: Request) -> str | None:
        """Take one request; return what breaks the protocol in it, if anything does."""
        if not stream.node:
            if not cleaned(request.node):
                return "The first request names no node."
            self._join(stream, request)
        if request.type_url != ROUTE_CONFIGURATION:
            return None  # of other kinds there are none, and the protocol has no word for that
        if not request.nonce and not stream.nonce:
            stream.version = cleaned(request.version)  # what it brings along from an earlier stream
        elif request.nonce != stream.nonce:
            self._note_refusal(stream, request)  # else an answer to what has been superseded
            return None
        elif not stream.answered:
            wrong = self._answered(stream, request)
            if wrong:
                return wrong
        self._subscribe(stream, request.names)
        return None

    def due(self, stream: Stream) -> tuple[Routes, str] | None:
        """Return what is to be sent now, and its nonce; it counts as sent."""
        routes = self.routes
        if routes is None or not self._wants(stream, routes) or stream.sent == routes.version:
            return None
        stream.count += 1
        stream.sent, stream.nonce, stream.answered = routes.version, str(stream.count), False
        stream.unanswered[stream.nonce] = routes.version
        return routes, stream.nonce

    def leave(self, stream: Stream) -> None:
        """The stream has ended."""
        if self._nodes.get(stream.node) is stream:
            del self._nodes[stream.node]

    # --- all of them ---------------------------------------------------------------------------

    def owing(self) -> bool:
        """Tell whether any node has yet to answer, or to come back."""
        return bool(self._awaited) or any(map(self._owes, self._nodes.values()))

    def report(self) -> Report:
        return Report(
            stamp=self._stamp,
            route_name=self.routes.name if self.routes else "",
            nodes={
                name: Node(stream.version, self._owes(stream), stream.asks)
                for name, stream in self._nodes.items()
            },
            refusals=dict(self._refusals),
            awaited=tuple(self._awaited),
            clashing=tuple(node for node in self._nodes if self._is_clashing(node)),
        )

    # --- inside --------------------------------------------------------------------------------

    def _aim(self, routes: Routes) -> None:
        self.routes = routes
        for stream in self._nodes.values():
            stream.wake()

    def _join(self, stream: Stream, request: Request) -> None:
        stream.node = cleaned(request.node)
        earlier = self._nodes.pop(stream.node, None)
        self._nodes[stream.node] = stream
        self._awaited.pop(stream.node, None)
        if earlier is not None:
            last = self._clashes.get(stream.node, [])
            self._clashes[stream.node] = [*last, self._now_s()][-CLASHES:]
            earlier.end(f"Another stream of node {stream.node} has come, from {stream.peer}.")

    def _is_clashing(self, node: str) -> bool:
        times = self._clashes.get(node, [])
        return len(times) == CLASHES and self._now_s() - times[0] <= CLASH_S

    def _answered(self, stream: Stream, request: Request) -> str | None:
        """Take the answer to what was sent last; return what is wrong with it."""
        if request.refusal is None:
            if request.version != stream.sent:
                return f"Version {cleaned(request.version)!r} is acknowledged, and was not sent."
            stream.version = request.version
            refusal = self._refusals.get(stream.node)
            if refusal is not None and refusal.version == request.version:
                del self._refusals[stream.node]
        self._note_refusal(stream, request)
        stream.answered = True
        stream.unanswered.clear()
        return None

    def _note_refusal(self, stream: Stream, request: Request) -> None:
        version = stream.unanswered.get(request.nonce)
        if request.refusal is None or version is None:
            return
        self._refusals[stream.node] = Refusal(version, cleaned(request.refusal) or "no reason")
        if self.routes is not None and self.routes.version == version:
            before = self._before()
            if before is not None and before.version != version:
                self._aim(before)

    def _subscribe(self, stream: Stream, names: tuple[str, ...]) -> None:
        name = self.routes.name if self.routes else None
        if name in names and name not in stream.asks:
            stream.sent = ""  # who asks anew has it no more
        stream.asks = tuple(cleaned(each) for each in names)
        stream.wake()

    def _wants(self, stream: Stream, routes: Routes) -> bool:
        return routes.name in stream.asks

    def _owes(self, stream: Stream) -> bool:
        routes = self.routes
        if routes is None or not self._wants(stream, routes):
            return False
        return stream.sent != routes.version or not stream.answered

    def _has_kept(self, node: str, version: str) -> bool:
        """Tell whether a node was sent a version and is not sent it again."""
        stream = self._nodes.get(node)
        return stream is not None and stream.sent == version


def cleaned(text: str) -> str:
    """Return what a node says in one line of printable characters, shortened."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}…"
