"""What is kept on disk: the workspace as it is, and everything that anybody ever sent.

``workspace.jsonl`` holds one line for each change (a whole object each time, the last one counts)
and is written anew at each start. ``received.jsonl`` only grows: each Web API call with its
arguments, each acknowledgement, each upload, each word of a person. A test searches it for a
secret that must not be in Slack. The one thing left out is the token that a call shows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

Json = dict[str, Any]


class Archive:
    """The files of one stand-in. One process at a time may have it open."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.uploads = directory / "uploads"
        self.uploads.mkdir(exist_ok=True, mode=0o700)
        self._workspace_path = directory / "workspace.jsonl"
        self.received_path = directory / "received.jsonl"
        self._workspace: TextIO | None = None
        self._received = _append(self.received_path)

    def load(self) -> list[tuple[str, Json]]:
        """Return the kept changes as kind and object, oldest first."""
        return list(_read(self._workspace_path))

    def begin(self, objects: list[tuple[str, Json]]) -> None:
        """Replace the kept changes by these objects; later changes are added to them."""
        fresh = self._workspace_path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with _append(fresh) as file:
            file.writelines(_line({"kind": kind, "object": value}) for kind, value in objects)
        fresh.replace(self._workspace_path)
        self._workspace = _append(self._workspace_path)

    def keep(self, kind: str, value: Json) -> None:
        """Add a change. Needs `begin` first."""
        assert self._workspace is not None, "begin() opens the file"  # noqa: S101 - our own order
        self._workspace.write(_line({"kind": kind, "object": value}))
        self._workspace.flush()

    def receive(self, at_s: float, door: str, what: Json) -> None:
        """Add to the record of what came in. ``door``: api, ack, upload, response_url, person."""
        self._received.write(_line({"at_s": at_s, "door": door, **what}))
        self._received.flush()

    def dump(self) -> str:
        """Return everything that anybody ever sent, as JSON lines."""
        return self.received_path.read_text(encoding="utf-8")

    def close(self) -> None:
        """Close the files."""
        self._received.close()
        if self._workspace is not None:
            self._workspace.close()


def _append(path: Path) -> TextIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a", encoding="utf-8")


def _line(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _read(path: Path) -> Iterator[tuple[str, Json]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        # What follows the last line end was cut off by a kill in the middle of a write.
        change = json.loads(line)
        yield change["kind"], change["object"]
