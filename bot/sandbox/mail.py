"""The mail server: takes every message from who can log in, and keeps it.

``python -m bot.sandbox.mail --port P --directory D --password-file F``. A message becomes
``0001.eml`` and, for its envelope, ``0001.json``; numbers go on after a restart. Nothing is sent
on and nothing is de-duplicated: a message that is sent twice is seen twice.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import signal
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from bot.sandbox.files import read_secret

USERNAME = "firedoor"


@dataclass(frozen=True)
class Mail:
    """A kept message. ``recipients`` are the envelope's, so blind copies are among them."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    path: Path

    @property
    def to(self) -> str:
        """The envelope's recipients, in one line."""
        return ", ".join(self.recipients)

    @property
    def subject(self) -> str:
        return str(self.message["Subject"] or "")

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"] or "")

    @property
    def text(self) -> str:
        """The plain text part, or an empty string."""
        part = self.message.get_body(("plain",))
        return str(part.get_content()) if part is not None else ""


def read_mails(directory: Path) -> list[Mail]:
    """Return the messages kept in a directory, in the order of their arrival."""
    return [_read(path) for path in sorted(directory.glob("*.eml"))]


def _read(path: Path) -> Mail:
    envelope = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Mail(
        number=int(path.stem),
        sender=envelope["sender"],
        recipients=tuple(envelope["recipients"]),
        message=message_from_bytes(path.read_bytes(), policy=policy.default),
        path=path,
    )


def arguments(port: int, directory: Path, password_file: Path) -> list[str]:
    """Return the command line arguments of this module."""
    return [
        *("--port", str(port)),
        *("--directory", str(directory)),
        *("--password-file", str(password_file)),
    ]


class _Keeper:
    """What aiosmtpd calls with each message."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._number = max((int(path.stem) for path in directory.glob("*.eml")), default=0)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self._number += 1
        name = f"{self._number:04d}"
        self._write(
            f"{name}.json",
            json.dumps({"sender": envelope.mail_from, "recipients": envelope.rcpt_tos}).encode(),
        )
        # The message is written last: a reader that sees it finds its envelope.
        self._write(f"{name}.eml", envelope.original_content)
        return f"250 Kept as {name}"

    def _write(self, name: str, content: bytes) -> None:
        temporary = self._directory / f".{name}.new"
        temporary.write_bytes(content)
        temporary.replace(self._directory / name)


async def _serve(port: int, directory: Path, password: str) -> None:
    from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

    def authenticate(
        server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        ok = (
            isinstance(data, LoginPassword)
            and hmac.compare_digest(data.login, USERNAME.encode())
            and hmac.compare_digest(data.password, password.encode())
        )
        return AuthResult(success=ok, handled=False)

    keeper = _Keeper(directory)

    def session() -> SMTP:
        return SMTP(
            keeper,
            hostname="mail.acme.example",
            authenticator=authenticate,
            auth_required=True,
            # Loopback only, and the settings say `tls: none`.
            auth_require_tls=False,
            enable_SMTPUTF8=True,
        )

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(session, "127.0.0.1", port)
    async with server:
        await stopped.wait()


def main(argv: list[str] | None = None) -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(prog="python -m bot.sandbox.mail", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    options = parser.parse_args(argv)
    asyncio.run(_serve(options.port, options.directory, read_secret(options.password_file)))


if __name__ == "__main__":
    main()
