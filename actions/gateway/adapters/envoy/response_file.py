"""Firedoor's own file of routes: one DiscoveryResponse, whose version is a hash over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from actions.gateway.adapters.envoy.routes import version_of
from actions.gateway.own_file import OwnFile
from bot.errors import ProviderUnreachable


class ResponseFile(OwnFile):
    """While Envoy has not taken what is in it, the content that it took last is kept beside it."""

    def stamp(self) -> tuple[int, int] | None:
        """Return what tells this writing of the file from any other: its inode, and when it was
        changed, in ns. None if it is not there. Raises ProviderUnreachable."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("read", error) from None
        return status.st_ino, status.st_mtime_ns

    def beside(self, suffix: str) -> Path:
        """Return a name in the folder of drafts. Raises ProviderUnreachable."""
        try:
            return super().beside(suffix)
        except OSError as error:
            raise self._unusable("written", error) from None

    @property
    def before(self) -> Path:
        """Where the content that Envoy took last is kept, if it is."""
        return self.beside("before")

    def keep_before(self, on_disk: bytes | None) -> None:
        """
        Keep what Envoy last took, unless an interrupted attempt has kept it already.

        Raises:
            ProviderUnreachable: The disk does not take it; nothing was changed.
        """
        if on_disk is None or self.before.exists():
            return
        try:
            self.before.write_bytes(on_disk)
        except OSError as error:
            raise ProviderUnreachable(
                f"The routes of gateway {self._gateway} cannot be kept in {self.before} "
                f"({error.strerror}); the gateway was not changed. Mend the disk or its rights."
            ) from None

    def forget_before(self) -> None:
        """Envoy has taken what is in the file."""
        self.before.unlink(missing_ok=True)

    def read_before(self) -> bytes | None:
        """Return the content that Envoy took last, if it is kept. Raises ProviderUnreachable."""
        try:
            return self.before.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("read", error) from None


def text_of(response: dict[str, Any]) -> bytes:
    """Return a DiscoveryResponse as it is written into the file."""
    # Compact: with an indent Python encodes it some twenty times as slowly.
    return (json.dumps(response, sort_keys=True) + "\n").encode()


def version_in(content: bytes | None) -> str | None:
    """Return the version that a file's content says it is; None if it is none of ours."""
    try:
        return str(json.loads(content or b"")["version_info"])
    except (ValueError, TypeError, KeyError):
        return None


def config_in(content: bytes | None) -> tuple[str, dict[str, Any]] | None:
    """Return version and RouteConfiguration of a file's content; None if the version is not the
    hash of the routes, as Firedoor writes it."""
    try:
        response = json.loads(content or b"")
        config = dict(response["resources"][0])
        version = response["version_info"]
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    config.pop("@type", None)
    return (version, config) if version == version_of(config) else None


def is_ours(content: bytes) -> bool:
    """Tell whether a file's content is as Firedoor writes it."""
    return config_in(content) is not None
