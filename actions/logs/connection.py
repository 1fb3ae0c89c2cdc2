"""Connection to access logs that lie in files."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from actions.logs.schema import KINDS
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable


@dataclass(frozen=True)
class AccessLogs:
    """
    The access logs of one gateway.

    Attributes:
        name: As ``firedoor.yaml`` names it.

        kind: How a line is written; one of ``KINDS``.

        files: Absolute globs. ``.gz`` files are read too. Rotated files belong in here: what no
            glob matches is not searched.
    """

    name: str
    kind: str = "envoy_json"
    files: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(
                f"Log {self.name!r} is of the unknown kind {self.kind!r} and cannot be read; "
                f"use one of: {', '.join(KINDS)}."
            )

    @property
    def columns(self) -> Mapping[str, str]:
        """Canonical column → key in a line."""
        return KINDS[self.kind]

    def paths(self) -> tuple[str, ...]:
        """Return the files that exist now, sorted.

        Raises:
            ProviderUnreachable: There is none.
        """
        found = sorted(
            {
                path
                for pattern in self.files
                for path in glob.glob(pattern, recursive=True)
                if os.path.isfile(path)
            }
        )
        if not found:
            raise ProviderUnreachable(
                f"No file matches {', '.join(self.files) or 'an empty list'} of log "
                f"{self.name!r}, so no access can be searched; check the paths under logs in "
                "firedoor.yaml and that the gateway writes there."
            )
        return tuple(found)

    def check(self) -> str:
        """Say what is there: number, size and age of the files.

        Raises:
            ProviderUnreachable: No file matches.

            ProviderRefused: A file may not be read.
        """
        paths = self.paths()
        for path in paths:
            if not os.access(path, os.R_OK):
                raise ProviderRefused(
                    f"{path} of log {self.name!r} may not be read by this user, so accesses in "
                    "it would be missed; let the user that runs Firedoor read it."
                )
        stats = [os.stat(path) for path in paths]
        size_mb = sum(stat.st_size for stat in stats) / 1e6
        newest = datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC)
        noun = "file" if len(paths) == 1 else "files"
        return (
            f"{self.kind}, {len(paths)} {noun}, {size_mb:.1f} MB, "
            f"last written {newest:%Y-%m-%d %H:%M:%S} UTC"
        )
