"""People and an attacker at the gateway, with the truth about what was read; and a watcher.

`Traffic` makes bounded traffic in the background: customers read their own orders, support reads
many orders because it may, and an attacker walks the order numbers. What the attacker really got
is kept, so that Firedoor's counts can be compared with it.

`Watcher` asks one endpoint as fast as a person with a stopwatch would like to, and notes when it
was first blocked, and whether its neighbours went on answering.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from bot.errors import BadInput, Failed, TimedOut
from bot.sandbox.orders_data import ATTACKER, FIRST_ORDER, ORDERS, SUPPORT, Account

BLOCKED = (403, 429, 503)
OWNER_HEADER = "x-resource-owner"
CUSTOMERS_SHOPPING = 12


@dataclass(frozen=True)
class Rates:
    """Requests a second: of all customers together, of support, and of each attacker."""

    customers_per_s: float = 20.0
    support_per_s: float = 10.0
    attacker_per_s: float = 30.0


@dataclass(frozen=True)
class Reads:
    """
    What one account got from ``GET /api/orders/{order_id}``.

    ``foreign_records`` are the orders of others that it read, ``foreign_owners`` whose they are,
    ``foreign_reads`` counts their successful reads (one order read twice is two reads).
    """

    subject: str
    foreign_reads: int
    foreign_records: frozenset[int]
    foreign_owners: frozenset[str]
    own_records: frozenset[int]


@dataclass
class _Tally:
    """Counts of one account; written by its own thread only."""

    subject: str
    statuses: Counter[int] = field(default_factory=Counter)
    errors: int = 0
    foreign: list[tuple[int, str]] = field(default_factory=list)
    own: set[int] = field(default_factory=set)

    def reads(self) -> Reads:
        foreign = list(self.foreign)
        return Reads(
            subject=self.subject,
            foreign_reads=len(foreign),
            foreign_records=frozenset(order for order, _ in foreign),
            foreign_owners=frozenset(owner for _, owner in foreign),
            own_records=frozenset(self.own),
        )


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _Client:
    """One caller's connection to the gateway, kept open between requests unless ``fresh``."""

    def __init__(self, gateway_url: str, *, fresh: bool = False) -> None:
        address = urlsplit(gateway_url)
        self._connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=10
        )
        self._fresh = fresh

    def ask(
        self, method: str, path: str, token: str | None = None, body: object = None
    ) -> _Answer | None:
        """Send one request; None if no answer came (the connection is opened anew next time)."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body)
        try:
            self._connection.request(method, path, body=content, headers=headers)
            response = self._connection.getresponse()
            answer = _Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        if self._fresh:
            self.close()
        return answer

    def log_in(self, account: Account) -> str:
        """Return a token. Raises Failed if the gateway or the service does not give one."""
        body = {"username": account.username, "password": account.password}
        answer = self.ask("POST", "/api/login", body=body)
        if answer is None or answer.status != 200:
            seen = "nothing" if answer is None else answer.status
            raise Failed(
                f"{account.username} cannot log in through the gateway (it answered {seen}), "
                "so there is no traffic. Look whether gateway and orders service run."
            )
        return str(json.loads(answer.body)["token"])

    def close(self) -> None:
        self._connection.close()


class Traffic:
    """
    Traffic through the gateway from ``start`` to ``stop``. A context manager.

    Args:
        accounts: Everybody who can log in; `Company.accounts()`.

        attackers: User names of those who walk the order numbers, each from the first one on.
            None at all makes peaceful traffic.
    """

    def __init__(
        self,
        gateway_url: str,
        accounts: Sequence[Account],
        *,
        rates: Rates | None = None,
        attackers: Sequence[str] = (ATTACKER,),
    ) -> None:
        self._url = gateway_url
        self._rates = rates or Rates()
        self._by_name = {account.username: account for account in accounts}
        unknown = [name for name in attackers if name not in self._by_name]
        if unknown:
            raise BadInput(f"Nobody is called {', '.join(unknown)}; no traffic was made.")
        self._attackers = tuple(attackers)
        self._tallies: dict[str, _Tally] = {}
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Log everybody in and begin. Raises Failed if somebody cannot log in."""
        shoppers = [a for a in self._by_name.values() if a.role == "customer"]
        shoppers = [a for a in shoppers if a.username not in self._attackers]
        self._begin(self._shop, shoppers[:CUSTOMERS_SHOPPING], self._rates.customers_per_s)
        support = [self._by_name[name] for name in SUPPORT if name not in self._attackers]
        self._begin(self._support, support, self._rates.support_per_s)
        for name in self._attackers:
            self._begin(self._attack, [self._by_name[name]], self._rates.attacker_per_s)

    def stop(self) -> None:
        """End the traffic; requests under way are finished and counted."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def reads(self, username: str = ATTACKER) -> Reads:
        """Return what an account has read so far; exact after ``stop``."""
        return self._tallies[username].reads()

    def statuses(self, username: str | None = None) -> dict[int, int]:
        """Return how often each status code was answered, to one account or to all."""
        total: Counter[int] = Counter()
        for name, tally in self._tallies.items():
            if username in (None, name):
                total.update(tally.statuses.copy())
        return dict(total)

    def errors(self) -> int:
        """Return how many requests got no answer at all."""
        return sum(tally.errors for tally in self._tallies.values())

    def _begin(
        self,
        plan: Callable[[list[Account], _Client], Iterator[tuple[Account, str]]],
        accounts: list[Account],
        rate_per_s: float,
    ) -> None:
        if not accounts or rate_per_s <= 0:
            return
        client = _Client(self._url)
        tokens = {account.username: client.log_in(account) for account in accounts}
        self._tallies.update({a.username: _Tally(a.subject) for a in accounts})

        def run() -> None:
            due = time.monotonic()
            for account, path in plan(accounts, client):
                if self._ended.wait(max(0.0, due - time.monotonic())):
                    break
                # Slower answers than the rate allows are not made up for by a burst.
                due = max(due + 1 / rate_per_s, time.monotonic())
                self._ask(client, account, path, tokens[account.username])
            client.close()

        thread = threading.Thread(target=run, name=f"traffic-{plan.__name__}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _ask(self, client: _Client, account: Account, path: str, token: str) -> None:
        tally = self._tallies[account.username]
        answer = client.ask("GET", path, token)
        if answer is None:
            tally.errors += 1
            return
        tally.statuses[answer.status] += 1
        order = path.removeprefix("/api/orders/")
        if answer.status != 200 or not order.isdigit():
            return
        # The body, not the header: what the caller got to see is what counts.
        owner = str(json.loads(answer.body)["customer_id"])
        if owner == account.subject:
            tally.own.add(int(order))
        else:
            tally.foreign.append((int(order), owner))

    def _shop(self, accounts: list[Account], client: _Client) -> Iterator[tuple[Account, str]]:
        """Every customer in turn: the list, then orders of their own, invoices, their record."""
        orders: dict[str, Iterator[int]] = {}
        for account in accounts:
            answer = client.ask("GET", "/api/orders", client.log_in(account))
            listed = json.loads(answer.body)["orders"] if answer and answer.status == 200 else []
            orders[account.username] = itertools.cycle(entry["order_id"] for entry in listed)
        for turn in itertools.count():
            for account in accounts:
                order = next(orders[account.username], None)
                pages = ["/api/orders", "/api/customers/me"]
                if order is not None:
                    pages = [f"/api/orders/{order}", f"/api/orders/{order}/invoice", *pages]
                yield account, pages[turn % len(pages)]

    def _support(self, accounts: list[Account], client: _Client) -> Iterator[tuple[Account, str]]:
        """Customers call in no order: a stride that has no divisor in common with the count."""
        for number in itertools.count():
            order = FIRST_ORDER + (number * 1237) % ORDERS
            yield accounts[number % len(accounts)], f"/api/orders/{order}"

    def _attack(self, accounts: list[Account], client: _Client) -> Iterator[tuple[Account, str]]:
        for number in itertools.count():
            yield accounts[0], f"/api/orders/{FIRST_ORDER + number % ORDERS}"


@dataclass(frozen=True)
class Neighbour:
    """An endpoint that must go on answering 200, and the token to ask it with."""

    path: str
    token: str | None = None


@dataclass(frozen=True)
class Watched:
    """
    What a watcher saw. Times are the given clock's.

    ``first_blocked_ns`` is when the first blocked answer was in; ``last_allowed_ns`` when the
    last 200 before it was. ``errors`` counts requests that were neither allowed nor blocked.
    ``neighbours_failed`` holds path and status (0: no answer).
    """

    asked: int
    errors: int
    last_allowed_ns: int | None
    first_blocked_ns: int | None
    blocked_status: int | None
    neighbours_asked: int
    neighbours_failed: tuple[tuple[str, int], ...]

    @property
    def neighbours_ok(self) -> bool:
        """Whether every neighbour was asked and always answered 200."""
        return self.neighbours_asked > 0 and not self.neighbours_failed


class Watcher:
    """
    Asks ``path`` every ``period_s`` until the first blocked answer (403, 429 or 503).

    Args:
        fresh: Open a new connection for each request, instead of keeping one.

        clock_ns: The clock to note times with, in nanoseconds.
    """

    def __init__(
        self,
        gateway_url: str,
        path: str,
        token: str | None = None,
        *,
        neighbours: Sequence[Neighbour] = (),
        fresh: bool = False,
        period_s: float = 0.001,
        neighbour_period_s: float = 0.02,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._url, self._path, self._token = gateway_url, path, token
        self._neighbours = tuple(neighbours)
        self._fresh, self._period_s = fresh, period_s
        self._neighbour_period_s = neighbour_period_s
        self._clock_ns = clock_ns
        self._asked = self._errors = self._neighbours_asked = 0
        self._last_allowed_ns: int | None = None
        self._first_blocked: tuple[int, int] | None = None
        self._failed: list[tuple[str, int]] = []
        self._answered, self._blocked = threading.Event(), threading.Event()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="watcher", daemon=True),
            threading.Thread(target=self._ask_neighbours, name="watcher-neighbours", daemon=True),
        ]

    def start(self, timeout_s: float = 10.0) -> None:
        """Begin, and return once a 200 or a block was seen. Raises TimedOut if neither comes."""
        for thread in self._threads:
            thread.start()
        if not self._answered.wait(timeout_s):
            self.stop()
            raise TimedOut(
                f"{self._path} did not answer 200 within {timeout_s:g} s, so a block could not be "
                "seen. Look whether the gateway runs and the token is right."
            )

    def wait_blocked(self, timeout_s: float = 30.0) -> Watched:
        """Wait for the first blocked answer. Raises TimedOut if none comes."""
        if not self._blocked.wait(timeout_s):
            raise TimedOut(f"{self._path} was not blocked within {timeout_s:g} s.")
        return self._seen()

    def stop(self) -> Watched:
        """End, after a last round of the neighbours, and return what was seen."""
        self._ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        return self._seen()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _seen(self) -> Watched:
        blocked = self._first_blocked
        return Watched(
            asked=self._asked,
            errors=self._errors,
            last_allowed_ns=self._last_allowed_ns,
            first_blocked_ns=None if blocked is None else blocked[0],
            blocked_status=None if blocked is None else blocked[1],
            neighbours_asked=self._neighbours_asked,
            neighbours_failed=tuple(self._failed),
        )

    def _watch(self) -> None:
        client = _Client(self._url, fresh=self._fresh)
        while not self._ended.is_set():
            answer = client.ask("GET", self._path, self._token)
            now_ns = self._clock_ns()
            self._asked += 1
            if answer is None:
                self._errors += 1
            elif answer.status in BLOCKED:
                self._first_blocked = (now_ns, answer.status)
                self._answered.set()
                self._blocked.set()
                break
            elif answer.status == 200:
                self._last_allowed_ns = now_ns
                self._answered.set()
            else:
                self._errors += 1
            self._ended.wait(self._period_s)
        client.close()

    def _ask_neighbours(self) -> None:
        client = _Client(self._url)
        rounds = self._neighbours
        while rounds:
            # Looked at before the round: the last one is asked wholly after the end was called.
            is_last = self._ended.is_set()
            for neighbour in rounds:
                answer = client.ask("GET", neighbour.path, neighbour.token)
                self._neighbours_asked += 1
                if answer is None or answer.status != 200:
                    self._failed.append((neighbour.path, 0 if answer is None else answer.status))
            if is_last:
                break
            self._ended.wait(self._neighbour_period_s)
        client.close()
