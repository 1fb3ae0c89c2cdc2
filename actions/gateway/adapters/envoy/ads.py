"""The control plane of an Envoy fleet: aggregated discovery (ADS) of its routes, over gRPC.

It runs in the process that drives, in a thread of its own, and gives nodes what the snapshot
holds, whoever wrote it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import IO, Any

from actions.gateway.adapters.envoy.listen import Listen
from actions.gateway.adapters.envoy.protos import encoded, need
from actions.gateway.adapters.envoy.rendering import ROUTE_CONFIGURATION
from actions.gateway.adapters.envoy.reports import Report, ReportFile, Stamp
from actions.gateway.adapters.envoy.response_file import ResponseFile, config_in
from actions.gateway.adapters.envoy.streams import Request, Routes, Stream, Streams, cleaned
from bot.errors import BadInput, FiredoorError, ProviderUnreachable

log = logging.getLogger(__name__)

RETURN_S = 30.0
"""How long nodes of before a restart are waited for. Unless told otherwise Envoy waits no longer
than this before it tries to connect again."""

WATCH_S = 0.05
"""How often another process' writing of the snapshot is looked for."""

PUBLISH_S = 0.005
"""How long reports are gathered before other processes can read them."""

CALL_TIMEOUT_S = 10.0

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else two servers could have one port, each with half of the nodes
    # A node that is gone without a word is missed after this.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Nodes may ask as often whether we are still there.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 2_000),
)


class AdsServer:
    """
    Implements `Reports` for the process that listens.

    What is said on the streams changes only in the thread of the event loop, and under a lock that
    others read under.

    Args:
        gateway: Name of the gateway, for messages.

        published: Where other processes read what the nodes report.
    """

    def __init__(
        self, gateway: str, file: ResponseFile, published: ReportFile, listen: Listen
    ) -> None:
        self._gateway, self._file, self._listen = gateway, file, listen
        self._published = published
        self._streams = Streams(self._before)
        self._changed = threading.Condition()
        self._dirty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: IO[str] | None = None
        self._server: Any = None
        self._seen: Stamp | None = None

    def start(self) -> bool:
        """
        Listen, unless another process does; return whether it is this one.

        Raises:
            BadInput: It cannot be listened there, or something that is needed is missing.
        """
        need(self._gateway)
        credentials = self._listen.credentials()
        try:
            self._lock = self._published.lock()
        except OSError as error:
            raise self._cannot_listen(str(error)) from None
        if self._lock is None:
            return False
        try:
            self._call(self._start(credentials))
        except BaseException:
            self.stop()
            raise
        return True

    def stop(self) -> None:
        """End all streams; the nodes serve on with what they have."""
        self._call(self._stop())
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read(self) -> Report:
        with self._changed:
            return self._streams.report()

    def settled(self, stamp: Stamp, timeout_s: float) -> Report:
        self._call(self._load())
        with self._changed:
            self._changed.wait_for(lambda: not self._streams.owing(), timeout_s)
        self._call(self._publish())
        return self.read()

    # --- in the event loop ---------------------------------------------------------------------

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.run_coroutine_threadsafe(coroutine, event_loop()).result(CALL_TIMEOUT_S)
        except TimeoutError:
            raise ProviderUnreachable(
                f"The control plane of gateway {self._gateway} has not answered within "
                f"{CALL_TIMEOUT_S:g} s; nothing is known of its nodes. The machine may be "
                "overloaded; else start Firedoor anew."
            ) from None

    async def _start(self, credentials: Any) -> None:
        import grpc.aio
        from envoy.service.discovery.v3 import ads_pb2_grpc  # type: ignore[import-untyped]

        self._streams = Streams(self._before, self._earlier_nodes())
        await self._load()
        await self._publish()
        self._server = grpc.aio.server(options=_OPTIONS)
        service = _Service(self._gateway, self._streams, self._changed, self._dirty)
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(service, self._server)
        try:
            if credentials is None:
                self._server.add_insecure_port(self._listen.address)
            else:
                self._server.add_secure_port(self._listen.address, credentials)
        except RuntimeError as error:
            raise self._cannot_listen(str(error)) from None
        await self._server.start()
        duties = (self._watch(), self._keep_published(), self._give_up_waiting())
        self._tasks = [asyncio.ensure_future(duty) for duty in duties]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(None)
        self._tasks, self._server = [], None

    async def _watch(self) -> None:
        """Take up what other processes write. The same trouble is said once."""
        said = ""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self._load()
            except FiredoorError as error:
                if str(error) != said:
                    log.warning("gateway %s: %s", self._gateway, error)
                said = str(error)
            else:
                said = ""

    async def _keep_published(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(PUBLISH_S)  # of many answers at once there is one report
            await self._publish()

    async def _give_up_waiting(self) -> None:
        await asyncio.sleep(RETURN_S)
        with self._changed:
            self._streams.give_up_waiting()
            self._changed.notify_all()
        self._dirty.set()

    async def _publish(self) -> None:
        self._dirty.clear()
        try:
            self._published.write(self.read())
        except OSError as error:
            log.warning("gateway %s: what its nodes report is not kept: %s", self._gateway, error)

    async def _load(self) -> None:
        """Take up what the snapshot holds now, unless another hand has written it."""
        stamp = self._file.stamp()
        if stamp is None or stamp == self._seen:
            return
        content = self._file.read()
        self._seen = stamp
        routes = self._routes(content, stamp)
        if routes is None:
            log.warning(
                "gateway %s: %s is not as Firedoor writes it; its nodes are not given it.",
                self._gateway,
                self._file.path,
            )
            return
        with self._changed:
            self._streams.offer(routes)
        self._dirty.set()

    # --- files ---------------------------------------------------------------------------------

    def _before(self) -> Routes | None:
        try:
            return self._routes(self._file.read_before(), (0, 0))
        except FiredoorError as error:
            log.warning("gateway %s: %s", self._gateway, error)
            return None

    def _routes(self, content: bytes | None, stamp: Stamp) -> Routes | None:
        found = config_in(content)
        if found is None:
            return None
        version, config = found
        body = encoded(config, self._gateway)
        return Routes(stamp=stamp, version=version, name=str(config["name"]), body=body)

    def _earlier_nodes(self) -> tuple[str, ...]:
        """Return which nodes there were when another process listened last."""
        try:
            last = self._published.last()
        except ProviderUnreachable:
            return ()
        return (*last.nodes, *last.awaited)

    def _cannot_listen(self, why: str) -> BadInput:
        return BadInput(
            f"Gateway {self._gateway} cannot listen for its nodes on {self._listen.address} "
            f"({why}); nothing was started. Free the address, or change `listen` in firedoor.yaml."
        )


class _Service:
    """The gRPC service, by its methods' names."""

    def __init__(
        self, gateway: str, streams: Streams, changed: threading.Condition, dirty: asyncio.Event
    ) -> None:
        self._gateway, self._streams = gateway, streams
        self._changed, self._dirty = changed, dirty

    async def StreamAggregatedResources(self, requests: AsyncIterator[Any], context: Any) -> None:
        import grpc

        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        wake = asyncio.Event()
        stream = Stream(peer=context.peer(), wake=wake.set, end=partial(_set, ended))
        reading = asyncio.ensure_future(self._read(stream, requests))
        sending = asyncio.ensure_future(self._send(stream, wake, context))
        parts: set[asyncio.Future[Any]] = {reading, sending, ended}
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                log.warning("gateway %s: %s", self._gateway, ended.result())
                await context.abort(grpc.StatusCode.ABORTED, ended.result())
        finally:
            self._leave(stream)  # first, as gRPC may cancel this once more while it waits
            reading.cancel()
            sending.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)

    async def DeltaAggregatedResources(self, _requests: AsyncIterator[Any], context: Any) -> None:
        import grpc

        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "Routes are given as state of the world: set api_type GRPC, not DELTA_GRPC.",
        )

    async def _read(self, stream: Stream, requests: AsyncIterator[Any]) -> None:
        async for message in requests:
            request = _request_of(message)
            was_known = bool(stream.node)
            with self._changed:
                wrong = self._streams.take(stream, request)
                if not self._streams.owing():
                    self._changed.notify_all()
            self._dirty.set()
            if stream.node and not was_known:
                log.info("gateway %s: node %s is here", self._gateway, stream.node)
            if request.refusal is not None:
                log.warning(
                    "gateway %s: node %s refuses routes: %s",
                    self._gateway,
                    stream.node,
                    cleaned(request.refusal),
                )
            if wrong is not None:
                stream.end(f"Node {stream.node or stream.peer} breaks the protocol: {wrong}")
                return

    async def _send(self, stream: Stream, wake: asyncio.Event, context: Any) -> None:
        while True:
            await wake.wait()
            wake.clear()
            with self._changed:
                due = self._streams.due(stream)
            if due is not None:
                await context.write(_response_of(*due))

    def _leave(self, stream: Stream) -> None:
        with self._changed:
            self._streams.leave(stream)
            self._changed.notify_all()
        self._dirty.set()
        if stream.node:
            log.info("gateway %s: node %s has left", self._gateway, stream.node)


def _set(future: asyncio.Future[str], value: str) -> None:
    if not future.done():
        future.set_result(value)


def _request_of(message: Any) -> Request:
    return Request(
        node=message.node.id,
        type_url=message.type_url,
        version=message.version_info,
        nonce=message.response_nonce,
        names=tuple(message.resource_names),
        refusal=message.error_detail.message if message.HasField("error_detail") else None,
    )


def _response_of(routes: Routes, nonce: str) -> Any:
    from envoy.service.discovery.v3 import discovery_pb2
    from google.protobuf import any_pb2  # type: ignore[import-untyped]

    return discovery_pb2.DiscoveryResponse(
        version_info=routes.version,
        type_url=ROUTE_CONFIGURATION,
        nonce=nonce,
        resources=[any_pb2.Any(type_url=ROUTE_CONFIGURATION, value=routes.body)],
        control_plane={"identifier": "firedoor"},
    )


_loop_lock = threading.Lock()


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that all fleets of this process share, in a thread of its own: what
    gRPC wakes wakes every loop that uses it (https://github.com/grpc/grpc/issues/25364)."""
    with _loop_lock:
        return _made_loop()


@functools.cache
def _made_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="ads", daemon=True).start()
    return loop
