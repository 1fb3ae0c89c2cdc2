"""The orders service: its hole, its fix, and what it never shows."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import httpx
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from bot.sandbox import orders_api, orders_data
from bot.sandbox.orders_data import FIRST_ORDER, ORDERS, PROBE_ORDER, Account, OrdersData
from bot.sandbox.orders_key import KeyInUse, KeySource
from bot.sandbox.orders_tokens import AUDIENCE, ISSUER, KEY_ID, jwks_of, new_key, read_key

OPENAPI = Path(orders_api.__file__).with_name("openapi.yaml")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return new_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def accounts() -> dict[str, Account]:
    return {account.username: account for account in orders_data.make_accounts()}


@pytest.fixture
def data(tmp_path, accounts):
    opened = OrdersData(tmp_path / "orders.sqlite", list(accounts.values()))
    yield opened
    opened.close()


@pytest.fixture
def app(tmp_path, data, key):
    nowhere = KeySource(
        "http://127.0.0.1:1", tmp_path / "none", "kv", "p", "http://127.0.0.1:1", "r"
    )
    return orders_api.build_app(data, key, KeyInUse(nowhere))


class Client:
    """Calls the application in this process."""

    def __init__(self, app) -> None:
        self.app = app

    def request(self, method: str, path: str, **content) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://orders") as client:
                return await client.request(method, path, **content)

        return asyncio.run(send())

    def get(self, path: str, **content) -> httpx.Response:
        return self.request("GET", path, **content)

    def post(self, path: str, **content) -> httpx.Response:
        return self.request("POST", path, **content)


@pytest.fixture
def client(app):
    return Client(app)


@pytest.fixture
def as_(client, accounts):
    """Returns headers that log somebody in."""

    def headers(username: str) -> dict[str, str]:
        body = {"username": username, "password": accounts[username].password}
        answer = client.post("/api/login", json=body)
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    return headers


class TestTheHole:
    def test_any_logged_in_user_reads_any_order(self, client, as_):
        """
        Before the fix a stranger gets the whole order, with its owner in the logged header.
        """
        answer = client.get(f"/api/orders/{PROBE_ORDER}", headers=as_("probe-stranger"))

        assert answer.status_code == 200
        assert "cus-9001" == answer.headers["x-resource-owner"] == answer.json()["customer_id"]
        assert {"customer_name", "delivery_address", "payment"} <= answer.json().keys()

    def test_every_order_can_be_told_from_every_other(self, data):
        """
        A leaked order says whose it is, where they live and what they paid with.
        """
        orders = [data.order(number) for number in range(FIRST_ORDER, FIRST_ORDER + ORDERS + 1)]
        shown = {json.dumps({**order, "order_id": 0}) for order in orders}

        assert len(orders) == len(shown)

    def test_the_fix_closes_it_and_only_it(self, client, as_):
        """
        Once the check is deployed: strangers and machines 403, the owner and support 200.
        """
        client.post("/internal/deploy", json={"version": "2.14.1", "ownership_check": True})
        seen = {
            name: client.get(f"/api/orders/{PROBE_ORDER}", headers=as_(name)).status_code
            for name in ("probe-owner", "probe-stranger", "support-ana", "svc-fulfilment")
        }

        assert seen == {
            "probe-owner": 200,
            "probe-stranger": 403,
            "support-ana": 200,
            "svc-fulfilment": 403,
        }
        assert (client.get("/internal/version").json()) == {
            "version": "2.14.1",
            "ownership_check": True,
        }

    def test_a_refusal_does_not_say_whose_order_it_is(self, client, as_):
        """
        A 403 shows neither the order nor its owner.
        """
        client.post("/internal/deploy", json={"version": "2.14.1"})
        answer = client.get(f"/api/orders/{PROBE_ORDER}", headers=as_("probe-stranger"))

        assert "cus-9001" not in answer.text
        assert "x-resource-owner" not in answer.headers

    def test_the_deployed_version_survives_a_restart(self, tmp_path, data):
        """
        A service that starts again runs what was deployed.
        """
        data.deploy("2.14.1", True)
        again = OrdersData(tmp_path / "orders.sqlite", [])
        try:
            assert again.deployed() == ("2.14.1", True)
        finally:
            again.close()

    def test_neighbours_check_ownership_from_the_start(self, client, as_):
        """
        The hole is in one operation; the invoice next to it refuses strangers.
        """
        path = f"/api/orders/{PROBE_ORDER}/invoice"

        assert client.get(path, headers=as_("probe-stranger")).status_code == 403
        assert client.get(path, headers=as_("probe-owner")).status_code == 200


class TestLogin:
    @pytest.mark.parametrize("username", ["probe-owner", "nobody"])
    def test_wrong_password_and_unknown_user_look_alike(self, client, username):
        """
        A refused login does not say whether the user exists.
        """
        answer = client.post("/api/login", json={"username": username, "password": ""})

        assert (
            answer.status_code,
            answer.json(),
        ) == (401, {"detail": "Unknown user name or wrong password."})

    def test_passwords_are_not_in_the_database(self, tmp_path, data, accounts):
        """
        The database holds hashes only.
        """
        content = (tmp_path / "orders.sqlite").read_bytes()

        assert b"probe-owner" in content
        assert not [a.username for a in accounts.values() if a.password.encode() in content]

    def test_every_company_has_its_own_passwords(self, accounts):
        """
        No secret is the same in two companies.
        """
        others = {account.password for account in orders_data.make_accounts()}

        assert not others & {account.password for account in accounts.values()}

    def test_the_key_is_read_back(self, tmp_path):
        """
        The service signs with the key whose public half the gateway was given.
        """
        made = new_key(tmp_path)

        assert jwks_of(made) == jwks_of(read_key(tmp_path))
        assert (tmp_path / "jwt-key.pem").stat().st_mode & 0o777 == 0o600


class TestTokens:
    def claims(self, **changed):
        made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "cus-9001", "role": "customer"}
        return {**made, "exp": 4_000_000_000, **changed}

    def test_a_right_token_made_by_hand_is_taken(self, client, key):
        """
        Shows that the tokens below are refused for the one thing that is wrong with each.
        """
        token = jwt.encode(self.claims(), key, "RS256", {"kid": KEY_ID})

        answer = client.get("/api/customers/me", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["test_account"]) == (200, True)

    @pytest.mark.parametrize(
        "changed",
        [
            pytest.param({"exp": 1}, id="expired"),
            pytest.param({"iss": "https://elsewhere.example"}, id="another-issuer"),
            pytest.param({"aud": "billing"}, id="for-another-service"),
            pytest.param({"role": None}, id="no-role"),
        ],
    )
    def test_tokens_that_do_not_hold_are_refused(self, client, key, changed):
        """
        The service verifies tokens itself, and does not lean on the gateway.
        """
        claims = {name: value for name, value in self.claims(**changed).items() if value}
        token = jwt.encode(claims, key, "RS256")

        answer = client.get("/api/orders", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401

    def test_tokens_of_another_key_or_none_are_refused(self, client):
        """
        A signature by somebody else, an unsigned token, or no token at all is a 401.
        """
        forger = generate_private_key(public_exponent=65537, key_size=2048)
        forged = jwt.encode(self.claims(), forger, "RS256", {"kid": KEY_ID})
        unsigned = jwt.encode(self.claims(), "", "none")

        for header in (f"Bearer {forged}", f"Bearer {unsigned}", "Bearer", "Basic eDp5", ""):
            answer = client.get("/api/orders", headers={"Authorization": header})
            assert answer.status_code == 401


class TestData:
    def test_orders_are_spread_over_customers(self, data):
        """
        An attacker who walks order numbers meets many people, and some orders twice as many.
        """
        owners = Counter(
            data.order(number)["customer_id"] for number in range(FIRST_ORDER, FIRST_ORDER + 300)
        )

        assert len(owners) > 100
        assert "cus-0300" in Counter(
            data.order(number)["customer_id"] for number in range(FIRST_ORDER, PROBE_ORDER)
        )

    def test_customers_see_their_own_orders(self, client, as_, data):
        """
        The list holds exactly the caller's orders, without address or card.
        """
        listed = client.get("/api/orders", headers=as_("mallory.reed")).json()["orders"]

        assert [
            number
            for number in range(FIRST_ORDER, PROBE_ORDER + 1)
            if data.order(number)["customer_id"] == "cus-0300"
        ] == [entry["order_id"] for entry in listed]
        assert "payment" not in listed[0]

    def test_unknown_orders_are_404(self, client, as_):
        """
        A number that no order has is told as such.
        """
        assert client.get("/api/orders/9", headers=as_("probe-owner")).status_code == 404


class TestInventoryDocument:
    def test_it_describes_exactly_the_public_operations(self, app):
        """
        openapi.yaml and the code name the same operations; internal ones have no route outside.
        """
        document = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))
        described = {
            (method.upper(), path)
            for path, item in document["paths"].items()
            for method in item
            if method != "parameters"
        }
        served = {
            (method, route.path)
            for route in app.routes
            for method in route.methods
            if not route.path.startswith("/internal/")
        }

        assert served == described

    def test_every_operation_has_an_owner_and_a_classification(self):
        """
        What the inventory needs is there for each operation.
        """
        document = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))
        operations = [
            operation
            for item in document["paths"].values()
            for method, operation in item.items()
            if method != "parameters"
        ]

        for operation in operations:
            assert {
                "operationId",
                "summary",
                "x-owner",
                "x-data-classification",
            } <= operation.keys()
        assert len(operations) == len({operation["operationId"] for operation in operations})

    def test_the_example_order_belongs_to_the_probes_owner(self, data):
        """
        A probe made from the document reads a test account's order, never a real customer's.
        """
        document = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))
        example = document["components"]["parameters"]["OrderId"]["example"]

        assert example == PROBE_ORDER
        owner = data.customer(data.order(example)["customer_id"])
        assert owner["test_account"]


class TestKeyInUse:
    def test_without_a_key_it_says_so(self, client):
        """
        Before OpenBao was read there is no key, and nothing claims that AWS works.
        """
        health = client.get("/internal/health").json()

        assert (
            health["access_key_id"],
            health["ok"],
            health["aws_error"],
            health["vault_ok"],
        ) == (None, False, "NoKey", False)

    def test_its_source_is_read_back(self, tmp_path):
        """
        What company.py writes for the service is what the service reads.
        """
        source = KeySource("http://a", tmp_path / "token", "secret", "p", "http://b", "us-east-1")
        source.write(tmp_path)

        assert source == KeySource.read(tmp_path)
