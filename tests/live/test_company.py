"""The company in the sandbox is real enough to prove things against, and goes away."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import boto3
import hvac
import pytest
import requests
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError

from bot.errors import BadInput, Failed
from bot.sandbox.company import SERVICES, Company
from bot.sandbox.faults import FaultProxy, Match
from bot.sandbox.orders_data import ATTACKER, FIRST_ORDER, PROBE_ORDER
from bot.sandbox.traffic import Neighbour, Rates, Traffic, Watcher

pytestmark = pytest.mark.live

PARENT = """
import json, sys, time
from pathlib import Path
from bot.sandbox.company import Company

with Company(Path(sys.argv[1]), runbooks=Path(sys.argv[1])) as company:
    pids = company.processes.running()
    print(json.dumps({**pids, "reaper": company.processes._reaper.pid}), flush=True)
    time.sleep(300)
"""


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    directory = tmp_path_factory.mktemp("company")
    with Company(directory / "acme", runbooks=directory) as started:
        yield started


@pytest.fixture(scope="module")
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def ask(company, http):
    """Asks the gateway as somebody, or as nobody; returns the answer."""

    def get(path: str, username: str | None = None) -> requests.Response:
        headers = {}
        if username is not None:
            headers["Authorization"] = f"Bearer {company.login(username)}"
        return http.get(f"{company.gateway_url}{path}", headers=headers, timeout=10)

    return get


@pytest.fixture
def with_hole(company, http):
    """Deploys the version with the hole again afterwards."""
    yield
    body = {"version": "2.14.0", "ownership_check": False}
    answer = http.post(f"{company.places.url('orders')}/internal/deploy", json=body, timeout=10)
    assert answer.ok


def eventually(check: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return state == "" or state.startswith("Z")


def aws_client(company: Company, service: str, key_id: str, secret: str):
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=company.places.url("aws"),
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def firedoors_iam(company: Company):
    secrets = company.directory / "secrets"
    return aws_client(
        company,
        "iam",
        (secrets / "aws-access-key-id").read_text(),
        (secrets / "aws-secret-access-key").read_text(),
    )


def orders_keys(iam) -> set[str]:
    """The ids of the orders service's keys."""
    listed = iam.list_access_keys(UserName="orders-service")["AccessKeyMetadata"]
    return {key["AccessKeyId"] for key in listed}


def orders_secret(company: Company) -> tuple[str, str]:
    """The orders service's key as OpenBao has it now."""
    newest = company.bao.orders_key_versions()
    value = newest[max(newest)]
    return value["access_key_id"], value["secret_access_key"]


def vault_client(company: Company, token_file: Path) -> hvac.Client:
    return hvac.Client(company.places.url("openbao"), token=token_file.read_text())


class TestLifetime:
    def test_nothing_is_left_after_it_stops(self, tmp_path):
        """
        All servers run inside the context; none does after it.
        """
        with Company(tmp_path / "acme", runbooks=tmp_path) as company:
            pids = company.processes.running()

        assert sorted(pids) == sorted(SERVICES)
        assert all(is_gone(pid) for pid in pids.values())

    def test_nothing_is_left_after_kill_9(self, tmp_path):
        """
        `kill -9` of the command ends every server, although no handler of ours can run.
        """
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tmp_path / "acme")],
            stdout=subprocess.PIPE,
            text=True,
        )
        with parent:
            pids = json.loads(parent.stdout.readline())
            assert {*SERVICES, "reaper"} == pids.keys()
            assert not any(is_gone(pid) for pid in pids.values())
            parent.kill()

        assert eventually(lambda: all(is_gone(pid) for pid in pids.values()))

    def test_a_server_that_does_not_start_is_named_and_nothing_is_left(self, tmp_path, monkeypatch):
        """
        The error names the server and shows its last words; the others are stopped.
        """
        monkeypatch.setattr("bot.sandbox.aws.arguments", lambda *_: ["--nonsense"])
        company = Company(tmp_path / "acme", runbooks=tmp_path)

        with pytest.raises(Failed, match=r"aws ended with exit code 2(?s:.*)--port"):
            company.start_all()
        assert company.processes.running() == {}

    def test_a_used_directory_is_refused(self, company):
        """
        A second company would overwrite the first one's files.
        """
        with pytest.raises(BadInput, match="not empty"):
            Company(company.directory, runbooks=company.directory).start_all()

    @pytest.mark.parametrize("name", ["aws", "mail", "slack", "orders", "envoy"])
    def test_a_crashed_server_comes_back_where_it_was(self, company, name):
        """
        Stopped, it refuses connections; started, it answers at the same address.
        """
        company.stop(name, kill=True)
        address = ("127.0.0.1", company.ports[name])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        company.start(name)

        socket.create_connection(address).close()
        assert sorted(SERVICES) == sorted(company.processes.running())
        assert eventually(lambda: company.orders_health()["ok"])


class TestHole:
    def test_a_stranger_reads_an_order_until_the_fix(self, company, ask, with_hole):
        """
        Through the gateway: 200 with the whole order before, 403 after; the owner always reads.
        """
        path = f"/api/orders/{PROBE_ORDER}"
        leaked = ask(path, "probe-stranger")
        assert (leaked.status_code, leaked.json()["customer_id"]) == (200, "cus-9001")

        company.deploy_fix("2.14.1")

        assert company.deployed_version() == "2.14.1"
        assert ask(path, "probe-stranger").status_code == 403
        assert ask(path, "probe-owner").status_code == 200
        assert ask(path, "support-ben").status_code == 200

    def test_the_gateway_wants_a_token_and_hides_internals(self, ask):
        """
        No token is a 401 at the gateway, and what is internal has no route at all.
        """
        assert ask(f"/api/orders/{PROBE_ORDER}").status_code == 401
        assert ask("/health").status_code == 200
        for path in ("/internal/health", "/internal/deploy", "/api/../internal/health"):
            assert ask(path, "probe-owner").status_code == 404

    def test_neighbours_answer(self, ask):
        """
        Everything else of the public API answers its rightful callers.
        """
        for path in (f"/api/orders/{PROBE_ORDER}/invoice", "/api/orders", "/api/customers/me"):
            assert ask(path, "probe-owner").status_code == 200


class TestOpenBao:
    def test_sealed_means_sealed(self, company):
        """
        A sealed server gives no secret to anybody; unsealed, it goes on where it was.
        """
        firedoor = vault_client(company, company.directory / "secrets" / "vault-token")
        before = company.orders_key_in_use()
        company.seal()
        try:
            with pytest.raises(hvac.exceptions.VaultDown, match="sealed"):
                firedoor.secrets.kv.v2.read_secret_version(
                    "orders-service/aws", raise_on_deleted_version=True
                )
            # The orders service lives on with the key that it has.
            assert eventually(lambda: not company.orders_health()["vault_ok"])
            assert (before, True) == (
                company.orders_health()["access_key_id"],
                company.orders_health()["ok"],
            )
        finally:
            company.unseal()

        assert eventually(lambda: company.orders_health()["vault_ok"])

    def test_secrets_survive_a_crash(self, company):
        """
        Storage is on disk: after `kill -9` and a start the same secrets are there.
        """
        before = company.bao.orders_key_versions()
        company.stop("openbao", kill=True)
        company.start("openbao")

        assert before == company.bao.orders_key_versions()

    @pytest.mark.parametrize(
        ("token", "may_write"), [("secrets/vault-token", True), ("orders/vault-token", False)]
    )
    def test_tokens_can_do_what_they_must_and_no_more(self, company, token, may_write):
        """
        Firedoor reads and writes one path, the orders service reads it; else all is refused.
        """
        client = vault_client(company, company.directory / token)
        kv = client.secrets.kv.v2
        read = kv.read_secret_version("orders-service/aws", raise_on_deleted_version=True)
        value = read["data"]["data"]

        assert client.lookup_token()["data"]["id"] == client.token
        if may_write:
            kv.create_or_update_secret("orders-service/aws", secret=value)
            assert kv.read_secret_metadata("orders-service/aws")["data"]["versions"]
        else:
            with pytest.raises(hvac.exceptions.Forbidden):
                kv.create_or_update_secret("orders-service/aws", secret=value)
        for refused in (
            lambda: kv.create_or_update_secret("other-service/aws", secret=value),
            lambda: kv.read_secret_version("other-service/aws", raise_on_deleted_version=True),
            lambda: kv.delete_metadata_and_all_versions("orders-service/aws"),
            lambda: client.sys.seal(),
            lambda: client.auth.token.create(),
        ):
            with pytest.raises(hvac.exceptions.Forbidden):
                refused()


class TestAws:
    @pytest.mark.parametrize(
        ("key_id", "code"),
        [
            pytest.param("AKIAUNKNOWNUNKNOWN00", "InvalidClientTokenId", id="unknown-key"),
            pytest.param(None, "SignatureDoesNotMatch", id="wrong-secret"),
        ],
    )
    def test_who_is_not_known_is_refused(self, company, key_id, code):
        """
        An unknown key and a wrong secret are refused, as in AWS.
        """
        sts = aws_client(company, "sts", key_id or orders_secret(company)[0], "wrong")

        with pytest.raises(ClientError) as refused:
            sts.get_caller_identity()
        assert code == refused.value.response["Error"]["Code"]

    def test_firedoor_may_rotate_one_users_keys_and_nothing_else(self, company):
        """
        The policy names five actions and one user; everything else is AccessDenied.
        """
        iam = firedoors_iam(company)
        key_id = (company.directory / "secrets" / "aws-access-key-id").read_text()
        assert iam.list_access_keys(UserName="orders-service")["AccessKeyMetadata"]
        for refused in (
            lambda: iam.list_access_keys(UserName="firedoor"),
            lambda: iam.create_access_key(),
            lambda: iam.get_access_key_last_used(AccessKeyId=key_id),
            lambda: iam.create_user(UserName="mallory"),
            lambda: iam.delete_user(UserName="orders-service"),
            lambda: iam.put_user_policy(
                UserName="orders-service", PolicyName="p", PolicyDocument="{}"
            ),
        ):
            with pytest.raises(ClientError) as error:
                refused()
            assert error.value.response["Error"]["Code"] == "AccessDenied"

    def test_control_pages_are_closed(self, company, http):
        """
        The stand-in's own pages would show every secret key, and switch IAM off.
        """
        url = company.places.url("aws")

        assert http.get(f"{url}/moto-api/data.json", timeout=5).status_code == 404
        assert http.post(f"{url}/moto-api/reset-auth", data="9", timeout=5).status_code == 404
        assert http.post(url, data={"Action": "ListUsers"}, timeout=5).status_code == 403


class TestRotationByHand:
    def test_a_new_key_in_openbao_is_taken_into_use(self, company):
        """
        The orders service follows OpenBao; then the old key can be deactivated, and deleted.
        """
        iam = firedoors_iam(company)
        old_id, old_secret = orders_secret(company)
        old_sts = aws_client(company, "sts", old_id, old_secret)
        assert old_sts.get_caller_identity()["Arn"].endswith("user/orders-service")
        new = iam.create_access_key(UserName="orders-service")["AccessKey"]
        firedoor = vault_client(company, company.directory / "secrets" / "vault-token")
        firedoor.secrets.kv.v2.create_or_update_secret(
            "orders-service/aws",
            secret={
                "access_key_id": new["AccessKeyId"],
                "secret_access_key": new["SecretAccessKey"],
            },
        )

        assert eventually(lambda: company.orders_key_in_use() == new["AccessKeyId"])
        used = iam.get_access_key_last_used(AccessKeyId=new["AccessKeyId"])
        assert used["AccessKeyLastUsed"]["ServiceName"] == "sts"
        iam.update_access_key(UserName="orders-service", AccessKeyId=old_id, Status="Inactive")
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            old_sts.get_caller_identity()
        assert company.orders_health()["ok"]
        # What was decided holds after a restart of AWS, too.
        company.stop("aws")
        company.start("aws")
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            old_sts.get_caller_identity()
        iam.delete_access_key(UserName="orders-service", AccessKeyId=old_id)
        assert [new["AccessKeyId"]] == [
            key["AccessKeyId"]
            for key in iam.list_access_keys(UserName="orders-service")["AccessKeyMetadata"]
        ]
        assert company.orders_health()["ok"]


class TestMail:
    def test_mail_is_kept_once_for_each_time_it_is_sent(self, company):
        """
        Every message is kept, with its envelope; the same one twice is kept twice.
        """
        message = EmailMessage()
        message["Subject"], message["Message-ID"] = "Customer data was read", "<1@acme.example>"
        message.set_content("Zwölf Bestellungen.\n")
        password = company.secrets()["smtp-password"]
        with smtplib.SMTP("127.0.0.1", company.ports["mail"]) as smtp:
            smtp.login("firedoor", password)
            for _ in range(2):
                smtp.send_message(
                    message, "firedoor@acme.example", ["legal@acme.example", "x@acme.example"]
                )

        kept = company.mails()[-2:]
        assert [mail.subject for mail in kept] == ["Customer data was read"] * 2
        assert kept[0].recipients == ("legal@acme.example", "x@acme.example")
        assert (
            kept[0].message_id,
            kept[0].text.replace("\r\n", "\n"),
        ) == ("<1@acme.example>", "Zwölf Bestellungen.\n")
        assert kept[0].number + 1 == kept[1].number

    def test_who_cannot_log_in_sends_nothing(self, company):
        """
        Without the password there is no mail.
        """
        before = len(company.mails())
        with smtplib.SMTP("127.0.0.1", company.ports["mail"]) as smtp:
            with pytest.raises(smtplib.SMTPSenderRefused):
                smtp.sendmail("a@acme.example", "b@acme.example", "x")
            with pytest.raises(smtplib.SMTPAuthenticationError):
                smtp.login("firedoor", "wrong")

        assert before == len(company.mails())


class TestSlack:
    def test_firedoors_tokens_open_it(self, company, http):
        """
        The stand-in takes the tokens that firedoor.yaml points at, and no others.
        """
        settings = yaml.safe_load(company.settings_file.read_text())
        token_file = company.directory / settings["slack"]["bot_token"]["file"]
        url = f"{settings['slack']['api_url']}auth.test"
        answers = [
            http.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=5).json()
            for token in (token_file.read_text(), "xoxb-wrong")
        ]

        assert [answer["ok"] for answer in answers] == [True, False]
        assert answers[0]["user_id"] == "U0FIREDOOR"


class TestSecrets:
    def test_they_are_nowhere_but_in_their_files(self, company):
        """
        No secret is in a process's arguments, in a log, in the settings or in the gateway's files.
        """
        secrets = company.secrets()
        arguments = subprocess.run(
            ["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True
        ).stdout
        public = [
            company.settings_file,
            *(company.directory / "logs").iterdir(),
            *(path for path in (company.directory / "gateway").rglob("*") if path.is_file()),
        ]
        texts = {
            "arguments": arguments,
            **{p.name: p.read_text("utf-8", "replace") for p in public},
        }

        found = [
            (name, place)
            for name, value in secrets.items()
            for place, text in texts.items()
            if value in text
        ]
        assert found == []
        # The search looked at something, and for something.
        assert str(company.directory) in arguments
        assert min(len(value) for value in secrets.values()) >= 16

    def test_their_files_are_the_owners_only(self, company):
        """
        Every directory that can hold a secret is 0700 or below one, every secret file 0600.
        """
        assert company.directory.stat().st_mode & 0o777 == 0o700
        private = [
            *(company.directory / "secrets").iterdir(),
            company.directory / "openbao" / "root-token",
            company.directory / "openbao" / "unseal-key",
            company.directory / "orders" / "jwt-key.pem",
            company.directory / "orders" / "accounts.json",
            company.directory / "aws" / "iam.json",
        ]

        assert {0o600} == {path.stat().st_mode & 0o777 for path in private}

    def test_the_current_key_is_among_them(self, company):
        """
        The list is read live: it knows the key that OpenBao holds now.
        """
        assert orders_secret(company)[1] in company.secrets().values()


class TestFaultProxy:
    def test_a_key_that_was_made_and_not_reported(self, company):
        """
        Before the moment AWS's answer arrives, the key exists; signatures survive the proxy.
        """
        iam = firedoors_iam(company)
        with FaultProxy(company.ports["aws"]) as proxy:
            secrets = company.directory / "secrets"
            through = boto3.client(
                "iam",
                region_name="us-east-1",
                endpoint_url=proxy.url,
                aws_access_key_id=(secrets / "aws-access-key-id").read_text(),
                aws_secret_access_key=(secrets / "aws-secret-access-key").read_text(),
                config=Config(retries={"total_max_attempts": 1}),
            )
            before = orders_keys(iam)
            assert before == orders_keys(through)
            proxy.drop(Match(body="Action=CreateAccessKey"), when="answer")
            with pytest.raises(Exception, match="Connection was closed"):
                through.create_access_key(UserName="orders-service")

        made = orders_keys(iam) - before
        assert len(made) == 1
        iam.delete_access_key(UserName="orders-service", AccessKeyId=made.pop())


class TestTraffic:
    def test_the_truth_is_what_the_gateway_logged(self, company):
        """
        What the attacker is said to have read is exactly what the gateway let through to it.
        """
        rates = Rates(customers_per_s=60, support_per_s=60, attacker_per_s=120)
        with Traffic(company.gateway_url, company.accounts(), rates=rates) as traffic:
            assert eventually(lambda: traffic.reads().foreign_reads >= 60)
        truth = traffic.reads()

        assert truth.subject == "cus-0300"
        assert traffic.errors() == 0
        assert {200} == set(traffic.statuses())
        assert set(range(FIRST_ORDER, FIRST_ORDER + 50)) <= (
            truth.foreign_records | truth.own_records
        )
        assert 0 < len(truth.foreign_owners) <= len(truth.foreign_records)
        assert truth.subject not in truth.foreign_owners
        assert set() == traffic.reads("support-ana").own_records
        assert eventually(lambda: logged(company, truth.subject) == truth.foreign_reads)

    def test_a_watcher_sees_the_first_block_and_the_neighbours(self, company, with_hole):
        """
        The first refusal after the last 200 is noted, while the neighbours go on answering.
        """
        stranger, owner = company.login(ATTACKER), company.login("probe-owner")
        neighbours = [Neighbour("/health"), Neighbour(f"/api/orders/{PROBE_ORDER}/invoice", owner)]
        path = f"/api/orders/{PROBE_ORDER}"
        with Watcher(company.gateway_url, path, stranger, neighbours=neighbours) as watcher:
            asked_ns = time.monotonic_ns()
            company.deploy_fix()
            watcher.wait_blocked()
            seen = watcher.stop()

        assert seen.blocked_status == 403
        assert asked_ns < seen.first_blocked_ns
        assert seen.last_allowed_ns < seen.first_blocked_ns
        assert (seen.errors, seen.neighbours_ok) == (0, True)

    def test_a_watcher_notices_a_neighbour_that_fails(self, company):
        """
        A neighbour that does not answer 200 spoils the proof.
        """
        token = company.login("probe-owner")
        path = f"/api/orders/{PROBE_ORDER}"
        with Watcher(
            company.gateway_url, path, token, neighbours=[Neighbour("/api/orders")], fresh=True
        ) as watcher:
            seen = watcher.stop()

        assert not seen.neighbours_ok
        assert ("/api/orders", 401) in seen.neighbours_failed
        assert (seen.first_blocked_ns, seen.errors) == (None, 0)


def logged(company: Company, subject: str) -> int:
    """Count, in the gateway's log, the reads by a subject of orders that are another's."""
    text = company.places.access_log.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return sum(
        line["sub"] == subject
        and int(line["response_code"]) == 200
        and line["resource_owner"] not in (None, subject)
        for line in lines
    )


def test_ctrl_c_leaves_nothing(tmp_path):
    """
    Ctrl-C while the servers are still starting ends them all.
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "acme")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    mark = str(tmp_path)
    with parent:
        assert eventually(lambda: len(processes_with(mark)) > 3)
        os.killpg(parent.pid, signal.SIGINT)

    assert eventually(lambda: not processes_with(mark))


def processes_with(mark: str) -> list[str]:
    """Command lines of running processes that name a directory."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if mark in line]
