"""Routes as protobuf messages. ``grpc`` and Envoy's protos come with the extra ``envoy-ads``, and
are imported only when a fleet is used."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bot.errors import BadInput

_TYPE_URL = re.compile(
    r"type\.googleapis\.com/((?:envoy|xds|udpa)(?:\.[a-z][a-z0-9_]*)+)(?:\.[A-Z]\w*)+"
)
"""A message of Envoy's API; the group is its package."""


def encoded(config: Mapping[str, Any], gateway: str) -> bytes:
    """
    Return a RouteConfiguration, given in proto3 JSON, in its binary form.

    Raises:
        BadInput: It is none, it has a field or an extension that the installed protos do not
            know, or they are not installed.
    """
    need(gateway)
    from envoy.config.route.v3 import route_pb2  # type: ignore[import-untyped]
    from google.protobuf import json_format  # type: ignore[import-untyped]

    for package in sorted(set(_packages(config))):
        _import_all(package)
    try:
        message = json_format.ParseDict(config, route_pb2.RouteConfiguration())
    except json_format.ParseError as error:
        raise BadInput(
            f"The routes of gateway {gateway} are none that its nodes could be sent "
            f"({_shortened(str(error))}); nothing was done. Mend the base routes; if Envoy knows "
            "what is named here, install a newer xds-protos."
        ) from None
    return bytes(message.SerializeToString(deterministic=True))


def need(gateway: str) -> None:
    """Raise BadInput if the extra is not installed."""
    try:
        importlib.import_module("grpc.aio")
        importlib.import_module("envoy.service.discovery.v3.ads_pb2_grpc")
    except ImportError as error:
        raise BadInput(
            f"Gateway {gateway} is an Envoy fleet, and what that needs is not installed ({error}); "
            "nothing was done. Install firedoor[envoy-ads]."
        ) from None


def _packages(value: Any) -> Iterator[str]:
    """Yield the packages of all extensions in it: their messages must be known to be encoded."""
    if isinstance(value, Mapping):
        match = _TYPE_URL.fullmatch(str(value.get("@type", "")))
        if match:
            yield match[1]
        for each in value.values():
            yield from _packages(each)
    elif isinstance(value, list):
        for each in value:
            yield from _packages(each)


def _import_all(package: str) -> None:
    try:
        found = importlib.import_module(package)
    except ImportError:
        return  # encoding says which message is not known
    for module in pkgutil.iter_modules(found.__path__):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{module.name}")


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"
