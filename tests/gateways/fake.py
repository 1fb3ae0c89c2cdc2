"""The fake that actions are tested with, as a subject of the contract."""

from __future__ import annotations

from typing import Any

from bot.testing import FakeGateway
from tests.gateways.subject import Subject


class Fake(Subject):
    """Its state lives in this process, so there is no process to kill."""

    kind = "fake"
    adapter_class = FakeGateway
    cut = ""
    gateway: FakeGateway

    def __init__(self) -> None:
        self.gateway = FakeGateway()
        self._theirs = False

    def arguments(self) -> dict[str, Any]:
        return {}

    def adapter(self, **changes: Any) -> FakeGateway:
        del changes
        return self.gateway

    def start(self) -> None:
        self.gateway.down = False

    def stop(self) -> None:
        self.gateway.down = True

    def close(self) -> None:
        """Nothing runs."""

    def writes(self) -> object:
        return self.gateway.writes

    def export(self) -> bytes:
        return repr((sorted(map(str, self.gateway.controls)), self._theirs)).encode()

    def edit_theirs(self) -> None:
        self._theirs = True

    def has_their_edit(self) -> bool:
        return self._theirs

    def edit_ours(self) -> None:
        self.gateway.edited = "by hand"

    def refuse(self) -> None:
        self.gateway.refuses = True

    def accept(self) -> None:
        self.gateway.refuses = self._theirs = False

    def garble(self) -> None:
        self.gateway.down = True  # it has no answers to garble

    def ungarble(self) -> None:
        self.gateway.down = False
