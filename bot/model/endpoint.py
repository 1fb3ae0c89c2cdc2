"""An endpoint of an API, as the inventory knows it."""

from __future__ import annotations

from bot.model.base import Frozen


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
