"""A file that only Firedoor writes, which a gateway reads."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.action import Writing
from bot.errors import Conflict, ProviderUnreachable


class OwnFile:
    """
    Args:
        gateway: Name of the gateway, for messages.

        path: The file. Its folder must be there.

        drafts: A folder on the same file system for drafts and what was set aside; made if it is
            not there. A gateway that watches a folder must not see it as part of that.
    """

    def __init__(self, gateway: str, path: Path, drafts: Path | None = None) -> None:
        self._gateway = gateway
        self.path = path
        self._drafts = drafts or path.parent / ".firedoor"

    def read(self) -> bytes | None:
        """Return its content; None if it is not there. Raises ProviderUnreachable."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("read", error) from None

    def replace(self, content: bytes, expected: bytes | None, writing: Writing | None) -> None:
        """
        Replace it in one step that a reader sees once, and that survives a power cut.

        Args:
            expected: What it held when the caller decided to write.

        Raises:
            Conflict: It holds something else by now; nothing was written.

            ProviderUnreachable: It cannot be written; nothing was.
        """
        if writing is not None:
            writing.begin()
        try:
            with self._only_writer():
                if self.read() != expected:
                    raise Conflict(
                        f"{self.path} of gateway {self._gateway} was changed by another writer "
                        "just now; nothing was written. It is read and tried again."
                    )
                draft = self._drafts / self.path.name
                with draft.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self.path)
        except OSError as error:
            raise self._unusable("written", error) from None

    def replace_others(self, content: bytes, others: bytes, writing: Writing, instead: str) -> None:
        """
        Replace what another hand wrote: keep it first, and say where it is.

        Args:
            others: What is in the file.

            instead: Where lasting changes are to be made.

        Raises:
            Conflict, ProviderUnreachable: As `replace` and `set_aside`; nothing was written.
        """
        kept = self.set_aside(others)
        self.replace(content, others, writing)
        writing.displaced(
            f"{self.path} had been changed by another hand and was replaced; what it held is in "
            f"{kept}. Make lasting changes in {instead}."
        )

    def make_folder(self) -> None:
        """Make the folder that it is in, if that is not there. Raises ProviderUnreachable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable("written", error) from None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def set_aside(self, content: bytes) -> Path:
        """
        Keep what another hand wrote, before it is replaced; return where. The same content is kept
        once.

        Raises:
            ProviderUnreachable: It cannot be kept; then it must not be replaced.
        """
        kept = self._drafts / f"{self.path.name}.other-{hashlib.sha256(content).hexdigest()[:12]}"
        try:
            self._drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept.write_bytes(content)
        except OSError as error:
            raise ProviderUnreachable(
                f"What another hand wrote into {self.path} of gateway {self._gateway} cannot be "
                f"kept in {kept} ({error.strerror}); the gateway was not changed. Mend the disk or "
                "its rights."
            ) from None
        return kept

    def beside(self, suffix: str) -> Path:
        """Return a name in the folder of drafts."""
        self._make_drafts()
        return self._drafts / f"{self.path.name}.{suffix}"

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        """Keep other processes of Firedoor on this machine out; the lock ends with the process."""
        self._make_drafts()
        with (self._drafts / f"{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_drafts(self) -> None:
        try:
            self._drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable("written", error) from None

    def _unusable(self, verb: str, error: OSError) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"{self.path} of gateway {self._gateway} cannot be {verb} ({error.strerror}); the "
            "gateway was not changed. Mend the disk or its rights."
        )
