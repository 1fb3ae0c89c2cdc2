"""Amazon API Gateway (REST), by the settings of a stage's methods and by API keys.

It can slow an endpoint down, and disable an API key. It cannot close an endpoint, or block an
address, so that a close is sure and undone exactly: that takes a resource policy or another
integration, which work only once the API is deployed, and a deployment ships everything that
anybody has changed in the API since the last one. API Gateway has no call that tells whether there
is such a change. AWS WAF in front of the stage can do both.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actions.gateway.adapters.aws_api_gateway.stage import (
    UNFINISHED,
    Patch,
    Stage,
    applied,
    forgotten,
    marked,
    noted,
    unmarked,
)
from actions.gateway.adapters.aws_api_gateway.wanted import Api, Wanted, wanted_of
from actions.gateway.adapters.aws_client import AwsClient, unknown_answer
from actions.gateway.adapters.kept import keep
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.answers import REFUSED, THROTTLED
from bot.model.containment import Control, ControlKind, PrincipalKind

MAX_OPERATIONS = 80
"""In one call; API Gateway refuses more."""

_DEPLOYS = (
    "it would need a deployment of the API, which also ships every change that others have not "
    "deployed yet, and API Gateway does not tell whether there is one; AWS WAF before it can"
)

_EVERYWHERE = (
    "API Gateway can only disable the key as a whole: its holder is refused at every endpoint of "
    "every API that asks for it."
)


class AwsApiGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads.

    API Gateway's limits are best effort: AWS says not to rely on them to block. They count each
    method by itself, so a route may get the rate once for each of its methods. Its answers are its
    own (429, 403), with a body of its own.

    API Gateway knows no precondition for a change. So a stage is read again right before it is
    written, and after; between the two, some milliseconds, another writer is not noticed.

    Args:
        rest_api_id: Of a REST API (not an HTTP API).

        stage: Name of the stage that serves.

        kept_dir: A folder for what another hand had made of Firedoor's part.

        base_path: What the paths of the inventory begin with and the API's own do not: the base
            path mapping of a custom domain, or ``/`` and the stage's name.

        disable_api_keys: Whether a block of an API key may disable it. An API key is named by its
            name, which must be one key's only. It is disabled as a whole: its holder is refused
            at every endpoint of every API that asks for it, not only at the one of the control.

        endpoint_url: None for the real AWS.
    """

    def __init__(
        self,
        *,
        name: str,
        rest_api_id: str,
        stage: str,
        region: str,
        kept_dir: Path,
        access_key_id: str,
        secret_access_key: str,
        base_path: str = "",
        disable_api_keys: bool = False,
        endpoint_url: str | None = None,
    ) -> None:
        self._name, self._kept_dir = name, kept_dir
        self._rest_api_id, self._stage_name = rest_api_id, stage
        self._base_path, self._disable_api_keys = base_path, disable_api_keys
        self._writing = threading.Lock()
        self._aws = AwsClient(
            gateway=name,
            service="apigateway",
            region=region,
            endpoint_url=endpoint_url,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
        )

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        if control.kind is ControlKind.THROTTLE:
            return Support(ok=True, best_effort=True, own_status=THROTTLED.status)
        kinds = {principal.kind for principal in control.principals}
        if control.kind is ControlKind.BLOCK and kinds == {PrincipalKind.API_KEY}:
            if self._disable_api_keys:
                return Support(ok=True, own_status=REFUSED.status, wider=_EVERYWHERE)
            why = "an API key can only be disabled as a whole, and that is not allowed here"
            return Support(
                ok=False,
                why=f"{why} (`disable_api_keys` in firedoor.yaml)",
                nearest=ControlKind.THROTTLE,
            )
        if control.kind is ControlKind.SHADOW:
            return Support(ok=False, why="API Gateway counts nothing that it lets through")
        return Support(ok=False, why=_DEPLOYS, nearest=ControlKind.THROTTLE)

    def version_of(self, controls: Sequence[Control]) -> str:
        return wanted_of(controls).version

    def prepare(self) -> None:
        """Nothing is needed to start."""

    def shadow_hits(self, control: Control) -> int:
        raise BadInput(
            f"Gateway {self._name} has no shadow of {control.endpoint}: API Gateway counts nothing "
            "that it lets through."
        )

    def observe(self) -> str:
        """Return the version that the stage has; marked if its part of Firedoor's is not as it was
        written, or not wholly. Empty if there is no such stage."""
        stage = self._read()
        return "" if stage is None else self._reported(stage)

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring the stage and the API keys to exactly this set and return the version reported.

        Raises:
            Conflict: Another writer was faster; nothing was written.

            ProviderUnreachable: No usable answer; what was begun is finished by calling again.

            ProviderRefused: API Gateway refuses it, or has no such method, stage or API key.
        """
        wanted = wanted_of(controls)
        with self._writing:
            stage = self._read()
            if stage is None:
                raise ProviderRefused(
                    f"REST API {self._rest_api_id} of gateway {self._name} has no stage "
                    f"{self._stage_name}; nothing was written. Correct it in firedoor.yaml."
                )
            before = self._reported(stage)
            if before == wanted.version:
                return wanted.version
            is_edited = before.endswith("edited")
            kept = keep(self._kept_dir, self._name, stage.own_part()) if is_edited else ""
            self._bring(wanted, stage, writing)
            if kept:
                writing.displaced(
                    f"What Firedoor holds at stage {self._stage_name} of gateway {self._name} had "
                    f"been changed by another hand and was replaced; {kept}."
                )
            reported = self.observe()
            if reported != wanted.version:
                raise ProviderUnreachable(
                    f"Gateway {self._name} reports version {reported or '(none)'} after "
                    f"{wanted.version} was written: another hand changes it too. The containment "
                    "may not be in force; it is tried again. See who writes to the stage."
                )
        return wanted.version

    # --- writing ---------------------------------------------------------------------------------

    def _bring(self, wanted: Wanted, stage: Stage, writing: Writing) -> None:
        """Change methods first, then API keys; what is under way stands in the stage until all is
        done, so that whoever comes next can finish it."""
        api = self._api() if not wanted.is_empty else Api(self._name, (), self._base_path)
        groups = stage.limited(api.limits(wanted))
        api.refuse_keyless(wanted)
        disable = {self._key_id(name) for name in wanted.blocked}
        enable = set(stage.noted_keys) - disable
        enabled = {key: self._is_enabled(key) for key in disable}
        new_notes = [
            [noted(key, was_enabled=bool(enabled[key]))]
            for key in sorted(disable - set(stage.noted_keys))
        ]
        done = applied(stage, [*groups, *new_notes, [forgotten(key) for key in enable]])
        last = [forgotten(key) for key in sorted(enable)]
        if not wanted.is_empty:
            last.append(marked(wanted.version, done.check(dict.fromkeys(disable, False))))
        at_once = [*groups, *new_notes, last]
        if disable or enable or sum(map(len, at_once)) > MAX_OPERATIONS:
            begun = [marked(wanted.version, UNFINISHED)]
            for batch in _batches([begun, *groups, *new_notes]):
                self._patch(batch, stage, writing)
                stage = applied(stage, batch)
            self._switch_keys(disable, enable, stage, writing)
            at_once = [last]
        if wanted.is_empty and stage.version:
            last.append(unmarked())
        self._patch(at_once, stage, writing)

    def _patch(self, groups: Sequence[Sequence[Patch]], stage: Stage, writing: Writing) -> None:
        """Write operations in one call, if the stage is still as it was read."""
        operations = [operation for group in groups for operation in group]
        if not operations:
            return
        writing.begin()
        now = self._read()
        if now is None or _comparable(now) != _comparable(stage):
            raise Conflict(
                f"Stage {self._stage_name} of gateway {self._name} was changed by another writer "
                "just now; nothing was written. It is read and tried again."
            )
        self._update_stage(operations)

    def _update_stage(self, operations: Sequence[Patch]) -> None:
        self._aws.write(
            "update_stage",
            restApiId=self._rest_api_id,
            stageName=self._stage_name,
            patchOperations=list(operations),
        )

    def _switch_keys(
        self, disable: set[str], enable: set[str], stage: Stage, writing: Writing
    ) -> None:
        """Disable API keys; enable those that Firedoor had disabled, and nobody before."""
        switches = dict.fromkeys(disable, False)
        switches |= {key: True for key in enable if stage.noted_keys[key]}
        for key, on in sorted(switches.items()):
            if self._is_enabled(key) is (not on):
                writing.begin()
                self._aws.write(
                    "update_api_key",
                    apiKey=key,
                    patchOperations=[
                        {"op": "replace", "path": "/enabled", "value": str(on).lower()}
                    ],
                )

    # --- reading ---------------------------------------------------------------------------------

    def _read(self) -> Stage | None:
        answer = self._aws.find(
            "get_stage", restApiId=self._rest_api_id, stageName=self._stage_name
        )
        if answer is None:
            return None
        try:
            if answer["stageName"] != self._stage_name:
                raise unknown_answer(self._name, "its stage")
            return Stage(answer)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise unknown_answer(self._name, "its stage") from None

    def _reported(self, stage: Stage) -> str:
        nothing = wanted_of(()).version
        if not stage.version:
            return f"{nothing}, edited" if stage.has_notes else nothing
        if stage.is_unfinished:
            return f"{stage.version}, unfinished"
        enabled = {key: self._is_enabled(key) for key in stage.noted_keys}
        is_as_written = stage.written_check == stage.check(enabled)
        return stage.version if is_as_written else f"{stage.version}, edited"

    def _api(self) -> Api:
        found: list[Mapping[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            answer = self._aws.find(
                "get_resources",
                restApiId=self._rest_api_id,
                embed=["methods"],
                limit=500,
                **more,
            )
            try:
                found += (answer or {})["items"]
                position = (answer or {}).get("position")
                if not position:
                    return Api(self._name, found, self._base_path)
            except (AttributeError, KeyError, TypeError):
                raise unknown_answer(self._name, "its resources") from None
            more = {"position": position}

    def _key_id(self, name: str) -> str:
        """Return the id of the one API key of this name."""
        answer = self._aws.find("get_api_keys", nameQuery=name, includeValues=False, limit=500)
        try:
            ids = [str(each["id"]) for each in (answer or {})["items"] if each["name"] == name]
        except (KeyError, TypeError):
            raise unknown_answer(self._name, "its API keys") from None
        if len(ids) != 1:
            raise ProviderRefused(
                f"{len(ids)} API keys at gateway {self._name} are named {name!r}, and a block is "
                "about one; nothing was written. Give the key a name of its own."
            )
        return ids[0]

    def _is_enabled(self, key_id: str) -> bool | None:
        """Tell whether an API key works; None if it is gone."""
        answer = self._aws.find("get_api_key", apiKey=key_id, includeValue=False)
        return None if answer is None else bool(answer.get("enabled"))


def _comparable(stage: Stage) -> Any:
    """Return all that a change is built on."""
    return stage.variables, {key: str(stage.limit(key)) for key in stage.settings}


def _batches(groups: Sequence[Sequence[Patch]]) -> list[list[Sequence[Patch]]]:
    """Split groups over calls; a group stays whole."""
    batches: list[list[Sequence[Patch]]] = [[]]
    for group in groups:
        if sum(map(len, batches[-1])) + len(group) > MAX_OPERATIONS:
            batches.append([])
        batches[-1].append(group)
    return batches
