"""A PostgreSQL cluster of our own in a temporary folder, on loopback, for as long as it is needed.

It is durable as it would be in service: ``fsync`` and ``synchronous_commit`` are on.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

READY_S = 30.0
STOP_S = 20.0


class Postgres:
    """``with Postgres(binaries) as postgres: postgres.url(postgres.create("some_name"))``.

    Everything that it started is ended, and its folder removed, when the block is left.
    """

    def __init__(self, binaries: Path, *, fsync: bool = True) -> None:
        """
        Args:
            binaries: The folder with ``bin``, ``lib`` and ``share`` of an installation.
            fsync: Off makes it quick and forgetful, for tests that measure nothing.
        """
        self._source, self._fsync = binaries, fsync
        self._folder = Path()
        self._port = 0
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root, so there root starts it as nobody.
        self._user = "nobody" if os.geteuid() == 0 else None

    def __enter__(self) -> Postgres:
        self._folder = Path(tempfile.mkdtemp(prefix="firedoor-postgres-"))
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)  # fast shutdown: it ends all connections
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGQUIT)  # immediate; kill would leave its children
                    process.wait(STOP_S)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres", driver: str = "postgresql+psycopg") -> str:
        return f"{driver}://bench:{self._password}@127.0.0.1:{self._port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database and return its name."""
        import psycopg

        with psycopg.connect(self.url(driver="postgresql"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return database

    def _start(self) -> None:
        home = self._source
        if self._user is not None:
            # Where root keeps the installation, nobody may not be able to read it. The wheel keeps
            # its shared libraries in a folder beside the package.
            package = self._source.parent
            home = self._folder / package.name / self._source.name
            shutil.copytree(self._source, home, ignore=shutil.ignore_patterns("include"))
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, self._folder / libraries.name)
            shutil.chown(self._folder, self._user)
        data, secret = self._folder / "data", self._folder / "password"
        secret.write_text(self._password)
        if self._user is not None:
            shutil.chown(secret, self._user)
        common = ["--encoding=UTF8", "--locale=C", "--username=bench"]
        subprocess.run(
            [
                str(home / "bin" / "initdb"),
                f"--pgdata={data}",
                "--auth=scram-sha-256",
                f"--pwfile={secret}",
                *common,
            ],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._folder,
        )
        secret.unlink()
        self._port = _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "synchronous_commit": "on" if self._fsync else "off",
            "max_connections": "300",
        }
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    str(home / "bin" / "postgres"),
                    "-D",
                    str(data),
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                stdout=output,
                stderr=output,
                user=self._user,
                cwd=self._folder,
            )
        self._wait_ready(log)

    def _wait_ready(self, log: Path) -> None:
        import psycopg

        until = time.monotonic() + READY_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended: {log.read_text()[-2000:]}")
            try:
                psycopg.connect(self.url(driver="postgresql"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
