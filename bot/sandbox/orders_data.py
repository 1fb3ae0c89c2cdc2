"""The orders service's customers, orders and logins, in one SQLite file.

People and orders are the same on every machine, so that figures can be compared. Passwords are
random for each company and made by a machine, so one SHA-256 is enough to keep them: there is no
word list to try against 128 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from bot.sandbox.files import write_secret

Role = Literal["customer", "support", "service"]

CUSTOMERS = 300
CUSTOMERS_WITH_LOGIN = 40
FIRST_ORDER = 1001
ORDERS = 3000
PROBE_ORDER = FIRST_ORDER + ORDERS
"""Belongs to the probe's owner; the example of ``order_id`` in openapi.yaml."""

ATTACKER = "mallory.reed"
PROBE_OWNER, PROBE_STRANGER = "probe-owner", "probe-stranger"
SUPPORT = ("support-ana", "support-ben")
SERVICE = "svc-fulfilment"

FIRST_VERSION = "2.14.0"
"""What is deployed at first: the version with the hole."""

_PROBE_CUSTOMERS = {PROBE_OWNER: "cus-9001", PROBE_STRANGER: "cus-9002"}


def _words(text: str) -> list[str]:
    return text.split()


_FIRST_NAMES = _words(
    "Ada Bruno Carla Dmitri Elif Femi Greta Hugo Ines Jonas Kavya Liam Mina Noor Otto Petra Quinn "
    "Rosa Stefan Tomas Uma Viktor Wanda Ximena Yusuf Zofia"
)
_LAST_NAMES = _words(
    "Abebe Berg Costa Dubois Eriksen Fischer Greco Hansen Ivanova Jansen Kowalski Lindqvist Moreau "
    "Novak Okafor Petrov Rossi Schmidt Tanaka Usman Vargas Weber Yilmaz Zhang"
)
_STREETS = ("Harbour Street", "Mill Lane", "Linden Avenue", "Station Road", "Castle Hill")
_CITIES = (("Rotterdam", "NL"), ("Gdansk", "PL"), ("Porto", "PT"), ("Graz", "AT"), ("Turku", "FI"))
_ITEMS = ("desk lamp", "kettle", "wool blanket", "bicycle light", "garden chair", "rucksack")

_SCHEMA = """
create table customers(id text primary key, name text, email text, street text, city text,
                       postcode text, country text, test_account integer not null);
create table logins(username text primary key, password_sha256 text, subject text, role text);
create table orders(id integer primary key, customer_id text not null references customers(id),
                    status text, placed_at text, item text, quantity integer, total_cents integer,
                    card_brand text, card_last4 text);
create index orders_by_customer on orders(customer_id, id);
create table deployed(version text not null, ownership_check integer not null);
"""


@dataclass(frozen=True)
class Account:
    """Somebody who can log in. ``subject`` is the customer's id, or the account's own name."""

    username: str
    password: str
    subject: str
    role: Role


@dataclass(frozen=True)
class _Customer:
    id: str
    name: str
    username: str
    test_account: bool = False


def _customers() -> Iterator[_Customer]:
    for number in range(1, CUSTOMERS + 1):
        first = _FIRST_NAMES[number % len(_FIRST_NAMES)]
        last = _LAST_NAMES[number % len(_LAST_NAMES)]
        if number == CUSTOMERS:
            first, last = "Mallory", "Reed"
        username = ATTACKER if number == CUSTOMERS else f"{first}.{last}{number}".lower()
        yield _Customer(f"cus-{number:04d}", f"{first} {last}", username)
    yield _Customer(_PROBE_CUSTOMERS[PROBE_OWNER], "Probe Owner", PROBE_OWNER, True)
    yield _Customer(_PROBE_CUSTOMERS[PROBE_STRANGER], "Probe Stranger", PROBE_STRANGER, True)


def make_accounts() -> list[Account]:
    """Return everybody who can log in, with fresh random passwords."""

    def account(username: str, subject: str, role: Role) -> Account:
        return Account(username, secrets.token_urlsafe(16), subject, role)

    people = list(_customers())
    with_login = [*people[:CUSTOMERS_WITH_LOGIN], *people[CUSTOMERS - 1 :]]
    return [
        *(account(person.username, person.id, "customer") for person in with_login),
        *(account(name, name, "support") for name in SUPPORT),
        account(SERVICE, SERVICE, "service"),
    ]


def write_accounts(path: Path, accounts: list[Account]) -> None:
    """Write accounts for the orders service to read at its first start."""
    write_secret(path, json.dumps([asdict(account) for account in accounts], indent=1))


def read_accounts(path: Path) -> list[Account]:
    """Read what ``write_accounts`` wrote."""
    return [Account(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


class OrdersData:
    """The database. Made and filled if the file does not exist yet."""

    def __init__(self, path: Path, accounts: list[Account]) -> None:
        is_new = not path.exists()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        if is_new:
            # Losing a stand-in's data in a power cut costs nothing; waiting for the disk does.
            self._db.execute("pragma synchronous = off")
            self._db.execute("begin")
            _fill(self._db, accounts)
            self._db.execute("commit")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def check_login(self, username: str, password: str) -> tuple[str, Role] | None:
        """Return the subject and role if the password is right."""
        row = self._one("select * from logins where username = ?", username)
        known = row["password_sha256"] if row is not None else ""
        if not hmac.compare_digest(known, _sha256(password)) or row is None:
            return None
        return row["subject"], row["role"]

    def customer(self, customer_id: str) -> dict[str, Any] | None:
        """Return a customer as the API shows it."""
        row = self._one("select * from customers where id = ?", customer_id)
        if row is None:
            return None
        return {
            "customer_id": row["id"],
            "name": row["name"],
            "email": row["email"],
            "address": _address(row),
            "test_account": bool(row["test_account"]),
        }

    def order(self, order_id: int) -> dict[str, Any] | None:
        """Return an order as the API shows it, with its owner under ``customer_id``."""
        row = self._one(
            "select o.*, c.name, c.street, c.city, c.postcode, c.country "
            "from orders o join customers c on c.id = o.customer_id where o.id = ?",
            order_id,
        )
        if row is None:
            return None
        return {
            **_summary(row),
            "customer_id": row["customer_id"],
            "customer_name": row["name"],
            "delivery_address": _address(row),
            "payment": {"card_brand": row["card_brand"], "card_last4": row["card_last4"]},
        }

    def orders_of(self, customer_id: str) -> list[dict[str, Any]]:
        """Return a customer's own orders in short, oldest first."""
        rows = self._db.execute(
            "select * from orders where customer_id = ? order by id", (customer_id,)
        )
        return [_summary(row) for row in rows]

    def deployed(self) -> tuple[str, bool]:
        """Return the deployed version, and whether it checks who owns an order."""
        row = self._one("select * from deployed")
        if row is None:
            raise LookupError("deployed")
        return row["version"], bool(row["ownership_check"])

    def deploy(self, version: str, ownership_check: bool) -> None:
        """Deploy another version."""
        self._db.execute("update deployed set version = ?, ownership_check = ?",
                         (version, ownership_check))  # fmt: skip

    def _one(self, query: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return row


def _sha256(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _address(row: sqlite3.Row) -> dict[str, str]:
    return {name: row[name] for name in ("street", "postcode", "city", "country")}


def _summary(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "order_id": row["id"],
        "status": row["status"],
        "placed_at": row["placed_at"],
        "items": [{"name": row["item"], "quantity": row["quantity"]}],
        "total_cents": row["total_cents"],
        "currency": "EUR",
    }


def _fill(db: sqlite3.Connection, accounts: list[Account]) -> None:
    chance = random.Random(2023)  # noqa: S311 - sample data, the same on every machine
    # One statement at a time: executescript would end the caller's transaction.
    for statement in _SCHEMA.split(";")[:-1]:
        db.execute(statement)
    people = list(_customers())
    for person in people:
        city, country = chance.choice(_CITIES)
        street = f"{chance.choice(_STREETS)} {chance.randint(1, 180)}"
        postcode = str(chance.randint(10_000, 99_999))
        email = f"{person.username}@mail.example"
        db.execute("insert into customers values (?, ?, ?, ?, ?, ?, ?, ?)",
                   (person.id, person.name, email, street, city, postcode, country,
                    person.test_account))  # fmt: skip
    db.executemany(
        "insert into logins values (?, ?, ?, ?)",
        [(a.username, _sha256(a.password), a.subject, a.role) for a in accounts],
    )
    owners = [chance.choice(people[:CUSTOMERS]).id for _ in range(ORDERS)]
    first_day = datetime(2026, 1, 5, 8, tzinfo=UTC)
    for offset, owner in enumerate([*owners, _PROBE_CUSTOMERS[PROBE_OWNER]]):
        placed = first_day + timedelta(minutes=97 * offset)
        status = chance.choice(("delivered", "delivered", "shipped", "packed"))
        db.execute("insert into orders values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   (FIRST_ORDER + offset, owner, status, placed.isoformat(), chance.choice(_ITEMS),
                    chance.randint(1, 4), chance.randint(900, 24_000),
                    chance.choice(("visa", "mastercard")),
                    f"{chance.randint(0, 9999):04d}"))  # fmt: skip
    db.execute("insert into deployed values (?, ?)", (FIRST_VERSION, False))
