"""A node that speaks ADS and is no Envoy, so that it can say what Envoy never would."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2  # type: ignore[import-untyped]

from actions.gateway.adapters.envoy.rendering import ROUTE_CONFIGURATION
from tests.gateways.upstream import until


class AdsNode:
    """
    One stream. ``received`` holds the responses, ``ended`` is why the other side has ended it.

    Args:
        acks: Whether it acknowledges at once what it gets.

    ``refuses`` is, once it is set, why it refuses at once all that is not what it took last.
    """

    def __init__(
        self,
        address: str,
        node: str,
        *,
        acks: bool = True,
        names: Sequence[str] = ("edge",),
        version: str = "",
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.node, self._names, self._acks = node, names, acks
        self.received: list[Any] = []
        self.refuses = self._taken = ""
        self.ended: grpc.RpcError | None = None
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._channel = (
            grpc.insecure_channel(address)
            if credentials is None
            else grpc.secure_channel(address, credentials)
        )
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        self._call = stub.StreamAggregatedResources(self._requests())
        self.say(version=version)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def say(self, **fields: Any) -> None:
        """Send a request; fields of the proto's own names are as given."""
        usual = {
            "node": {"id": self.node},
            "type_url": ROUTE_CONFIGURATION,
            "resource_names": list(self._names),
            "version_info": fields.pop("version", ""),
        }
        self._out.put(discovery_pb2.DiscoveryRequest(**{**usual, **fields}))

    def ack(self, response: Any) -> None:
        self._taken = response.version_info
        self.say(version=response.version_info, response_nonce=response.nonce)

    def refuse(self, response: Any, why: str, kept: str = "") -> None:
        """Refuse a response; ``kept`` is the version that stays in force."""
        self.say(version=kept, response_nonce=response.nonce, error_detail={"message": why})

    def until_received(self, count: int) -> Any:
        """Wait for so many responses; return the last of them."""
        until(lambda: len(self.received) >= count, f"{count} responses to {self.node}")
        return self.received[count - 1]

    def until_ended(self) -> grpc.RpcError:
        until(lambda: self.ended is not None, f"the end of the stream of {self.node}")
        assert self.ended is not None
        return self.ended

    def close(self) -> None:
        self._out.put(None)
        self._call.cancel()
        self._channel.close()
        self._reading.join(timeout=5)

    def __enter__(self) -> AdsNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _requests(self) -> Iterator[Any]:
        while (request := self._out.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for response in self._call:
                self.received.append(response)
                if self.refuses and response.version_info != self._taken:
                    self.refuse(response, self.refuses, self._taken)
                elif self._acks or self.refuses:
                    self.ack(response)
        except grpc.RpcError as error:
            self.ended = error
