"""A gateway that is told what to do by one object of Firedoor's own.

The object exists only while something is in force. It says whose it is by a label, and in an
annotation which version it holds. What counts is its content: the annotation only tells an edit by
another hand from another version.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.kept import keep
from actions.gateway.adapters.kubernetes.client import KubernetesClient, Object, Place
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.base import digest_of
from bot.model.containment import Control

MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "firedoor"
VERSION = "firedoor/version"

Spec = dict[str, Any]


class OwnObjectGateway(ABC):
    """
    Implements ``bot.action.Gateway`` but for what the object says.

    Args:
        object_name: Of Firedoor's object.

        kept_dir: A folder for what another hand had made of it.
    """

    def __init__(
        self,
        *,
        name: str,
        client: KubernetesClient,
        place: Place,
        object_name: str,
        kept_dir: Path,
    ) -> None:
        self._name, self._kept_dir = name, kept_dir
        self._client, self._place, self._object_name = client, place, object_name
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    @abstractmethod
    def supports(self, control: Control) -> Support: ...

    @abstractmethod
    def _spec(self, controls: Sequence[Control]) -> Spec | None:
        """Return what the object says; None if there is to be none. Pure."""

    def _refuse_unfit(self, controls: Sequence[Control]) -> None:
        """Raise ProviderRefused for what would not do what it says, before anything is written."""
        del controls

    def _why_not_taken(self, seen: Object) -> str:
        """Say why the gateway does not (yet) do what the object says; empty if it does, or if it
        does not tell."""
        del seen
        return ""

    def _settle(self, wanted: str, before: Object | None) -> None:
        """Return once the gateway reports the version.

        Args:
            before: The object as it was before the write.
        """
        del before
        reported = self.observe()
        if reported != wanted:
            raise ProviderUnreachable(
                f"Gateway {self._name} reports version {reported or '(none)'} after {wanted} was "
                "written: another hand changes it too. The containment may not be in force; it is "
                f"tried again. See who writes {self._place.plural} {self._object_name}."
            )

    def version_of(self, controls: Sequence[Control]) -> str:
        return version_of(self._spec(controls))

    def prepare(self) -> None:
        """Make nothing: an API server needs nothing of Firedoor's to start."""
        return

    def shadow_hits(self, control: Control) -> int:
        raise BadInput(
            f"Gateway {self._name} has no shadow of {control.endpoint}: it counts nothing that "
            "Firedoor can read."
        )

    def observe(self) -> str:
        """Return the version that the API server has; marked if it was edited by another hand, or
        if the gateway says that it does not do it."""
        seen = self._client.find(self._place, self._object_name)
        if seen is None:
            return version_of(None)
        reported = _reported(seen)
        why = self._why_not_taken(seen)
        return f"{reported}, {why}" if why else reported

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring the object to exactly this set and return the version reported.

        Raises:
            Conflict: Another writer was faster; nothing was written.

            ProviderUnreachable: No usable answer, or the version is not reported in time.

            ProviderRefused: The API server or the gateway refuses it, or an object of this name
                is not Firedoor's. What was in force is in force still.
        """
        spec = self._spec(controls)
        wanted = version_of(spec)
        with self._writing:
            seen = self._client.find(self._place, self._object_name)
            if seen is not None and not _is_ours(seen):
                raise ProviderRefused(
                    f"{self._place.kind} {self._object_name} of gateway {self._name} is not "
                    f"Firedoor's: it has no label {MANAGED_BY}={OWNER}; nothing was written. "
                    "Rename it."
                )
            if (seen is None and spec is None) or (
                seen is not None and _reported(seen) == wanted and not self._why_not_taken(seen)
            ):
                return wanted
            if spec is not None:
                self._refuse_unfit(controls)
            is_edited = seen is not None and _is_edited(seen)
            kept = keep(self._kept_dir, self._name, seen) if is_edited else ""
            self._write(spec, seen, writing)
            if kept:
                writing.displaced(
                    f"{self._place.kind} {self._object_name} of gateway {self._name} had been "
                    f"changed by another hand and was replaced; {kept}. Make lasting changes in an "
                    "object of your own."
                )
            self._settle(wanted, seen)
        return wanted

    def _write(self, spec: Spec | None, seen: Object | None, writing: Writing) -> None:
        writing.begin()
        if spec is None:
            if seen is not None:
                self._client.delete(self._place, seen)
        elif seen is None:
            self._client.create(self._place, self._manifest(spec, {}))
        else:
            self._client.replace(self._place, self._manifest(spec, seen["metadata"]))

    def _manifest(self, spec: Spec, metadata: Mapping[str, Any]) -> Object:
        """Return the object, with what others have put into the metadata of the one that is."""
        annotations = {**(metadata.get("annotations") or {}), VERSION: version_of(spec)}
        own = {
            "name": self._object_name,
            "namespace": self._place.namespace,
            "labels": {**(metadata.get("labels") or {}), MANAGED_BY: OWNER},
            "annotations": annotations,
        }
        return {
            "apiVersion": f"{self._place.group}/{self._place.version}",
            "kind": self._place.kind,
            "metadata": {**metadata, **own},
            "spec": spec,
        }


def version_of(spec: Spec | None) -> str:
    """Return the version of what an object says: 12 digits of a hash over all of it."""
    return digest_of(spec or {})[:12]


def _is_ours(seen: Object) -> bool:
    return bool((seen["metadata"].get("labels") or {}).get(MANAGED_BY) == OWNER)


def _is_edited(seen: Object) -> bool:
    annotated = (seen["metadata"].get("annotations") or {}).get(VERSION)
    return bool(annotated != version_of(seen.get("spec")))


def _reported(seen: Object) -> str:
    version = version_of(seen.get("spec"))
    return f"{version}, edited" if _is_edited(seen) or not _is_ours(seen) else version
