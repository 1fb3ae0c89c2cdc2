"""A running nginx: testing its configuration, reloading it, and seeing what is in force.

A reload says nothing of itself: nginx goes on with what it has if it does not like the new file,
and for a while old workers answer beside new ones. So the whole configuration is tested first, and
then two things are waited for: that the status server in Firedoor's file tells the new version,
and that every worker from before has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from actions.gateway.adapters.nginx.processes import (
    Worker,
    is_master,
    seconds_since_start,
    still_there,
    workers_of,
)
from actions.gateway.adapters.nginx.render import STATUS_PATH
from bot.errors import ProviderRefused, ProviderUnreachable

TAKE_TIMEOUT_S = 10.0
"""How long nginx may need to start workers with a new configuration; a large one takes seconds."""

OLD_WORKERS_TIMEOUT_S = 15.0
"""How long old workers may need to end. ``worker_shutdown_timeout`` of the operator's configuration
must be less."""

COMMAND_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}
"""What the operator's commands see. Settings may lie in Firedoor's own environment as secrets."""

COMMAND_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 2.0
POLL_S = 0.005

_MOST_SAID = 400
_NO_RIGHT = "(13: "  # EACCES, as nginx writes it: of a key that only root may read, say


class Server:
    """Every error names the gateway. For the arguments see `NginxGateway`."""

    def __init__(
        self,
        *,
        gateway: str,
        own_file: Path,
        status_address: str,
        pid_file: Path,
        test_command: tuple[str, ...],
        reload_command: tuple[str, ...] | None,
        take_timeout_s: float,
        old_workers_timeout_s: float,
    ) -> None:
        self._name, self._own_file, self._pid_file = gateway, own_file, pid_file
        self._status_url = f"http://{status_address}{STATUS_PATH}"
        self._test_command, self._reload_command = test_command, reload_command
        self._take_timeout_s = take_timeout_s
        self._old_workers_timeout_s = old_workers_timeout_s
        self._asking = threading.Lock()
        self._http = requests.Session()
        self._http.trust_env = False  # loopback is never behind a proxy

    def test(self) -> None:
        """
        Have nginx test the whole configuration, as it is on disk.

        Raises:
            ProviderRefused: nginx does not like it.

            ProviderUnreachable: It could not be tested.
        """
        status, said = self._run(self._test_command, "tested")
        if status == 0:
            return
        wrong = [line for line in said.splitlines() if "[emerg]" in line]
        if not wrong or _NO_RIGHT in wrong[-1]:
            raise ProviderUnreachable(
                f"The configuration of gateway {self._name} cannot be tested: "
                f"`{' '.join(self._test_command)}` ended with {status} ({_end_of(said)}). "
                "Nothing was changed. Let Firedoor run it with the rights of nginx's master."
            )
        raise ProviderRefused(
            f"Gateway {self._name} refuses the configuration: {_end_of(wrong[-1])}. The "
            "containment was not made, and nginx serves on with what it has. If the place named "
            "is not Firedoor's file, mend it there: nginx reloads all of it or nothing."
        )

    def reload(self, wanted: str, begin: Callable[[], None]) -> None:
        """
        Have nginx take its configuration, and wait until nothing but that is in force.

        Args:
            wanted: The version that the status server then tells.

            begin: Called right before nginx is told.

        Raises:
            ProviderUnreachable: It does not run, cannot be told, has not taken it in time, or old
                workers are still there.
        """
        master = self._master()
        # With those of another hand's reload that read the file before it was written: they have
        # begun by now, as testing took as long as loading does.
        old = workers_of(master)
        if not old:
            raise ProviderUnreachable(
                f"Gateway {self._name} has no worker that can be seen under process {master}; it "
                f"was not reloaded, and takes {self._own_file} when it starts. See whether "
                "Firedoor may look at its processes (`ProtectProc`, `hidepid`)."
            )
        begin()
        if self._reload_command is None:
            self._send_hup(master)
        else:
            status, said = self._run(self._reload_command, "reloaded")
            if status != 0:
                raise ProviderUnreachable(
                    f"Gateway {self._name} cannot be reloaded: `{' '.join(self._reload_command)}` "
                    f"ended with {status} ({_end_of(said)}). The containment is not in force. Let "
                    "Firedoor run it."
                )
        self._wait_taken(wanted)
        self.wait_ended(old)

    def _send_hup(self, master: int) -> None:
        try:
            os.kill(master, signal.SIGHUP)
        except OSError as error:
            raise ProviderUnreachable(
                f"Gateway {self._name} cannot be reloaded: process {master} cannot be signalled "
                f"({error.strerror}). The containment is not in force. Set `reload_command`, or "
                "let Firedoor be the user of nginx's master."
            ) from None

    def _wait_taken(self, wanted: str) -> None:
        seen = "gives no answer"

        def is_taken() -> bool:
            nonlocal seen
            with contextlib.suppress(ProviderUnreachable):
                reported = self.reported()
                seen = f"reports version {reported}"
                return reported == wanted
            return False

        if _within(self._take_timeout_s, is_taken):
            return
        raise ProviderUnreachable(
            f"Gateway {self._name} {seen} {self._take_timeout_s:g} s after it was told to reload "
            f"with {wanted}; the containment may not be in force. nginx's error log says why; look "
            f"at it and at {self._status_url}."
        )

    def wait_ended(self, old: Sequence[Worker]) -> None:
        """Wait until workers have ended. Raises ProviderUnreachable."""
        if _within(self._old_workers_timeout_s, lambda: not still_there(old)):
            return
        left = ", ".join(str(worker.pid) for worker in still_there(old))
        raise ProviderUnreachable(
            f"Gateway {self._name} has taken the configuration, but old workers ({left}) still "
            f"hold connections after {self._old_workers_timeout_s:g} s, and answer a first request "
            "on one of them as before. Set `worker_shutdown_timeout` in nginx.conf, well below "
            "that; to end them now, send them a TERM."
        )

    def older_workers(self) -> list[Worker]:
        """Return workers that began before the file was last written."""
        try:
            since_written_s = time.time() - self._own_file.stat().st_mtime
        except OSError:
            return []
        return [
            worker
            for worker in workers_of(self._master())
            if seconds_since_start(worker) > since_written_s
        ]

    def _master(self) -> int:
        """Return the process id of nginx's master. Raises ProviderUnreachable: it is down."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            pid = 0
        if not pid or not is_master(pid):
            raise ProviderUnreachable(
                f"Gateway {self._name} does not run, or cannot be seen: {self._pid_file} names no "
                f"process of it. What is to be in force is in {self._own_file}, and is taken when "
                "nginx starts. Start it, or see whether Firedoor may look at its processes."
            )
        if self._pid_file.with_name(f"{self._pid_file.name}.oldbin").exists():
            raise ProviderUnreachable(
                f"Gateway {self._name} is being upgraded: {self._pid_file}.oldbin is there, so an "
                "older nginx may answer beside the new one. End the upgrade (QUIT to the old one)."
            )
        return pid

    def _run(self, command: Sequence[str], what_for: str) -> tuple[int, str]:
        """Return a command's exit status, and what it said."""
        try:
            done = subprocess.run(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_TIMEOUT_S,
                env=COMMAND_ENV,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProviderUnreachable(
                f"Gateway {self._name} cannot be {what_for}: `{' '.join(command)}` "
                f"({type(error).__name__}). The containment is not in force. Look at the command "
                "in firedoor.yaml."
            ) from None
        return done.returncode, done.stdout.decode("utf-8", "replace").strip()

    def reported(self) -> str:
        """Return the version that a worker reports; which one is by chance."""
        try:
            with self._asking:
                response = self._http.get(
                    self._status_url,
                    timeout=HTTP_TIMEOUT_S,
                    allow_redirects=False,
                    # A kept connection would be an old worker's.
                    headers={"Connection": "close"},
                )
        except requests.RequestException as error:
            raise ProviderUnreachable(
                f"The status server of gateway {self._name} at {self._status_url} gives no answer "
                f"({type(error).__name__}); nothing is known of its controls. See whether nginx "
                f"runs, and includes {self._own_file}."
            ) from None
        try:
            version = response.json()["firedoor"] if response.status_code == 200 else None
        except (ValueError, TypeError, KeyError):
            version = None
        if not isinstance(version, str):
            raise ProviderUnreachable(
                f"What answers for gateway {self._name} at {self._status_url} is not Firedoor's "
                f"status server ({response.status_code}); nothing is known of its controls. See "
                "what listens there."
            )
        return version


def _end_of(said: str) -> str:
    return said[-_MOST_SAID:] or "no word"


def _within(timeout_s: float, is_so: Callable[[], bool]) -> bool:
    """Wait until something is so; tell whether it came to that."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
