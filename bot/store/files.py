"""Evidence on disk, named by its SHA-256, written so that a crash leaves all of it or nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bot.errors import Failed, NotFound, StoreUnavailable


class FolderFiles:
    """Implements ``bot.ports.EvidenceFiles`` in a folder that only its owner can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        target = self._folder / sha256
        if target.exists():
            return sha256
        draft = self._folder / f".{sha256}.{os.getpid()}.part"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StoreUnavailable(
                f"Evidence cannot be written to {self._folder} ({error.strerror}); nothing more "
                "is done until it can. Free disk space or mend its permissions."
            ) from error
        return sha256

    def get(self, sha256: str) -> bytes:
        try:
            content = (self._folder / sha256).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"No evidence has the SHA-256 {sha256}.") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Failed(
                f"The evidence {sha256} was altered on disk; it cannot be trusted. "
                "Restore it from a backup."
            )
        return content

    def path(self, sha256: str) -> str:
        return str(self._folder / sha256)
