"""Connection to a KV version 2 engine of Vault or OpenBao."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import requests

from bot.errors import FiredoorError, ProviderRefused, ProviderUnreachable

if TYPE_CHECKING:
    import hvac


class CasMismatch(ProviderRefused):
    """Someone else wrote a newer version; nothing was written."""


@dataclass(frozen=True)
class KvSecret:
    """One version of a secret. Its data never shows in a repr."""

    version: int
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class VaultKv:
    """
    A KV v2 mount and the token to use it.

    Neither proxies, certificates nor tokens are taken from the environment, and redirects are not
    followed: the token goes to ``url`` and nowhere else.

    Attributes:
        name: As ``firedoor.yaml`` names it.

        url: Of the server, without a path.

        timeout_s: For connecting, and again for each answer.

        ca_file: Certificates to trust instead of the system's.
    """

    name: str
    url: str
    token: str = field(repr=False)
    mount: str = "secret"
    timeout_s: float = 10.0
    ca_file: str | None = None

    def read(self, path: str, version: int | None = None) -> KvSecret | None:
        """Return a version, the current one by default; None if there is none (any more).

        Raises:
            ProviderUnreachable: Sealed, down or overloaded.

            ProviderRefused: The token may not read it.
        """
        body = self._call(
            lambda client: client.secrets.kv.v2.read_secret_version(
                path, version, mount_point=self.mount, raise_on_deleted_version=True
            )
        )
        found = (body or {}).get("data") or {}
        if found.get("data") is None:
            return None
        return KvSecret(int(found["metadata"]["version"]), found["data"])

    def write(self, path: str, data: Mapping[str, Any], cas: int) -> int:
        """Write a new version on top of version ``cas`` and return its number.

        Raises:
            CasMismatch: ``cas`` is not the current version; nothing was written.

            ProviderUnreachable: No usable answer. It may have been written: read it back.

            ProviderRefused: The token may not write it.
        """
        body = self._call(
            lambda client: client.secrets.kv.v2.create_or_update_secret(
                path, dict(data), cas, mount_point=self.mount
            )
        )
        if body is None:
            raise ProviderRefused(
                f"Vault {self.name!r} knows no KV v2 engine at {self.mount}/, so nothing was "
                "written; set kv_mount in firedoor.yaml."
            )
        return int(body["data"]["version"])

    def may_write(self, path: str) -> bool | None:
        """Tell whether the token may write a secret; None if it may not ask that."""
        asked = f"{self.mount}/data/{path}"
        try:
            body = self._call(
                lambda client: client.sys.get_capabilities([asked])  # type: ignore[no-untyped-call]
            )
        except ProviderRefused:
            return None
        found = set(((body or {}).get("data") or {}).get(asked, ()))
        return "root" in found or {"create", "update"} <= found

    def check(self) -> str:
        """Say what is there: version, seal, and how long the token lives.

        Raises:
            ProviderUnreachable: Down, sealed or not initialized.

            ProviderRefused: The token is not valid, or may not look itself up.
        """
        health = self._call(
            lambda client: client.sys.read_health_status(
                standby_ok="true", sealed_code=200, uninit_code=200, method="GET"
            )
        )
        health = health or {}
        if health.get("sealed", True):
            raise self._sealed()
        found = self._call(lambda client: client.auth.token.lookup_self())
        token = (found or {}).get("data") or {}
        ttl_s = int(token.get("ttl", 0))
        lifetime = f"for {ttl_s / 3600:.1f} h" if ttl_s else "without end"
        return f"version {health.get('version', '?')}, unsealed, token valid {lifetime}"

    def _call(self, ask: Callable[[hvac.Client], Any]) -> dict[str, Any] | None:
        """Return the answer's JSON; None for 404. What is raised holds nothing of the bodies."""
        from hvac.exceptions import InvalidPath, VaultError

        problem: FiredoorError
        answers: list[requests.Response] = []
        try:
            with requests.Session() as session:
                session.hooks["response"].append(lambda answer, **_: _keep(answer, answers))
                found = ask(self._client(session))
            if isinstance(found, dict):
                return found
            # hvac hands on as they are: redirects, bodies that are no JSON, and all about health.
            answer = answers[-1]
            if 200 <= answer.status_code < 300:
                return dict(answer.json()) if answer.content else {}
            if answer.status_code == 404:
                return None
            problem = self._problem(answer)
        except InvalidPath:
            return None
        except VaultError:
            # It tells neither the status nor when to come back; the answer does. Raised below,
            # after the library's exception, which holds the body, is gone.
            problem = self._problem(answers[-1])
        except requests.RequestException as error:
            problem = ProviderUnreachable(
                f"Vault {self.name!r} at {self.url} gives no usable answer "
                f"({type(error).__name__}); start it, or mend its url in firedoor.yaml."
            )
        raise problem

    def _client(self, session: requests.Session) -> hvac.Client:
        import hvac

        session.trust_env = False
        session.verify = self.ca_file or True  # goes before that of the client
        return hvac.Client(
            # Never empty, nor is anything else: the client would look in the environment.
            url=f"{self.url.rstrip('/')}/",
            token=self.token,
            cert=("", ""),
            verify=session.verify,
            timeout=self.timeout_s,  # type: ignore[arg-type]  # requests takes fractions
            allow_redirects=False,
            session=session,
        )

    def _problem(self, answer: requests.Response) -> FiredoorError:
        method = answer.request.method
        path = unquote(urlsplit(answer.url).path).partition("/v1/")[2]
        status = answer.status_code
        if status == 503 and "sealed" in answer.text:
            return self._sealed()
        if status == 400 and "check-and-set" in answer.text:
            return CasMismatch(
                f"{path} in Vault {self.name!r} has a newer version, so nothing was written; "
                "look at who wrote it."
            )
        if status == 403:
            return ProviderRefused(
                f"Vault {self.name!r} refuses {method} {path}: its token is not valid or lacks a "
                "policy for it. Renew the token or extend its policy."
            )
        if status == 429 or status >= 500:
            wait = answer.headers.get("Retry-After", "")
            return ProviderUnreachable(
                f"Vault {self.name!r} answers {status} to {method} {path}; try again later.",
                retry_after_s=float(wait) if wait.isdecimal() else None,
            )
        if 300 <= status < 400:
            return ProviderUnreachable(
                f"Vault {self.name!r} sends {method} {path} to another address, which is not "
                "followed with a token; set its url in firedoor.yaml to the active node."
            )
        return ProviderRefused(
            f"Vault {self.name!r} refuses {method} {path} with status {status}; check kv_mount "
            "and the path in firedoor.yaml."
        )

    def _sealed(self) -> ProviderUnreachable:
        return ProviderUnreachable(
            f"Vault {self.name!r} at {self.url} is sealed or not initialized, so no secret can "
            "be read or written; unseal it."
        )


def _keep(answer: requests.Response, answers: list[requests.Response]) -> None:
    answers.append(answer)
    if not answer.ok:
        # hvac looks for reasons in a refusal's JSON, and breaks on any that is no object.
        answer.headers.pop("Content-Type", None)
