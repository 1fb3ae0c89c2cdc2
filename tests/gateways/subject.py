"""A gateway, and all that may happen to it: what the contract suite is run with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from bot.action import Gateway


class Subject(ABC):
    """
    One kind of gateway, real or a stand-in of its API.

    ``cut`` names (``module:Class.method``) what makes the remote write: a process is killed right
    after its first call. ``adapter_class`` is made with `arguments`. ``writes_once`` tells whether
    one such call brings the gateway to a set; if not, a writing that was cut is completed.
    """

    kind: ClassVar[str]
    adapter_class: ClassVar[type[Any]]
    cut: ClassVar[str]
    writes_once: ClassVar[bool] = True
    gateway: Gateway

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return what the adapter is made with: plain data that can be pickled."""

    def adapter(self, **changes: Any) -> Any:
        """Return the adapter as a start of Firedoor would make it."""
        return self.adapter_class(**{**self.arguments(), **changes})

    @abstractmethod
    def start(self) -> None:
        """Start the gateway if it does not run, with what it had when it stopped, if it keeps
        anything; return once it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End it, as a crash would."""

    @abstractmethod
    def close(self) -> None:
        """End everything for good."""

    @abstractmethod
    def writes(self) -> object:
        """Return something that changes whenever the gateway's configuration is written."""

    @abstractmethod
    def export(self) -> bytes:
        """Return the whole configuration as an operator would export it, Firedoor's part and
        theirs; without what changes by itself, as times and counters."""

    @abstractmethod
    def edit_theirs(self) -> None:
        """Be an operator who changes the part that is theirs, in the way that is theirs."""

    @abstractmethod
    def has_their_edit(self) -> bool:
        """Tell whether that change is still there, and served if it can be."""

    @abstractmethod
    def edit_ours(self) -> None:
        """Be another hand that changes Firedoor's own part behind its back."""

    @abstractmethod
    def refuse(self) -> None:
        """Make the gateway refuse what it is given from now on; it serves on."""

    @abstractmethod
    def accept(self) -> None:
        """End `refuse`, and take `edit_theirs` back."""

    @abstractmethod
    def garble(self) -> None:
        """Make it give answers from now on that are none of its own."""

    @abstractmethod
    def ungarble(self) -> None: ...
