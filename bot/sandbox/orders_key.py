"""The orders service's IAM key: read from OpenBao, taken into use whenever it changes there."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bot.sandbox.files import read_secret

REFRESH_S = 0.5
FIRST_REFRESH_S = 0.05
"""Until there is a first key; later only a rotation brings another one."""


@dataclass(frozen=True)
class KeySource:
    """Where the key comes from and what it is for."""

    vault_url: str
    vault_token_file: Path
    kv_mount: str
    path: str
    aws_url: str
    region: str

    def write(self, state: Path) -> None:
        """Write ``service.json`` into the service's state. It holds no secret."""
        content = {**asdict(self), "vault_token_file": str(self.vault_token_file)}
        (state / "service.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, state: Path) -> Self:
        """Read what ``write`` wrote."""
        content = json.loads((state / "service.json").read_text(encoding="utf-8"))
        return cls(**{**content, "vault_token_file": Path(content["vault_token_file"])})


class KeyInUse:
    """
    Keeps the key up to date in the background.

    While OpenBao cannot be read, the last key stays in use, as it would in any service.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._access_key_id: str | None = None
        self._sts: Any = None
        self._vault_error: str | None = "not read yet"
        self._ended = threading.Event()
        # A daemon: the service must be able to end while a call of this thread hangs.
        self._thread = threading.Thread(target=self._follow, name="iam-key", daemon=True)

    def start(self) -> None:
        """Begin to follow the key."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following it."""
        self._ended.set()

    def status(self) -> dict[str, Any]:
        """
        Return the id of the key in use and whether AWS takes it now (asks STS who it is).

        Never holds the secret. ``ok`` says whether the service can work, which is that AWS
        takes its key: it can do without OpenBao for a while. ``aws_error`` is AWS's error code,
        ``vault_error`` the name of a class.
        """
        with self._lock:
            sts, key_id, vault_error = self._sts, self._access_key_id, self._vault_error
        aws_error = "NoKey" if sts is None else _error_of(sts)
        return {
            "ok": aws_error is None,
            "access_key_id": key_id,
            "aws_ok": aws_error is None,
            "aws_error": aws_error,
            "vault_ok": vault_error is None,
            "vault_error": vault_error,
        }

    def _follow(self) -> None:
        while True:
            self._refresh()
            pause_s = REFRESH_S if self._access_key_id else FIRST_REFRESH_S
            if self._ended.wait(pause_s):
                return

    def _refresh(self) -> None:
        import hvac.exceptions
        import requests

        # A KeyError: somebody wrote something else there. The last key stays in use then, too.
        known = (FileNotFoundError, KeyError, requests.RequestException, hvac.exceptions.VaultError)
        try:
            key_id, secret = self._read()
        except known as error:
            with self._lock:
                self._vault_error = type(error).__name__
            return
        if key_id != self._access_key_id:
            sts = self._client(key_id, secret)
            with self._lock:
                self._access_key_id, self._sts = key_id, sts
        with self._lock:
            self._vault_error = None

    def _read(self) -> tuple[str, str]:
        import hvac

        source = self._source
        token = read_secret(source.vault_token_file)
        vault = hvac.Client(source.vault_url, token=token, timeout=3)
        read = vault.secrets.kv.v2.read_secret_version(
            source.path, mount_point=source.kv_mount, raise_on_deleted_version=True
        )
        value = read["data"]["data"]
        return value["access_key_id"], value["secret_access_key"]

    def _client(self, key_id: str, secret: str) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "sts",
            region_name=self._source.region,
            endpoint_url=self._source.aws_url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(connect_timeout=1, read_timeout=3, retries={"total_max_attempts": 1}),
        )


def _error_of(sts: Any) -> str | None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        sts.get_caller_identity()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    except BotoCoreError as error:
        return type(error).__name__
    return None
