"""An endpoint of an API, as the inventory knows it."""

from __future__ import annotations

import re

from bot.model.base import Frozen

PARAMETER = re.compile(r"\{[^{}/]*\}")
"""A parameter of a path template: ``{order_id}``. It stands for any text without a slash."""


def shape_of(template: str) -> str:
    """Return what templates have in common that match the same paths: of names of parameters, and
    of slashes that are doubled or at the end, nothing is left."""
    segments = [segment for segment in template.split("/") if segment]
    return "/" + "/".join(PARAMETER.sub("{}", segment) for segment in segments)


def shape_of_key(key: str) -> tuple[str, str]:
    """Return the method and the shape of ``GET /api/orders/{order_id}``."""
    method, _, path = key.partition(" ")
    return method, shape_of(path)


class Endpoint(Frozen):
    """
    A method and a path template, with who owns it and what data it shows.

    ``key`` is how runbooks and alerts name it: ``GET /api/orders/{order_id}``.
    ``example_path`` is a concrete path that answers, used by probes; None when the OpenAPI
    document gives no examples for the path's parameters.
    """

    method: str
    path: str
    operation_id: str | None = None
    summary: str = ""
    owner: str | None = None
    data_classification: tuple[str, ...] = ()
    example_path: str | None = None

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}"
