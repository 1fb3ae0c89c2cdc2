"""Firedoor's maps in files, from which HAProxy comes up."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from actions.gateway.adapters.haproxy.maps import NAMES, Entries, Maps, lines, parsed, steps
from actions.gateway.own_file import OwnFile
from bot.errors import Conflict, ProviderUnreachable


class KeptMaps:
    """
    Args:
        gateway: Its name, for messages.

        folder: Of the three files; made if it is not there. Its folder ``.firedoor`` is for
            drafts, and for what another hand wrote.
    """

    def __init__(self, gateway: str, folder: Path) -> None:
        self._gateway = gateway
        self.folder = folder
        self.paths = tuple(folder / f"{name}.map" for name in NAMES)
        self._files = {
            name: OwnFile(gateway, path) for name, path in zip(NAMES, self.paths, strict=True)
        }

    def read(self) -> Maps:
        """Return what the files hold; of one that is not there, nothing."""
        routes, networks, members = (_entries(file.read()) for file in self._files.values())
        return Maps(routes, networks, members)

    def write(self, wanted: Maps) -> None:
        """Lead the files from what they hold to what is wanted, so that HAProxy may be started at
        any moment. Raises ProviderUnreachable."""
        for step in steps(self.read(), wanted):
            file = self._files[step.name]
            file.replace(_text(step.entries), file.read(), None)

    def prepare(self, empty: Maps) -> None:
        """Write the files that are not there yet."""
        for name, file in self._files.items():
            if file.read() is None:
                with contextlib.suppress(Conflict):  # then another process has just written it
                    file.replace(_text(empty.of(name)), None, None)

    @contextlib.contextmanager
    def only_writer(self) -> Iterator[None]:
        """Keep other processes of Firedoor on this machine out; the lock ends with the process."""
        try:
            with self._files["routes"].beside("writer").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise ProviderUnreachable(
                f"{self.folder} of gateway {self._gateway} cannot be written "
                f"({error.strerror}); the gateway was not changed. Mend the disk or its rights."
            ) from None

    def set_aside(self, found: dict[str, Maps]) -> Path:
        """Keep maps of another hand; return where. Raises OSError."""
        texts = [
            f"# {name}, {where}\n{_text(maps.of(name)).decode()}"
            for where, maps in found.items()
            for name in NAMES
        ]
        return self._files["routes"].set_aside("".join(texts).encode())


def _text(entries: Entries) -> bytes:
    return "".join(f"{line}\n" for line in lines(entries)).encode()


def _entries(content: bytes | None) -> Entries:
    return parsed((content or b"").decode("utf-8", "replace").splitlines())
