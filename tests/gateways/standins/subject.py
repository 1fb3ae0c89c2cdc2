"""A stand-in as a subject of the contract."""

from __future__ import annotations

from typing import ClassVar

from tests.gateways.standins.server import JsonServer, Request, Response
from tests.gateways.subject import Subject

MAKING = ("PUT", "POST", "PATCH")


class StandIn(Subject):
    """
    ``refusal`` is what its API answers to something that it does not take; ``credential`` is the
    adapter's argument for one.
    """

    cut = "requests:Session.send"
    writes_once = False
    refusal: ClassVar[Response]
    credential: ClassVar[str]
    api: JsonServer

    def start(self) -> None:
        self.api.start()

    def stop(self) -> None:
        self.api.stop()

    def close(self) -> None:
        self.api.stop()

    def writes(self) -> object:
        return self.api.writes

    def refuse(self) -> None:
        """Let nothing be made or changed any more; deleting works."""
        self.refuse_making(1, always=True)

    def refuse_making(self, number: int, *, always: bool = False) -> None:
        """Refuse the so-manieth object that is made or changed, and those that follow if
        ``always``."""
        left = number

        def refusing(request: Request) -> None:
            nonlocal left
            if request.method in MAKING:
                left -= 1
                if left == 0 or (always and left < 0):
                    self.api.instead = [self.refusal]

        self.api.sees = refusing

    def accept(self) -> None:
        self.api.sees = lambda _request: None

    def garble(self) -> None:
        self.api.garbled = True

    def ungarble(self) -> None:
        self.api.garbled = False
