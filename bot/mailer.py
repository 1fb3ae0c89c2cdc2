"""The Mail port on SMTP."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal

from bot.errors import ProviderRefused, ProviderUnreachable
from bot.model.message import Message
from bot.ports import Clock

TIMEOUT_S = 15


class SmtpMail:
    """Implements ``bot.ports.Mail``. One connection per mail: notices are few and far between."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        sender: str,
        clock: Clock,
        username: str | None = None,
        password: str | None = None,
        tls: Literal["none", "starttls", "tls"] = "starttls",
    ) -> None:
        self._host, self._port, self._sender, self._clock = host, port, sender, clock
        self._username, self._password, self._tls = username, password, tls

    def __repr__(self) -> str:
        return f"SmtpMail({self._host}:{self._port})"

    def send(self, to: str, message: Message, key: str) -> None:
        mail = EmailMessage()
        mail["From"] = self._sender
        mail["To"] = to
        mail["Subject"] = " ".join(message.title.split())
        mail["Date"] = format_datetime(self._clock.now())
        domain = self._sender.rpartition("@")[2] or "firedoor.invalid"
        # The same key gives the same id, so that a repeat can be recognised by who receives it.
        mail["Message-ID"] = f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content("\n\n".join((*message.paragraphs, _facts(message), message.context)))
        try:
            with self._connect() as server:
                server.send_message(mail)
        except smtplib.SMTPAuthenticationError:
            raise ProviderUnreachable(
                f"The mail server {self._host} refuses the login of {self._username}; mails wait. "
                "Check `email.username` and `email.password`."
            ) from None
        except smtplib.SMTPResponseException as error:
            self._raise(error.smtp_code, str(error.smtp_code))
        except smtplib.SMTPRecipientsRefused as error:
            code = max((code for code, _ in error.recipients.values()), default=550)
            self._raise(code, f"{code} for {to}")
        except (OSError, smtplib.SMTPException) as error:
            raise ProviderUnreachable(
                f"The mail server {self._host}:{self._port} does not answer "
                f"({type(error).__name__}); the mail is sent when it does."
            ) from None

    def check(self) -> str:
        try:
            with self._connect() as server:
                server.noop()
        except smtplib.SMTPAuthenticationError:
            raise ProviderRefused(
                f"The mail server {self._host} refuses the login of {self._username}. "
                "Check `email.username` and `email.password`."
            ) from None
        except (OSError, smtplib.SMTPException) as error:
            raise ProviderUnreachable(
                f"The mail server {self._host}:{self._port} does not answer "
                f"({type(error).__name__}). Check `email.host` and `email.port`."
            ) from None
        return f"SMTP at {self._host}:{self._port}, as {self._username or 'nobody'}"

    def _connect(self) -> smtplib.SMTP:
        if self._tls == "tls":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=TIMEOUT_S, context=context
            )
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
            if self._tls == "starttls":
                server.starttls(context=ssl.create_default_context())
        if self._username is not None:
            server.login(self._username, self._password or "")
        return server

    def _raise(self, code: int, shown: str) -> None:
        """4xx is passing, 5xx is final (RFC 5321, 4.2.1)."""
        if 400 <= code < 500:
            raise ProviderUnreachable(
                f"The mail server {self._host} puts the mail off ({shown}); it is tried again."
            ) from None
        raise ProviderRefused(
            f"The mail server {self._host} refuses the mail ({shown}); it was not sent. "
            "Check the address and the login."
        ) from None


def _facts(message: Message) -> str:
    return "\n".join(f"{label}: {value}" for label, value in message.facts)
