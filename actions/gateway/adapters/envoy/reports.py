"""What the nodes of a fleet report, and how a process that does not listen to them learns of it.

One process has the nodes' streams. It writes their reports into a file beside the snapshot, and
holds a lock for as long as it listens; so what is in the file counts only while the lock is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Protocol

from bot.errors import ProviderUnreachable

Stamp = tuple[int, int]
"""Tells one writing of a file from another: its inode, and when it was changed, in ns."""

POLL_S = 0.005

_LOCK_TRIES = 5
_LOCK_PAUSE_S = 0.01


@dataclass(frozen=True)
class Node:
    """
    A node with a stream.

    Attributes:
        version: Of the routes that it acknowledged last; empty if it has none.

        owes: Whether it has yet to answer what it was sent, or is to be sent.

        asks: Names of the route configurations that it asks for.
    """

    version: str = ""
    owes: bool = False
    asks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """``why`` is in Envoy's own words."""

    version: str
    why: str


@dataclass(frozen=True)
class Report:
    """
    Attributes:
        stamp: The writing of the snapshot that the nodes are being brought to; None if there is
            none that can be served.

        route_name: Name of its route configuration.

        nodes: Those with a stream, by node id.

        refusals: What nodes refused last, by node id, unless they have acknowledged it since.

        clashing: Ids that several nodes seem to have: they take each other's streams, and only
            one of them is known at a time.

        awaited: Ids of nodes that had a stream before the listener was started anew, and have
            not come back yet. They are not waited for for ever.
    """

    stamp: Stamp | None = None
    route_name: str = ""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    awaited: tuple[str, ...] = ()
    clashing: tuple[str, ...] = ()

    def refused(self, version: str) -> dict[str, str]:
        """Return why nodes refuse a version, by node id."""
        return {
            node: refusal.why
            for node, refusal in sorted(self.refusals.items())
            if refusal.version == version
        }

    def lacking(self, version: str, expected: tuple[str, ...]) -> dict[str, str]:
        """Return which nodes do not have a version, each with what it does instead."""
        found = {
            node: self._says(each)
            for node, each in sorted(self.nodes.items())
            if each.version != version
        }
        found |= dict.fromkeys(self.clashing, "is the id of several nodes: give each its own")
        found |= dict.fromkeys(self.awaited, "is not back since Firedoor's start")
        gone = [node for node in expected if node not in self.nodes and node not in found]
        return found | dict.fromkeys(gone, "is not connected")

    def commonest(self) -> str:
        """Return the version that most nodes have; empty if none has any."""
        versions = Counter(each.version for each in self.nodes.values() if each.version)
        return max(versions, key=lambda version: (versions[version], version), default="")

    def _says(self, node: Node) -> str:
        if self.route_name and self.route_name not in node.asks:
            asked = ", ".join(node.asks) or "none"
            return f"asks for routes {asked}, not {self.route_name}"
        return f"has {node.version or 'none'}"


class Reports(Protocol):
    """Where the reports of a fleet's nodes are read."""

    def read(self) -> Report:
        """Return what is known now. Raises ProviderUnreachable."""

    def settled(self, stamp: Stamp, timeout_s: float) -> Report:
        """
        Wait until every node has answered this writing of the snapshot; return what is known then,
        or when the time is over.

        Raises:
            ProviderUnreachable: Nothing is known.
        """


def is_settled(report: Report, stamp: Stamp) -> bool:
    """Tell whether no node owes an answer about this writing of the snapshot."""
    return (
        report.stamp == stamp
        and not report.awaited
        and not any(node.owes for node in report.nodes.values())
    )


class ReportFile:
    """
    Implements `Reports` for processes that do not listen, and keeps the file for the one that does.

    Args:
        gateway: Name of the gateway, for messages.
    """

    def __init__(self, gateway: str, path: Path, lock: Path) -> None:
        self._gateway, self._path, self._lock = gateway, path, lock

    def read(self) -> Report:
        if not self._is_locked():
            raise ProviderUnreachable(
                f"No process of Firedoor listens to the nodes of gateway {self._gateway}, so "
                "nothing is known of their routes; they serve on with what they had. "
                "Start `firedoor serve`."
            )
        return self.last()

    def settled(self, stamp: Stamp, timeout_s: float) -> Report:
        deadline = time.monotonic() + timeout_s
        while True:
            report = self.read()
            if is_settled(report, stamp) or time.monotonic() >= deadline:
                return report
            time.sleep(POLL_S)

    def last(self) -> Report:
        """Return what was written last, by whoever listened. Raises ProviderUnreachable."""
        try:
            return _report_in(self._path.read_bytes())
        except FileNotFoundError:
            return Report()
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ProviderUnreachable(
                f"What the nodes of gateway {self._gateway} report cannot be read from "
                f"{self._path} ({type(error).__name__}); nothing is known of their routes. "
                "Firedoor writes it anew with the next report; see whether its disk is full."
            ) from None

    def write(self, report: Report) -> None:
        """Replace the file; a reader sees the old or the new one. Raises OSError; then there is
        none, as an old one would be believed."""
        draft = self._path.with_suffix(".part")
        try:
            draft.write_text(json.dumps(asdict(report)))
            draft.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            raise

    def lock(self) -> IO[str] | None:
        """Return the lock of who listens, held until it is closed or the process ends; None if
        another has it. Raises OSError."""
        file = self._lock.open("a+")
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE_S)  # who only looks whether it is held has it for a moment
            else:
                return file
        file.close()
        return None

    def _is_locked(self) -> bool:
        try:
            with self._lock.open("r") as file:
                # Shared, so that several may look at once.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            raise ProviderUnreachable(
                f"Whether a process listens to the nodes of gateway {self._gateway} cannot be seen "
                f"at {self._lock} ({error.strerror}); nothing is known of their routes. "
                "Mend the rights of its folder."
            ) from None
        return False


def _report_in(content: bytes) -> Report:
    found = json.loads(content)
    return Report(
        stamp=None if found["stamp"] is None else (int(found["stamp"][0]), int(found["stamp"][1])),
        route_name=str(found["route_name"]),
        nodes={
            str(name): Node(str(node["version"]), bool(node["owes"]), tuple(node["asks"]))
            for name, node in found["nodes"].items()
        },
        refusals={
            str(name): Refusal(str(each["version"]), str(each["why"]))
            for name, each in found["refusals"].items()
        },
        awaited=tuple(found["awaited"]),
        clashing=tuple(found.get("clashing", ())),
    )
