"""nginx, with one included file of Firedoor's own, which takes effect by reloads."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from actions.gateway.adapters.nginx.render import (
    SLOWEST_PER_S,
    Operator,
    render,
    shadow_id,
    version_in,
)
from actions.gateway.adapters.nginx.server import (
    OLD_WORKERS_TIMEOUT_S,
    TAKE_TIMEOUT_S,
    Server,
)
from actions.gateway.own_file import OwnFile
from bot.action import SILENT, Support, Writing
from bot.errors import BadInput, Conflict, ProviderRefused, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind

log = logging.getLogger(__name__)


class NginxGateway:
    """
    Implements ``bot.action.Gateway``. May be used from several threads. It runs on nginx's own
    machine, and sees its processes.

    Args:
        own_file: What the ``http`` block includes, before any server. Its directory gets a
            directory ``.firedoor`` for drafts.

        status_address: A loopback address and port for the server that tells the version.

        pid_file: nginx's ``pid``, by which its master is found.

        test_command: Tests the whole configuration as nginx would load it: ``nginx -t``.

        reload_command: Makes nginx reload. None: the master is sent a HUP, which only its own user
            and root may do.

        endpoints: Keys of all known endpoints; see ``known`` of `render.render`.

        api_key_variable: The variable, without the dollar sign, that holds the name of the API key
            that nginx has checked. The operator promises that callers cannot write it. None: it
            checks none.

        claim_variables: By a claim's name, the variable that holds its value. The operator promises
            that a request has it only after its token was verified (``auth_request_set``), and that
            ``$firedoor_verified_answer`` is looked at after that in every location that serves.

        shadow_log: The log for which the operator wrote ``firedoor_shadow``; not to be rotated.
            None: no shadow is counted.

        folds_case: The services behind take a path in upper case for the same.
    """

    def __init__(
        self,
        *,
        name: str,
        own_file: Path,
        status_address: str = "127.0.0.1:9145",
        pid_file: Path = Path("/run/nginx.pid"),
        test_command: Sequence[str] = ("nginx", "-t"),
        reload_command: Sequence[str] | None = None,
        endpoints: Iterable[str] = (),
        api_key_variable: str | None = None,
        claim_variables: Mapping[str, str] | None = None,
        shadow_log: Path | None = None,
        folds_case: bool = False,
        take_timeout_s: float = TAKE_TIMEOUT_S,
        old_workers_timeout_s: float = OLD_WORKERS_TIMEOUT_S,
    ) -> None:
        self._name = name
        self._file = OwnFile(name, own_file)
        self._known = tuple(sorted(endpoints))
        self._operator = Operator(
            gateway=name,
            status_address=status_address,
            api_key_variable=api_key_variable,
            claim_variables=dict(claim_variables or {}),
            folds_case=folds_case,
        )
        self._server = Server(
            gateway=name,
            own_file=own_file,
            status_address=status_address,
            pid_file=pid_file,
            test_command=tuple(test_command),
            reload_command=None if reload_command is None else tuple(reload_command),
            take_timeout_s=take_timeout_s,
            old_workers_timeout_s=old_workers_timeout_s,
        )
        self._shadow_log = shadow_log
        self._writing = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def supports(self, control: Control) -> Support:
        if control.kind is ControlKind.SHADOW and self._shadow_log is None:
            return _cannot("it has no log to count in (`shadow_log` in firedoor.yaml)")
        if control.rate_per_s is not None and control.rate_per_s < SLOWEST_PER_S:
            why = "nginx limits to one request a minute at the least"
            return Support(ok=False, why=why, nearest=ControlKind.CLOSE)
        for principal in control.principals:
            why = self._why_not(principal)
            if why:
                return _cannot(why)
        return Support(ok=True)

    def version_of(self, controls: Sequence[Control]) -> str:
        return version_in(self._rendered(controls))

    def prepare(self) -> None:
        """Write the file without any control if there is none yet, and the log of shadows: nginx
        does not start without them."""
        own = self._file.path
        try:
            own.parent.mkdir(parents=True, exist_ok=True)
            if not own.exists():
                with contextlib.suppress(Conflict):  # then another process has just written it
                    self._file.replace(self._rendered(()).encode(), None, None)
            if self._shadow_log is not None and not self._shadow_log.exists():
                self._shadow_log.touch()
                # nginx gives logs to its workers' user when it reopens them. By its group Firedoor
                # may still empty this one.
                self._shadow_log.chmod(0o660)
        except OSError as error:
            raise ProviderUnreachable(
                f"{error.filename} of gateway {self._name} cannot be made ({error.strerror}), and "
                "nginx does not start without it. Mend the disk or its rights."
            ) from None

    def observe(self) -> str:
        """Return the version that nginx reports now; marked if the file is not as Firedoor wrote
        it, or if workers from before it was written are still there."""
        reported = self._server.reported()
        if not version_in(_text(self._file.read())):
            return f"{reported}, edited"
        leaving = [worker for worker in self._server.older_workers() if worker.is_leaving]
        return f"{reported}, and older workers" if leaving else reported

    def shadow_hits(self, control: Control) -> int:
        """Return how many requests a shadow has counted since it was the first in force; a request
        is counted when it was answered."""
        if control.kind is not ControlKind.SHADOW or self._shadow_log is None:
            raise BadInput(
                f"Gateway {self._name} counts nothing for {control.kind.value} of "
                f"{control.endpoint}: it is no shadow, or there is no `shadow_log`."
            )
        wanted = shadow_id(control)
        try:
            with self._shadow_log.open(encoding="utf-8", errors="replace") as lines:
                return sum(wanted in line.split() for line in lines)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise ProviderUnreachable(
                f"The log of shadows of gateway {self._name}, {self._shadow_log}, cannot be read "
                f"({error.strerror}), so nothing is known of its counts. Give Firedoor the right."
            ) from None

    def converge(self, controls: Sequence[Control], writing: Writing = SILENT) -> str:
        """
        Bring nginx to exactly this set and return the version that it reports.

        If nginx is down the file is written all the same, so that it starts with the set.

        Raises:
            Conflict: Another writer changed the file meanwhile; nothing was written.

            ProviderUnreachable: nginx does not run or gives no usable answer, the version was not
                taken in time, or old workers are still there.

            ProviderRefused: nginx refuses the configuration; it serves on with the earlier one,
                which is back in the file.
        """
        text = self._rendered(controls)
        content, wanted = text.encode(), version_in(text)
        with self._writing:
            on_disk = self._file.read()
            if self._is_served(on_disk):
                self._before.unlink(missing_ok=True)
                if on_disk == content and self._is_all_there_is():
                    return wanted
            if on_disk != content:
                self._write(content, on_disk, writing)
            try:
                self._server.test()
            except (ProviderRefused, ProviderUnreachable):
                self._put_back(content, on_disk)
                raise
            self._before.unlink(missing_ok=True)
            try:
                self._server.reload(wanted, writing.begin)
            finally:
                self._check_still(content)
            if not any(control.kind is ControlKind.SHADOW for control in controls):
                self._forget_shadows()
            return wanted

    # --- what is wanted ------------------------------------------------------------------------

    def _rendered(self, controls: Sequence[Control]) -> str:
        return render(self._operator, controls, self._known)

    def _why_not(self, principal: Principal) -> str:
        """Say why it cannot know a caller; empty if it can."""
        match principal.kind:
            case PrincipalKind.IP:
                return ""
            case PrincipalKind.API_KEY:
                known = self._operator.api_key_variable is not None
                return "" if known else "it is not said to check API keys (`api_key_variable`)"
        if principal.claim not in self._operator.claim_variables:
            return (
                f"it does not verify tokens itself, and is not said to be handed a verified "
                f"{principal.claim} (`claim_variables`)"
            )
        if not principal.value.isascii() or principal.value != principal.value.strip():
            return "a claim comes to it in a header, where only plain ASCII text is sure to arrive"
        return ""

    # --- the file ------------------------------------------------------------------------------

    @property
    def _before(self) -> Path:
        return self._file.beside("before")

    def _is_served(self, on_disk: bytes | None) -> bool:
        version = version_in(_text(on_disk))
        with contextlib.suppress(ProviderUnreachable):
            return bool(version) and self._server.reported() == version
        return False

    def _is_all_there_is(self) -> bool:
        """Tell whether no worker from before the file was written answers any more; those that are
        leaving are waited for. If it was put back after a refusal, the present ones seem older
        than it: then one reload too many is made."""
        older = self._server.older_workers()
        if not all(worker.is_leaving for worker in older):
            return False
        self._server.wait_ended(older)
        return True

    def _check_still(self, content: bytes) -> None:
        if self._file.read() != content:
            raise Conflict(
                f"{self._file.path} of gateway {self._name} was changed by another writer while "
                "nginx reloaded. It is read and tried again."
            )

    def _write(self, content: bytes, on_disk: bytes | None, writing: Writing) -> None:
        """Replace the file. Keep the last one that nginx took or found good, unless an interrupted
        attempt has kept it already; and what another hand wrote."""
        if on_disk is not None and not self._before.exists():
            try:
                self._before.write_bytes(on_disk)
            except OSError as error:
                raise ProviderUnreachable(
                    f"The file of gateway {self._name} cannot be kept in {self._before} "
                    f"({error.strerror}); nothing was changed. Mend the disk or its rights."
                ) from None
        if on_disk is None or version_in(_text(on_disk)):
            self._file.replace(content, on_disk, writing)
        else:
            self._file.replace_others(content, on_disk, writing, "files of your own")

    def _put_back(self, refused: bytes, on_disk: bytes | None) -> None:
        """Let a start of nginx not find what was refused."""
        good = OwnFile(self._name, self._before)
        before = good.read()
        if before is not None:
            self._file.replace(before, refused, None)
            good.remove()
        elif on_disk is None:
            self._file.remove()

    def _forget_shadows(self) -> None:
        """Begin the log anew once no shadow is in force, so that it does not grow for ever."""
        try:
            if self._shadow_log is not None and self._shadow_log.stat().st_size:
                os.truncate(self._shadow_log, 0)
        except OSError as error:
            log.warning("%s cannot be emptied: %s", self._shadow_log, error.strerror)


def _cannot(why: str) -> Support:
    return Support(ok=False, why=why, nearest=ControlKind.THROTTLE)


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace")
