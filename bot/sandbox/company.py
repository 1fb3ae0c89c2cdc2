"""The small company: starts every server, connects them, writes Firedoor's settings, stops them.

The directory that it is given holds, for its owner only::

    firedoor.yaml  openapi.yaml     what Firedoor reads; paths in it are relative
    secrets/                        one file each, mode 0600
    state/                          Firedoor's own
    gateway/  openbao/  aws/  orders/  mail/  slack/     each server's own
    logs/                           what each process printed
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
import yaml

from bot.errors import BadInput, ProviderRefused, TimedOut
from bot.sandbox import acme, aws, envoy, mail, orders_data, orders_tokens
from bot.sandbox.files import read_secret, write_secret
from bot.sandbox.mail import Mail, read_mails
from bot.sandbox.openbao import KV_MOUNT, ORDERS_PATH, OpenBao
from bot.sandbox.orders_key import KeySource
from bot.sandbox.processes import Ports, Processes, http_ready, tcp_ready

FIXED_VERSION = "2.14.1"
SERVICES = ("openbao", "aws", "mail", "slack", "orders", "envoy")


class Company:
    """
    A running company. A context manager; ``start_all`` and ``close`` do the same by hand.

    Nothing of it outlives this process, not even after ``kill -9`` (see `processes.py`).

    Args:
        directory: Where all its files go; must be empty or absent.

        runbooks: The directory of runbooks that firedoor.yaml names.

        overrides: Changes to firedoor.yaml, as one server's address replaced by a fault proxy's.
            ``write_settings`` takes them as well, once the ports are known.
    """

    def __init__(
        self,
        directory: Path,
        *,
        runbooks: Path,
        overrides: acme.Overrides | None = None,
        ready_timeout_s: float = 60.0,
    ) -> None:
        self.directory = directory.resolve()
        self.settings_file = self.directory / "firedoor.yaml"
        self.runbooks = runbooks.resolve()
        self.ports: dict[str, int] = {}
        self.started_in_s = 0.0
        self._overrides = overrides
        self._ready_timeout_s = ready_timeout_s
        self._claimed: Ports | None = None
        self._started: Processes | None = None
        self._arguments: dict[str, list[str]] = {}
        self._accounts: dict[str, orders_data.Account] = {}
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy stands before loopback

    def __enter__(self) -> Self:
        self.start_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Start and stop

    def start_all(self) -> None:
        """
        Start everything and wait until all of it is ready.

        Raises:
            BadInput: The directory is not empty.

            Failed, TimedOut: A server did not start; the message shows the end of its log.
        """
        began = time.monotonic()
        if self.directory.exists() and any(self.directory.iterdir()):
            raise BadInput(
                f"{self.directory} is not empty, so no company was started there. "
                "Give another directory, or remove it."
            )
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        self._claimed = ports = Ports()
        self._started = Processes(self.directory / "logs")
        try:
            self._start_servers(ports)
        except BaseException:
            self.close()
            raise
        self.started_in_s = time.monotonic() - began

    def close(self) -> None:
        """Stop everything. The files stay."""
        if self._started is not None:
            self._started.stop_all()
        if self._claimed is not None:
            self._claimed.close()
        self._http.close()

    def stop(self, name: str, *, kill: bool = False) -> None:
        """Stop one of ``SERVICES``; ``kill`` does it as a crash would."""
        self._check_name(name)
        self.processes.stop(name, kill=kill)

    def start(self, name: str) -> None:
        """Start a stopped server again, with its data and on its port, and wait until it is ready.

        OpenBao is unsealed as well.
        """
        self._check_name(name)
        self._launch(name)
        self._wait(name)
        if name == "openbao":
            self.bao.unseal()

    @property
    def processes(self) -> Processes:
        """For a command that lets further processes end with the company."""
        if self._started is None:
            raise BadInput("The company was not started, so it has no processes. Start it first.")
        return self._started

    # What is in it

    @property
    def places(self) -> acme.Places:
        """Where the servers and files are."""
        return self._places

    @property
    def gateway_url(self) -> str:
        """Where customers call."""
        return self._places.url("envoy")

    @property
    def firedoor_url(self) -> str:
        """Where Firedoor will listen; the company does not start it."""
        return self._places.url("firedoor")

    @property
    def alertmanager_token(self) -> str:
        return read_secret(self._places.secret("alertmanager-token"))

    @property
    def mail_directory(self) -> Path:
        return self.directory / "mail" / "messages"

    def mails(self) -> list[Mail]:
        """Return the mails that arrived so far."""
        return read_mails(self.mail_directory)

    def urls(self) -> dict[str, str]:
        """Return the addresses worth printing, by what a person would call them."""
        return {
            "Slack": f"{self._places.url('slack')}/",
            "Gateway": self.gateway_url,
            "Gateway admin": self._places.url("envoy-admin"),
            "Orders service": self._places.url("orders"),
            "OpenBao": self._places.url("openbao"),
            "AWS": self._places.url("aws"),
            "Mail": f"smtp://127.0.0.1:{self.ports['mail']}",
            "Firedoor": self.firedoor_url,
        }

    def accounts(self, role: orders_data.Role | None = None) -> list[orders_data.Account]:
        """Return who can log in to the orders service, with passwords."""
        return [a for a in self._accounts.values() if role is None or a.role == role]

    def login(self, username: str) -> str:
        """Log in to the orders service, past the gateway, and return the token."""
        account = self._accounts.get(username)
        if account is None:
            raise BadInput(f"Nobody is called {username}. Take a name from accounts().")
        body = {"username": username, "password": account.password}
        return str(self._orders("POST", "/api/login", body)["token"])

    def deploy_fix(self, version: str = FIXED_VERSION) -> None:
        """Deploy a version of the orders service that checks who owns an order."""
        self._orders("POST", "/internal/deploy", {"version": version, "ownership_check": True})

    def deployed_version(self) -> str:
        """Return the version of the orders service that runs."""
        return str(self._orders("GET", "/internal/version")["version"])

    def orders_health(self) -> dict[str, Any]:
        """Return the orders service's own view of its IAM key; see `orders_key.py`."""
        return self._orders("GET", "/internal/health")

    def orders_key_in_use(self) -> str | None:
        """Return the id of the IAM key that the orders service works with."""
        key_id: str | None = self.orders_health()["access_key_id"]
        return key_id

    def seal(self) -> None:
        """Seal OpenBao."""
        self.bao.seal()

    def unseal(self) -> None:
        """Unseal OpenBao."""
        self.bao.unseal()

    def secrets(self) -> dict[str, str]:
        """
        Return every secret of the company, current ones included, by a name that says what it is.

        For searches that must find none of them elsewhere. OpenBao must be unsealed.
        """
        found = {path.name: read_secret(path) for path in (self.directory / "secrets").iterdir()}
        del found["aws-access-key-id"]  # an identifier, which may be written anywhere
        found["openbao-root-token"] = self.bao.root_token
        found["openbao-unseal-key"] = self.bao.unseal_key
        found["orders-vault-token"] = read_secret(self.directory / "orders" / "vault-token")
        found["jwt-key"] = read_secret(self.directory / "orders" / "jwt-key.pem")
        for user, keys in aws.read_keys(self._aws_state).items():
            found.update({f"aws:{user}:{key['id']}": key["secret"] for key in keys})
        for version, value in self.bao.orders_key_versions().items():
            found[f"openbao:{ORDERS_PATH}:v{version}"] = value["secret_access_key"]
        found.update({f"login:{name}": a.password for name, a in self._accounts.items()})
        return found

    def write_settings(self, overrides: acme.Overrides | None = None) -> Path:
        """Write firedoor.yaml with these overrides, in place of those given at first."""
        settings = acme.overridden(acme.settings_of(self._places), overrides)
        self.settings_file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        return self.settings_file

    # How it starts

    def _start_servers(self, ports: Ports) -> None:
        self.ports = {name: ports.take() for name in acme.PORTS}
        secrets_dir = self.directory / "secrets"
        acme.write_fresh_tokens(secrets_dir)
        self._prepare_bought(secrets_dir)
        for name in ("openbao", "aws", "slack", "mail"):
            self._launch(name)
        self._prepare_own(secrets_dir)
        for name in ("orders", "envoy"):
            self._launch(name)
        shutil.copyfile(Path(__file__).with_name("openapi.yaml"), self.directory / "openapi.yaml")
        (self.directory / "state").mkdir(mode=0o700)
        self.write_settings(self._overrides)
        waits = [self._wait_for(name) for name in SERVICES if name != "openbao"]
        self._side_by_side([self._set_up_openbao, *waits])
        self._hand_out_aws_keys(secrets_dir)

    def _prepare_bought(self, secrets_dir: Path) -> None:
        """Prepare the servers that need nothing of ours but random tokens."""
        self.bao = OpenBao(
            self.directory / "openbao",
            port=self.ports["openbao"],
            cluster_port=self.ports["openbao-cluster"],
        )
        self._aws_state = self.directory / "aws" / "iam.json"
        slack = self.directory / "slack"
        slack.mkdir(mode=0o700)
        acme.write_people(slack / "people.json")
        self._arguments["slack"] = [
            *("--port", str(self.ports["slack"])),
            *("--state-dir", str(slack)),
            *("--bot-token-file", str(secrets_dir / "slack-bot-token")),
            *("--app-token-file", str(secrets_dir / "slack-app-token")),
            *("--people", str(slack / "people.json")),
            *("--events", ""),  # Firedoor's manifest subscribes to none
        ]
        self._arguments["aws"] = aws.arguments(self.ports["aws"], self._aws_state)
        self._arguments["mail"] = mail.arguments(
            self.ports["mail"], self.mail_directory, secrets_dir / "smtp-password"
        )

    def _prepare_own(self, secrets_dir: Path) -> None:
        """Prepare the orders service, and the gateway, which must know its keys."""
        state = self.directory / "orders"
        state.mkdir(mode=0o700)
        key = orders_tokens.new_key(state)
        accounts = orders_data.make_accounts()
        orders_data.write_accounts(state / "accounts.json", accounts)
        self._accounts = {account.username: account for account in accounts}
        for name in (orders_data.PROBE_OWNER, orders_data.PROBE_STRANGER):
            write_secret(secrets_dir / f"{name}-password", self._accounts[name].password)
        files = envoy.prepare(
            self.directory / "gateway",
            listen_port=self.ports["envoy"],
            admin_port=self.ports["envoy-admin"],
            upstream_port=self.ports["orders"],
            jwks=orders_tokens.jwks_of(key),
        )
        self._envoy_argv = list(files.argv)
        self._places = acme.Places(
            directory=self.directory,
            runbooks=self.runbooks,
            ports=self.ports,
            base_routes=files.base_routes,
            rds_file=files.rds_file,
            access_log=files.access_log,
        )
        source = KeySource(
            vault_url=self.bao.url,
            vault_token_file=state / "vault-token",
            kv_mount=KV_MOUNT,
            path=ORDERS_PATH,
            aws_url=self._places.url("aws"),
            region=aws.REGION,
        )
        source.write(state)
        self._arguments["orders"] = ["--port", str(self.ports["orders"]), "--state", str(state)]

    def _launch(self, name: str) -> None:
        if name == "openbao":
            self.processes.start(name, self.bao.argv)
        elif name == "envoy":
            self.processes.start(name, self._envoy_argv)
        else:
            module = {"slack": "slack_standin", "orders": "orders_api"}.get(name, name)
            self.processes.start_python(name, f"bot.sandbox.{module}", *self._arguments[name])

    def _wait(self, name: str) -> None:
        checks: dict[str, Callable[[], bool]] = {
            "openbao": http_ready(self.ports["openbao"], "/v1/sys/seal-status"),
            "aws": http_ready(self.ports["aws"], "/health"),
            "slack": http_ready(self.ports["slack"], "/control/health"),
            "orders": http_ready(self.ports["orders"], "/health"),
            "envoy": http_ready(self.ports["envoy-admin"], "/ready"),
            "mail": tcp_ready(self.ports["mail"]),
        }
        self.processes.wait_ready(name, checks[name], self._ready_timeout_s)

    def _wait_for(self, name: str) -> Callable[[], None]:
        return lambda: self._wait(name)

    def _set_up_openbao(self) -> None:
        self._wait("openbao")
        self.bao.initialize()
        write_secret(self._places.secret("vault-token"), self.bao.new_token("firedoor"))
        orders_token = self.bao.new_token("orders-service")
        write_secret(self.directory / "orders" / "vault-token", orders_token)

    def _hand_out_aws_keys(self, secrets_dir: Path) -> None:
        keys = aws.read_keys(self._aws_state)
        orders_key, firedoor_key = keys[aws.ORDERS_USER][0], keys[aws.FIREDOOR_USER][0]
        write_secret(secrets_dir / "aws-access-key-id", firedoor_key["id"])
        write_secret(secrets_dir / "aws-secret-access-key", firedoor_key["secret"])
        self.bao.write_orders_key(orders_key["id"], orders_key["secret"])
        deadline = time.monotonic() + self._ready_timeout_s
        while not (health := self.orders_health())["ok"]:
            if time.monotonic() > deadline:
                raise TimedOut(
                    "The orders service cannot use its IAM key, so nothing can be rotated: "
                    f"AWS says {health['aws_error']}, OpenBao {health['vault_error']}. Look at "
                    f"the logs in {self.directory / 'logs'}."
                )
            time.sleep(0.02)

    def _side_by_side(self, tasks: Sequence[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                # What the other tasks wait for ends too, so that they end at once.
                self.processes.stop_all()
                raise

    def _check_name(self, name: str) -> None:
        if name not in SERVICES:
            raise BadInput(f"The company has no {name}. It has: {', '.join(SERVICES)}.")

    def _orders(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url = f"{self._places.url('orders')}{path}"
        with contextlib.closing(self._http.request(method, url, json=body, timeout=10)) as answer:
            if not answer.ok:
                raise ProviderRefused(
                    f"The orders service answered {answer.status_code} to {method} {path}, so it "
                    "was not done. Look at its log."
                )
            result: dict[str, Any] = answer.json()
            return result
