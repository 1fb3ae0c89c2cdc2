"""What is HAProxy's own: maps that change one by one, reloads, and what it reads of a caller."""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actions.gateway import Close
from actions.gateway.adapters.haproxy.runtime import RuntimeApi
from actions.gateway.own_file import OwnFile
from bot.action import Writing
from bot.errors import ProviderUnreachable
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is
from tests.gateways.haproxy import HaproxyRig
from tests.gateways.rig import Rig, failed

pytestmark = pytest.mark.live

PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"
BLOCKED = "127.0.0.2"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaproxyRig]:
    rig = HaproxyRig(tmp_path_factory.mktemp("haproxy"))
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(started: HaproxyRig) -> HaproxyRig:
    """An HAProxy with no control in force."""
    started.start()
    started.gateway.converge(())
    started.upstream.reset()
    return started


def control(kind: ControlKind, path: str = PATH, **more: Any) -> Control:
    return Control.model_validate({"kind": kind, "method": "GET", "path": path, **more})


def networks(kind: ControlKind, *texts: str, path: str = PATH) -> Control:
    found = [Principal(kind=PrincipalKind.IP, value=text) for text in texts]
    return control(kind, path, principals=found)


CLOSE = control(ControlKind.CLOSE)
SETS = (
    [networks(ControlKind.BLOCK, f"{BLOCKED}/32")],
    [networks(ControlKind.BLOCK, "127.0.0.0/29", "10.0.0.0/8")],
    [
        networks(ControlKind.BLOCK, f"{BLOCKED}/32"),
        networks(ControlKind.BLOCK, "127.0.0.2/31", path="/api/customers/me"),
    ],
    [networks(ControlKind.ALLOW_ONLY, "127.0.0.1/32", "127.0.0.8/29")],
    [networks(ControlKind.BLOCK, "0.0.0.0/0"), control(ControlKind.SHADOW, would="close")],
    [CLOSE],
)
"""Each of them keeps `BLOCKED` from an order."""


class TestRestart:
    def test_reload_keeps_what_is_held(self, rig: HaproxyRig) -> None:
        """
        An operator's reload opens nothing, and the new process reports the same version.
        """
        version = rig.gateway.converge([CLOSE, *SETS[1]])

        rig.reload()

        assert rig.status(ORDER) == 503
        assert rig.gateway.observe() == version

    def test_crash_keeps_what_is_held(self, rig: HaproxyRig) -> None:
        """
        HAProxy comes up with its controls, before Firedoor has looked at it.
        """
        rig.gateway.converge(SETS[1])

        rig.stop()
        rig.start()

        assert rig.status(ORDER, source=BLOCKED) == 403
        assert rig.status(ORDER) == 403
        assert rig.status("/api/orders", source=BLOCKED) == 200

    def test_disk_that_cannot_be_written(self, rig: HaproxyRig) -> None:
        """
        The endpoint is closed all the same; but it is not said to be held as long as a reload
        would open it.
        """
        in_the_way = rig.maps_dir / ".firedoor" / "routes.map"
        in_the_way.mkdir()

        with pytest.raises(ProviderUnreachable, match="a reload would bring the earlier ones"):
            rig.gateway.converge([CLOSE])

        assert rig.status(ORDER) == 503
        assert rig.gateway.observe() != rig.gateway.version_of([CLOSE])
        in_the_way.rmdir()
        assert rig.gateway.converge([CLOSE]) == rig.gateway.observe()

    def test_connection_from_before_a_reload(self, rig: HaproxyRig) -> None:
        """
        The old process has the old maps for good; it serves no new request.
        """
        line = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=5)
        headers = {"Authorization": f"Bearer {rig.tokens.make('probe-owner')}"}

        def ask() -> int:
            line.request("GET", ORDER, headers=headers)
            answer = line.getresponse()
            answer.read()
            return answer.status

        assert ask() == 200
        rig.reload()
        rig.gateway.converge([CLOSE])

        try:
            assert ask() == 503
        except (http.client.HTTPException, OSError):
            line.close()
            assert ask() == 503
        line.close()


class TestOneMapAfterTheOther:
    def test_who_is_refused_before_and_after_never_gets_through(self, rig: HaproxyRig) -> None:
        """
        While lists of callers, networks and routes change as often as they can, a caller whom all
        of the sets refuse is never served, and the neighbours always are.
        """
        rig.gateway.converge(SETS[0])
        ends, seen = threading.Event(), {"blocked": list[int](), "neighbour": list[int]()}

        def ask(name: str, path: str, source: str) -> None:
            while not ends.is_set():
                seen[name].append(rig.status(path, source=source))

        asking = [
            threading.Thread(target=ask, args=("blocked", ORDER, BLOCKED)),
            threading.Thread(target=ask, args=("neighbour", "/api/orders", BLOCKED)),
        ]
        for each in asking:
            each.start()
        deadline, changes = time.monotonic() + 2.0, 0
        while time.monotonic() < deadline:
            rig.gateway.converge(SETS[changes % len(SETS)])
            changes += 1
        ends.set()
        for each in asking:
            each.join()

        assert changes > len(SETS)
        assert len(seen["blocked"]) > 50
        assert set(seen["blocked"]) <= {403, 503}
        assert set(seen["neighbour"]) == {200}

    @pytest.mark.parametrize("owner", [RuntimeApi, OwnFile], ids=["in HAProxy", "on disk"])
    def test_cut_off_anywhere(
        self, rig: HaproxyRig, monkeypatch: pytest.MonkeyPatch, owner: type[Any]
    ) -> None:
        """
        Wherever a change is cut off, the caller stays refused, by HAProxy as it runs and as it
        comes up again; and the next look finishes the change, without blaming another hand.
        """
        name = "commit" if owner is RuntimeApi else "replace"
        cuts = 0
        for at in range(1, 6):
            rig.gateway.converge(SETS[0])
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, _cut(getattr(owner, name), at))
                try:
                    rig.adapter().converge(SETS[1])
                except _Cut:
                    cuts += 1
            assert rig.status(ORDER, source=BLOCKED) == 403
            rig.stop()
            rig.start()
            assert rig.status(ORDER, source=BLOCKED) == 403
            told: list[str] = []
            assert rig.adapter().converge(SETS[1], Writing(displaced=told.append))
            assert told == []
            assert rig.gateway.observe() == rig.gateway.version_of(SETS[1])
        assert cuts >= 4


class _Cut(BaseException):
    """The end of a process; nothing catches it."""


def _cut(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Return a function that does what it did, and whose ``at``-th call is the last."""
    calls = 0

    def cut(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        done = real(*args, **kwargs)
        if calls == at:
            raise _Cut
        return done

    return cut


class TestOtherHands:
    @pytest.mark.parametrize(
        "command",
        ["clear map {}/routes.map", "add map {}/networks.map 0.0.0.0/0 none", "set map {}"],
    )
    def test_edits_are_seen_kept_and_told(self, rig: HaproxyRig, command: str) -> None:
        """
        Whatever is changed by the Runtime API, it is seen, what was there is kept, and it is told.
        """
        version = rig.gateway.converge([CLOSE, *SETS[1]])
        given = command.format(rig.maps_dir)
        if command.startswith("set"):
            given += "/routes.map $.version 0123456789ab"
        assert not rig.ask(given).strip()
        assert rig.gateway.observe() != version
        told: list[str] = []

        assert rig.gateway.converge([CLOSE, *SETS[1]], Writing(displaced=told.append)) == version

        assert len(told) == 1
        assert Path(told[0].partition(" is in ")[2].partition(". ")[0]).exists()

    def test_edit_of_a_file_is_seen(self, rig: HaproxyRig) -> None:
        """
        A file that would bring something else with the next reload is as bad as a map that has it.
        """
        version = rig.gateway.converge([CLOSE])
        (rig.maps_dir / "routes.map").write_text("")

        assert rig.gateway.observe() != version
        assert rig.gateway.converge([CLOSE]) == version
        rig.reload()
        assert rig.status(ORDER) == 503


class TestCallers:
    def test_subject_of_odd_letters(self, rig: HaproxyRig) -> None:
        """
        A subject may hold what would end a command or a key; it is compared, never run.
        """
        odd = "x\"; clear map #0 \\ <<'y'"
        rig.gateway.converge([control(ControlKind.BLOCK, principals=[subject_is(odd)])])
        bearer = {"Authorization": f"Bearer {rig.tokens.make('probe-owner', sub=odd)}"}

        assert rig.get(ORDER, None, headers=bearer).status == 403
        assert rig.status(ORDER) == 200

    def test_claim_that_is_a_number(self, rig: HaproxyRig) -> None:
        """
        A number is compared as it is written.
        """
        tenant = Principal(kind=PrincipalKind.CLAIM, claim="role", value="17")
        rig.gateway.converge([control(ControlKind.ALLOW_ONLY, principals=[tenant])])
        bearer = {"Authorization": f"Bearer {rig.tokens.make('probe-owner', role=17)}"}

        assert rig.get(ORDER, None, headers=bearer).status == 200
        assert rig.status(ORDER) == 403

    def test_what_is_no_identity(self, rig: HaproxyRig) -> None:
        """
        A token out of its time, one signed with what everybody knows, two tokens, and a key that
        nobody has, get their bearer nothing.
        """
        old = rig.tokens.make("probe-owner", exp=int(time.time()) - 1)
        good = rig.tokens.make("probe-owner")
        timeless = rig.tokens.make("probe-owner", exp=None)
        early = rig.tokens.make("probe-owner", nbf=int(time.time()) + 60)

        for token in (old, timeless, early, _confused(rig)):
            bearer = {"Authorization": f"Bearer {token}"}
            assert rig.get(ORDER, None, headers=bearer).status == 401
        assert rig.get(ORDER, headers={"x-api-key": "k-9-made-up"}).status == 401
        assert _twice(rig, good, good) == 400

    def test_claims_of_an_unverified_token_count_nowhere(self, rig: HaproxyRig) -> None:
        """
        Where no token is asked for, one that is not good makes its bearer nobody.
        """
        owner = subject_is("c-owner")
        rig.gateway.converge([control(ControlKind.ALLOW_ONLY, "/health", principals=[owner])])
        old = rig.tokens.make("probe-owner", exp=int(time.time()) - 1)

        assert rig.status("/health") == 200
        assert rig.get("/health", None, headers={"Authorization": f"Bearer {old}"}).status == 403
        assert rig.status("/health", None) == 403

    def test_every_ipv6_network_holds_no_ipv4_caller(self, rig: HaproxyRig) -> None:
        """
        HAProxy looks for an IPv4 address among the IPv6 networks; it is in none of them.
        """
        rig.gateway.converge([networks(ControlKind.ALLOW_ONLY, "::/0")])

        assert rig.status(ORDER) == 403


def _confused(rig: HaproxyRig) -> str:
    """Return a token that says it is signed by a shared secret, which is the public key."""
    parts = [{"alg": "HS256"}, {"sub": "c-owner", "exp": int(time.time()) + 600}]
    encoded = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts
    )
    secret = (rig.home / "jwt.pem").read_bytes()
    signature = hmac.digest(secret, encoded, "sha256")
    return (encoded + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _twice(rig: Rig, *tokens: str) -> int:
    line = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=5)
    line.putrequest("GET", ORDER)
    for token in tokens:
        line.putheader("Authorization", f"Bearer {token}")
    line.endheaders()
    status = line.getresponse().status
    line.close()
    return status


class TestRates:
    def test_one_an_hour(self, rig: HaproxyRig) -> None:
        """
        The slowest rate lets one through, and a change of another control gives no second.
        """
        hourly = control(ControlKind.THROTTLE, rate_per_s=1 / 3600)
        rig.gateway.converge([hourly])
        first = [rig.status(ORDER) for _ in range(5)]

        rig.gateway.converge([hourly, control(ControlKind.SHADOW, would="close")])

        # A new hour may begin in between.
        assert (first + [rig.status(ORDER) for _ in range(5)]).count(200) in (1, 2)

    def test_thousands_a_second(self, rig: HaproxyRig) -> None:
        """
        A high rate holds nobody back below it.
        """
        rig.gateway.converge([control(ControlKind.THROTTLE, rate_per_s=5_000.0)])

        assert {rig.status(ORDER) for _ in range(200)} == {200}

    def test_refused_callers_use_nothing_up(self, rig: HaproxyRig) -> None:
        """
        Who is blocked takes none of what the limit leaves to others.
        """
        limit = control(ControlKind.THROTTLE, rate_per_s=1 / 1800)
        rig.gateway.converge([limit, *SETS[0]])

        assert {rig.status(ORDER, source=BLOCKED) for _ in range(5)} == {403}
        assert rig.status(ORDER) == 200


class TestShadows:
    def test_each_is_counted_by_itself(self, rig: HaproxyRig) -> None:
        """
        Of several shadows on one endpoint each counts its own, and a new one begins at zero.
        """
        closing = control(ControlKind.SHADOW, would="close")
        blocking = networks(ControlKind.SHADOW, BLOCKED).model_copy(
            update={"would": ControlKind.BLOCK}
        )
        both = [closing, blocking]
        rig.gateway.converge(both)
        before = [rig.gateway.shadow_hits(each) for each in both]

        served = [rig.status(ORDER, source=f"127.0.0.{n}") for n in (1, 1, 2)]

        assert before == [0, 0]
        assert served == [200, 200, 200]
        assert [rig.gateway.shadow_hits(each) for each in both] == [3, 1]
        rig.gateway.converge(())
        rig.gateway.converge(both)
        assert [rig.gateway.shadow_hits(each) for each in both] == [0, 0]


class TestSpellings:
    @pytest.fixture
    def lenient(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaproxyRig]:
        """The example without its line that refuses encoded slashes."""
        rig = _Lenient(tmp_path_factory.mktemp("l"))  # a socket's path must be short
        try:
            rig.start()
            yield rig
        finally:
            rig.close()

    def test_paths_are_looked_up_as_a_service_reads_them(self, lenient: HaproxyRig) -> None:
        """
        Who must let encoded slashes through has closed endpoints all the same.
        """
        ctx = lenient.context()
        plan, _ = lenient.do(Close(), ctx, endpoint=f"GET {PATH}")

        assert failed(Close().verify(plan, ctx)) == []
        assert lenient.status("/api%2forders%2f4001") == 503
        assert lenient.upstream.reached == []

    def test_a_service_that_folds_case(self, rig: HaproxyRig) -> None:
        """
        If the operator says that the service does, so does the gateway.
        """
        rig.upstream.folds_case = True
        folding = rig.adapter(fold_case=True)
        folding.converge([control(ControlKind.CLOSE, method=ANY_METHOD)])

        assert rig.status("/API/Orders/4001") == 503
        assert rig.status("/api/ORDERS/export") == 200
        assert rig.upstream.reached == []


class _Lenient(HaproxyRig):
    def configuration(self) -> str:
        lines = super().configuration().splitlines(keepends=True)
        kept = [line for line in lines if "deny_status 400 if { path -m reg" not in line]
        assert len(kept) == len(lines) - 1
        return "".join(kept)


class TestLog:
    def test_a_line_says_who_read_whose(self, rig: HaproxyRig) -> None:
        """
        The access log has what a question about stolen records needs.
        """
        reply = rig.get(ORDER, headers={"User-Agent": 'curl "8"'})

        line = _last_lines(rig, 1)[0]
        assert (line["method"], line["path"], line["response_code"]) == ("GET", ORDER, 200)
        assert (line["sub"], line["role"], line["resource_owner"]) == (
            "c-owner",
            "customer",
            "c-owner",
        )
        assert (line["client_ip"], line["user_agent"]) == ("127.0.0.1", 'curl "8"')
        assert "x-resource-owner" not in reply.headers


def _last_lines(rig: Rig, count: int) -> Sequence[dict[str, Any]]:
    time.sleep(0.1)
    lines = (rig.directory / "gateway.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")][-count:]
