"""What AWS, Vault and a consumer may answer, and what we make of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from actions.credentials import AwsIam, AwsKeyCredential, VaultKv
from actions.credentials.aws import KeyPair, KeyRefused, NoSuchUser, SlotsFull
from actions.credentials.credential import Consumer, waited_for
from actions.credentials.vault import CasMismatch
from bot.errors import ProviderRefused, ProviderUnreachable
from tests.unit.actions.credentials.conftest import Answer

CANARY = "canary-0123456789"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def vault(server):
    return VaultKv("main", server.url, CANARY)


@pytest.fixture
def iam(server):
    return AwsIam("main", "us-east-1", server.url, "AKIAX", CANARY)


def aws_error(status: int, code: str) -> Answer:
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{CANARY}</Message></Error>"
    return Answer(status, f"{body}</ErrorResponse>".encode(), {"Content-Type": "text/xml"})


class TestVault:
    @pytest.mark.parametrize(
        ("answer", "error", "says"),
        [
            (Answer(0), ProviderUnreachable, "no usable answer"),
            (Answer(200, b"<html>"), ProviderUnreachable, "no usable answer"),
            (Answer(503, b'{"errors":["Vault is sealed"]}'), ProviderUnreachable, "unseal it"),
            (
                Answer(503, b'{"errors":["Vault is sealed"]}', JSON),
                ProviderUnreachable,
                "unseal it",
            ),
            (Answer(500), ProviderUnreachable, "answers 500 to POST secret/data/a; try again"),
            (Answer(504), ProviderUnreachable, "answers 504 to POST secret/data/a; try again"),
            # Of a proxy: JSON, but none of Vault's.
            (Answer(502, b'["down"]', JSON), ProviderUnreachable, "try again later"),
            (Answer(502, b'{"errors":[{"code":1}]}', JSON), ProviderUnreachable, "try again later"),
            (Answer(429), ProviderUnreachable, "try again later"),
            (Answer(403), ProviderRefused, "policy"),
            (Answer(405), ProviderRefused, "status 405; check kv_mount"),
            (Answer(404), ProviderRefused, "kv_mount"),
            (
                Answer(400, b'{"errors":["check-and-set parameter did not match"]}'),
                CasMismatch,
                "newer version",
            ),
        ],
    )
    def test_a_write_fails_by_what_to_do_next(self, server, vault, answer, error, says):
        """Unreachable may be tried again, refused needs a change; neither tells a secret."""
        server.answer = answer

        with pytest.raises(error, match=says) as raised:
            vault.write("a", {"secret_access_key": CANARY}, cas=1)

        assert CANARY not in str(raised.value)
        assert raised.value.__context__ is raised.value.__cause__ is None

    def test_the_server_says_when_to_come_back(self, server, vault):
        """Its wish is passed on to the driver."""
        server.answer = Answer(429, headers={"Retry-After": "7"})

        with pytest.raises(ProviderUnreachable) as busy:
            vault.read("a")
        assert busy.value.retry_after_s == 7

    def test_the_token_follows_no_redirect(self, server, vault):
        """A standby node must not send our token elsewhere."""
        server.answer = Answer(307, headers={"Location": f"{server.url}/stolen"})

        with pytest.raises(ProviderUnreachable, match="active node"):
            vault.read("a")
        assert [path for _, path, _ in server.requests] == ["/v1/secret/data/a"]

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_check_needs_an_answer_about_health(self, server, vault, status):
        """Only the codes that were asked for say something about the seal."""
        server.answer = Answer(status)

        with pytest.raises(ProviderUnreachable, match=f"answers {status} to GET sys/health"):
            vault.check()

    def test_only_its_settings_decide_whom_to_trust(
        self, tls_server, certificate, monkeypatch, tmp_path
    ):
        """The library looks for certificates in the environment."""
        for variable in ("VAULT_CACERT", "VAULT_CAPATH", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY"):
            monkeypatch.setattr(f"hvac.v1.{variable}", str(tmp_path / "there-is-none"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "there-is-none"))
        tls_server.answer = Answer(404)
        url = tls_server.url.replace("http:", "https:")

        assert VaultKv("main", url, CANARY, ca_file=str(certificate)).read("a") is None
        with pytest.raises(ProviderUnreachable, match="no usable answer"):
            VaultKv("main", url, CANARY).read("a")
        assert tls_server.tokens == [CANARY]

    def test_an_empty_token_is_not_replaced(self, server, monkeypatch):
        """Better refused than sent someone's own."""
        monkeypatch.setenv("VAULT_TOKEN", "of-the-shell")
        VaultKv("main", server.url, "").read("a")

        assert server.tokens == [None]

    def test_an_empty_address_is_not_replaced(self, server, monkeypatch):
        """The token goes to no server that the settings do not name."""
        monkeypatch.setenv("VAULT_ADDR", server.url)

        with pytest.raises(ProviderUnreachable, match=r"mend its url in firedoor\.yaml"):
            VaultKv("main", "", CANARY).read("a")
        assert server.requests == []

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(404, b'{"errors":[]}'),
            Answer(404, b'{"errors":[]}', JSON),
            Answer(404, b'{"data":{"data":null,"metadata":{"deletion_time":"x"}}}', JSON),
            Answer(200, b'{"data":{"data":null,"metadata":{"version":3}}}'),
        ],
    )
    def test_what_is_not_there_is_none(self, server, vault, answer):
        """Never written, or deleted: both hold nothing."""
        server.answer = answer

        assert vault.read("a") is None

    def test_neither_token_nor_data_show(self, server, vault):
        """A repr goes to logs and tracebacks."""
        server.answer = Answer(
            200, b'{"data":{"data":{"x":"%s"},"metadata":{"version":3}}}' % CANARY.encode()
        )
        secret = vault.read("a")

        assert secret.data == {"x": CANARY}
        assert CANARY not in repr(vault) + repr(secret)


class TestAws:
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (Answer(0), ProviderUnreachable),
            (Answer(200, b"<html"), ProviderUnreachable),
            (aws_error(500, "ServiceFailure"), ProviderUnreachable),
            (aws_error(400, "Throttling"), ProviderUnreachable),
            (aws_error(409, "LimitExceeded"), SlotsFull),
            (aws_error(404, "NoSuchEntity"), NoSuchUser),
            (aws_error(403, "AccessDenied"), ProviderRefused),
            (aws_error(403, "InvalidClientTokenId"), KeyRefused),
            (aws_error(403, "SignatureDoesNotMatch"), KeyRefused),
        ],
    )
    def test_a_key_is_asked_for_once_and_fails_by_what_to_do_next(self, server, iam, answer, error):
        """A retry by the library after a lost answer would make a second key."""
        server.answer = answer

        with pytest.raises(error) as raised:
            iam.create_key("orders")

        assert type(raised.value) is error
        assert len(server.requests) == 1
        assert CANARY not in str(raised.value)
        assert raised.value.__context__ is raised.value.__cause__ is None

    def test_a_deletion_of_what_is_gone_is_done(self, server, iam):
        """Deleting is safe to repeat."""
        server.answer = aws_error(404, "NoSuchEntity")

        iam.delete_key("orders", "AKIAIOSFODNN7EXAMPLE")

    def test_no_secret_shows(self, iam):
        """A repr goes to logs and tracebacks."""
        assert CANARY not in repr(iam) + repr(KeyPair("AKIAX", CANARY))

    def test_bad_settings_are_refused(self):
        """What the library itself refuses needs a change in our settings."""
        with pytest.raises(ProviderRefused, match=r"firedoor\.yaml"):
            AwsIam("main", "us-east-1", None, "A", "B").list_keys("")

    def test_nothing_heavy_is_loaded_before_it_is_needed(self):
        """`firedoor serve` waits most of its life; AWS's library comes with the first call."""
        code = (
            "import sys, actions.credentials as c\n"
            "c.AwsIam('main', 'us-east-1')\n"
            "print([m for m in ('boto3', 'botocore', 'hvac', 'duckdb') if m in sys.modules])"
        )

        assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


class TestConsumer:
    @pytest.fixture
    def credential(self, server, vault, iam):
        return AwsKeyCredential("orders", "orders", iam, vault, "orders/aws", server.url)

    @pytest.mark.parametrize(
        ("body", "consumer"),
        [
            (b'{"aws_access_key_id": "AKIA1"}', Consumer("AKIA1", None)),
            (b'{"access_key_id": "AKIA1", "aws_ok": false}', Consumer("AKIA1", False)),
            (b'{"access_key_id": null}', Consumer(None, None)),
        ],
    )
    def test_says_which_key_it_uses(self, server, credential, body, consumer):
        """And, if it wants, whether AWS takes it."""
        server.answer = Answer(200, body)

        assert credential.consumer() == consumer

    @pytest.mark.parametrize(
        "answer", [Answer(0), Answer(500), Answer(200, b"<html>"), Answer(200, b"[]"), Answer(302)]
    )
    def test_anything_else_is_no_usable_answer(self, server, credential, answer):
        """Which key it uses is then not known."""
        server.answer = answer

        with pytest.raises(ProviderUnreachable):
            credential.consumer()


def test_a_wait_ends():
    """A condition that never holds is not waited for beyond the limit."""
    asked = []

    assert not waited_for(lambda: bool(asked.append(1)), 0.3)
    assert len(asked) > 1
    assert waited_for(lambda: True, 0)
