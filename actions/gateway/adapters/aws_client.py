"""What gateways in AWS are asked by: one service's client, with our errors and nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from actions import aws_session
from bot.errors import Conflict, FiredoorError, ProviderRefused, ProviderUnreachable

RACED = frozenset(
    {
        "ConflictException",
        "WAFDuplicateItemException",
        "WAFNonexistentItemException",
        "WAFOptimisticLockException",
    }
)
"""What AWS says to a write that builds on a state which is no longer there."""

NOT_YET = frozenset({"WAFInternalErrorException", "WAFUnavailableEntityException"})
"""A resource that was just made is not known everywhere, for seconds to minutes."""

NOT_THERE = frozenset({"NotFoundException", "WAFNonexistentItemException"})

_NO_FORM = (AttributeError, KeyError, TypeError, ValueError)
"""What botocore lets out when an answer has not the form that it takes for granted."""


class AwsClient:
    """
    One service in one region. May be used from several threads.

    Args:
        gateway: Name of the gateway, for messages.

        endpoint_url: None for the real AWS.
    """

    def __init__(
        self,
        *,
        gateway: str,
        service: str,
        region: str,
        endpoint_url: str | None,
        access_key_id: str,
        secret_access_key: str,
    ) -> None:
        self._gateway, self._service = gateway, service
        self._settings: dict[str, Any] = {
            "region": region,
            "endpoint_url": endpoint_url,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        self._making = threading.Lock()

    def find(self, operation: str, **parameters: Any) -> Mapping[str, Any] | None:
        """Read; return None if what is asked for does not exist.

        Raises:
            ProviderUnreachable: There is no answer that says what is there.
        """
        answer, code, problem = self._call(self._reader, operation, parameters)
        if problem is not None and code in NOT_THERE:
            return None
        if problem is not None:
            raise ProviderUnreachable(
                f"{problem}; nothing is known of gateway {self._gateway}. "
                f"{_remedy(code, 'read it')}"
            )
        return answer

    def write(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Write once: it is never repeated when its answer is lost.

        Raises:
            Conflict: Another writer was faster; nothing was written.

            ProviderRefused: AWS says no; nothing was written.

            ProviderUnreachable: No usable answer. It may have been written: read anew.
        """
        answer, code, problem = self._call(self._writer, operation, parameters)
        if problem is None:
            return answer
        if code in RACED:
            raise Conflict(
                f"{problem}: gateway {self._gateway} was changed by another writer just now; "
                "nothing was written. It is read and tried again."
            )
        if not code or code in aws_session.BUSY or code in NOT_YET:
            raise ProviderUnreachable(
                f"{problem}; gateway {self._gateway} may not have taken the change. It is tried "
                f"again; look at the network and at AWS if it stays so."
            )
        raise ProviderRefused(
            f"{problem}; gateway {self._gateway} stays as it was. {_remedy(code, 'write it')}"
        )

    @cached_property
    def _session(self) -> Any:
        return aws_session.session()

    @cached_property
    def _reader(self) -> Any:
        return self._client(attempts=3)

    @cached_property
    def _writer(self) -> Any:
        return self._client(attempts=1)

    def _client(self, attempts: int) -> Any:
        with self._making:  # a session makes one client at a time
            return aws_session.client(
                self._session, self._service, attempts=attempts, **self._settings
            )

    def _call(
        self, client: Any, operation: str, parameters: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], str, str | None]:
        """Return the answer, the code of a refusal (empty if there was no usable answer), and a
        sentence's begin of what went wrong. Nothing of the library's exception, which may hold
        whole bodies, gets out."""
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
        )
        from botocore.parsers import ResponseParserError

        said = f"AWS ({self._service}) answers"
        try:
            answer = getattr(client, operation)(**parameters)
        except ClientError as error:
            details = error.response.get("Error", {})
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            code = str(details.get("Code", ""))
            is_own = code.isidentifier() and status < 500 and status != 429
            return {}, code if is_own else "", f"{said} {code or status} to {operation}"
        except (*_NO_FORM, ConnectionError, HTTPClientError, ResponseParserError) as error:
            problem = f"AWS ({self._service}) gives no usable answer to {operation}"
            return {}, "", f"{problem} ({type(error).__name__})"
        except BotoCoreError as error:
            problem = f"{operation} could not be sent to AWS ({self._service})"
            return {}, "Unsent", f"{problem} ({type(error).__name__})"
        if not isinstance(answer, dict):
            return {}, "", f"{said} nothing that can be read to {operation}"
        return answer, "", None


def _remedy(code: str, verb: str) -> str:
    if not code or code in aws_session.BUSY:
        return "Look at the network, and at AWS."
    if "Denied" in code or "Unauthorized" in code or "Token" in code or "Signature" in code:
        return f"Grant Firedoor's user the right to {verb}, or mend its key."
    return "Look at the gateway's settings in firedoor.yaml."


def unknown_answer(gateway: str, what: str) -> FiredoorError:
    """Return the error for an answer that has not the form that AWS documents."""
    return ProviderUnreachable(
        f"What AWS says of {what} is not of the form that it documents; nothing is known of "
        f"gateway {gateway}. See what answers at its endpoint."
    )
