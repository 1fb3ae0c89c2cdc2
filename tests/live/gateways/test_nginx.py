"""What only nginx does: reloads with old workers beside new ones, a file that it reads anew, and
values that must be written so that it takes them for what they are."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from actions.gateway import Block, Close
from actions.gateway.adapters.nginx.processes import workers_of
from bot.action import Writing
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is
from bot.service.containments import ContainmentDesk
from tests.gateways import made
from tests.gateways.nginx import NginxRig
from tests.gateways.upstream import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(bool(NginxRig.missing()), reason=f"nginx: {NginxRig.missing()}"),
]

PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"
ORDER_KEY = f"GET {PATH}"
MALLORY = {"subject": "c-mallory"}
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=PATH)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxRig]:
    rig = made("nginx", tmp_path_factory.mktemp("nginx"))
    assert isinstance(rig, NginxRig)
    yield rig
    rig.close()


@pytest.fixture
def rig(running: NginxRig) -> Iterator[NginxRig]:
    """nginx with no control in force."""
    running.gateway.converge(())
    running.upstream.reset()
    yield running
    running.accept()
    running.start()


def throttle(rate_per_s: float, path: str = PATH) -> Control:
    return Control(kind=ControlKind.THROTTLE, method="GET", path=path, rate_per_s=rate_per_s)


def block(*principals: Principal, path: str = PATH) -> Control:
    return Control(kind=ControlKind.BLOCK, method="GET", path=path, principals=principals)


def silent_connection(rig: NginxRig) -> socket.socket:
    """Return a connection that a worker has accepted, and on which nothing was sent yet."""
    line = socket.create_connection(("127.0.0.1", rig.port), timeout=5)
    time.sleep(0.1)  # nothing shows from outside that it was accepted
    return line


def unfinished_request(rig: NginxRig) -> socket.socket:
    """Return a connection with a request that lacks most of its body: its worker stays for it."""
    line = socket.create_connection(("127.0.0.1", rig.port), timeout=5)
    line.sendall(b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    time.sleep(0.1)  # nothing shows from outside that it was taken
    return line


def answer_on(line: socket.socket, rig: NginxRig) -> bytes:
    """Return the status line of an answer on a connection; empty if it is closed."""
    token = rig.tokens.make("probe-owner")
    request = f"GET {ORDER} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    with contextlib.suppress(OSError):
        line.sendall(request.encode())
        return line.recv(4096).partition(b"\r\n")[0]
    return b""


class TestOldWorkers:
    def test_connection_from_before_gets_no_answer_from_before(self, rig: NginxRig) -> None:
        """
        A connection that was opened before a reload, and sends its first request after it, is an
        old worker's. Once converge has returned it gets no old answer.
        """
        with silent_connection(rig) as line:
            rig.gateway.converge([CLOSE])

            assert answer_on(line, rig) in (b"", b"HTTP/1.1 503 Service Temporarily Unavailable")
        assert rig.status(ORDER) == 503

    def test_who_does_not_end_is_no_success(self, rig: NginxRig) -> None:
        """
        While an old worker is there the set is not called in force, by converge nor by observe;
        once it has ended it is, with nothing written again.
        """
        impatient = rig.adapter(old_workers_timeout_s=0.2)
        with unfinished_request(rig):
            with pytest.raises(ProviderUnreachable, match="old workers"):
                impatient.converge([CLOSE])
            assert rig.gateway.observe() != rig.gateway.version_of([CLOSE])
            with pytest.raises(ProviderUnreachable, match="old workers"):
                impatient.converge([CLOSE])
        written = rig.writes()

        assert rig.gateway.converge([CLOSE]) == rig.gateway.version_of([CLOSE])

        assert rig.writes() == written
        assert rig.gateway.observe() == rig.gateway.version_of([CLOSE])

    def test_reload_by_another_hand_keeps_what_is_in_force(self, rig: NginxRig) -> None:
        """
        Old workers of an operator's own reload have the same controls; they do not make the
        version another one.
        """
        version = rig.gateway.converge([CLOSE])
        assert rig.process is not None
        master = rig.process.pid
        with unfinished_request(rig):
            os.kill(master, signal.SIGHUP)
            until(lambda: any(w.is_leaving for w in workers_of(master)), "an old one to be leaving")

            assert rig.gateway.observe() == version
        until(lambda: not any(w.is_leaving for w in workers_of(master)), "it to end")


class TestStarting:
    def test_it_starts_with_what_was_wanted_while_it_was_down(self, rig: NginxRig) -> None:
        """
        A set that could not be taken is in the file, and in force from the first request on.
        """
        rig.stop()
        with pytest.raises(ProviderUnreachable, match="does not run"):
            rig.adapter().converge([CLOSE])

        rig.start()

        assert rig.status(ORDER) == 503
        assert rig.gateway.observe() == rig.gateway.version_of([CLOSE])

    def test_it_does_not_start_with_what_was_refused(self, rig: NginxRig) -> None:
        """
        After a refusal the file is what it was, and the message has nginx's own words.
        """
        rig.gateway.converge([CLOSE])
        before = rig.own.read_bytes()
        rig.refuse()

        with pytest.raises(ProviderRefused, match=r"merge_slashes.*nginx\.conf"):
            rig.gateway.converge([throttle(1.0)])

        assert rig.own.read_bytes() == before

    def test_what_cannot_be_tested_is_not_left_behind(self, rig: NginxRig) -> None:
        """
        A command that does not run tells nothing about the file: it is no refusal, and the file
        is what it was.
        """
        before = rig.own.read_bytes()

        for command in (("false",), ("/no/such/nginx", "-t")):
            with pytest.raises(ProviderUnreachable, match="cannot be tested"):
                rig.adapter(test_command=command).converge([CLOSE])

        assert rig.own.read_bytes() == before

    def test_process_that_is_no_nginx_is_not_signalled(self, rig: NginxRig) -> None:
        """
        A pid file may be stale and its number another program's, which a HUP would end.
        """
        other = subprocess.Popen(["sleep", "60"])
        stale = rig.root / "stale.pid"
        stale.write_text(f"{other.pid}\n")

        with pytest.raises(ProviderUnreachable, match="does not run"):
            rig.adapter(pid_file=stale).converge([CLOSE])

        assert other.poll() is None
        other.terminate()
        other.wait()

    def test_it_is_reloaded_by_a_command(self, rig: NginxRig) -> None:
        """
        Where Firedoor may not signal the master, a command that it may run does.
        """
        command = (*rig.argv()[:5], "-s", "reload")

        rig.adapter(reload_command=command).converge([CLOSE])

        assert rig.status(ORDER) == 503
        with pytest.raises(ProviderUnreachable, match="cannot be reloaded"):
            rig.adapter(reload_command=("false",)).converge(())

    def test_lost_right_is_seen_before_the_reload_too(self, rig: NginxRig) -> None:
        """
        The right to write is looked at before the file is written, and before nginx is told.
        """
        asked: list[str] = []

        rig.gateway.converge([CLOSE], Writing(begin=lambda: asked.append(rig.gateway.observe())))

        assert asked == [rig.gateway.version_of(())] * 2


class TestSettingTakenBack:
    def test_block_stays_and_keeps_the_rest_back_until_it_is_lifted(self, rig: NginxRig) -> None:
        """
        Firedoor comes back with settings that do not say any more where a verified subject is
        found, while one is blocked: nginx refuses that subject as before, whatever else is asked
        for, and goes on once a person has lifted the block.
        """
        rig.do(Block(), rig.context(step="block"), endpoint=ORDER_KEY, principal=MALLORY)
        rig.gateway = rig.adapter(claim_variables={})
        rig.desk = ContainmentDesk(rig.store, {rig.name: rig.gateway}, rig.clock)

        assert not rig.desk.gateways.reconcile(rig.name)
        with pytest.raises(BadInput, match=r"INC-1-R1\.block .*claim_variables"):
            rig.do(Close(), rig.context(), endpoint=ORDER_KEY)
        assert [rig.status(ORDER, who) for who in ("mallory", "probe-owner")] == [403, 200]

        rig.desk.lift(["INC-1-R1.block"], "cli:sam")
        rig.do(Close(), rig.context(), endpoint=ORDER_KEY)
        assert [rig.status(ORDER, who) for who in ("mallory", "probe-owner")] == [503, 503]
        rig.desk.lift(["INC-1-R1.close"], "cli:sam")
        rig.restart_firedoor()


class TestSpelling:
    @pytest.mark.parametrize(
        "path",
        [
            "/api//orders/a%2fb",
            "/api/orders/a%2Fb",
            "/api/./orders//4001;x=%2f",
            "/api/orders/4001#x",
            "/api/orders/%34001?a=/../b",
        ],
    )
    def test_no_two_tricks_at_once_get_through(self, rig: NginxRig, path: str) -> None:
        """
        What is the closed endpoint for nginx neither decoded nor as it was sent does not reach
        the service as that endpoint either: not if it decodes a path before it splits it, and not
        if it splits it first.
        """
        rig.gateway.converge([CLOSE.model_copy(update={"method": ANY_METHOD})])

        rig.get(path)

        assert rig.upstream.reached == []
        split = [[part for part in each.split("/") if part] for each in rig.upstream.paths]
        assert [
            parts for parts in split if parts[:2] == ["api", "orders"] and len(parts) == 3
        ] == []

    def test_repeated_override_does_not_hide_another(self, rig: NginxRig) -> None:
        """
        Of two headers of one name nginx shows the first only; the service may take the second.
        """
        rig.gateway.converge([CLOSE])
        line = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=5)
        line.putrequest("POST", ORDER)
        line.putheader("Authorization", f"Bearer {rig.tokens.make('probe-owner')}")
        for method in ("PATCH", "GET"):
            line.putheader("X-HTTP-Method-Override", method)
        line.putheader("Content-Length", "0")
        line.endheaders()

        assert line.getresponse().status == 503
        line.close()

    def test_path_that_takes_long_to_look_at_is_not_let_through(self, rig: NginxRig) -> None:
        """
        Expressions look at any path in no time, and a path parameter of thousands of semicolons
        is no way around them.
        """
        rig.gateway.converge(
            [
                Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{a}/{b}/{c}/x"),
                CLOSE,
            ]
        )
        began = time.monotonic()

        assert rig.status(f"{ORDER}{';' * 7000}") == 503
        long = f"x{';' * 2000}"
        assert rig.status(f"/api/orders/{long}/{long}/{long}/y") == 404

        assert time.monotonic() - began < 3.0

    def test_service_gets_the_query_and_no_line_of_the_callers(self, rig: NginxRig) -> None:
        """
        The tidied path comes with its query, and a line feed in it stays encoded.
        """
        assert rig.get("/api//orders?a=1&b=%2f").json() == {"query": "/api/orders?a=1&b=%2f"}
        rig.get("/api/orders/4%0d%0aX-Evil:%201")

        assert rig.upstream.paths[-1] == "/api/orders/4%0D%0AX-Evil:%201"


class TestCallers:
    def test_any_text_is_written_so_that_it_is_taken_for_itself(self, rig: NginxRig) -> None:
        """
        What nginx's language or a regular expression would take for its own is a text like
        others; a part of it, or another case, is not it.
        """
        strange = "c-\"q'\\d${x};{}#~^.*\\"
        rig.gateway.converge([block(subject_is(strange))])

        found = []
        for sub in (strange, strange.upper(), strange[:-1], f"{strange}x", "c-owner"):
            token = rig.tokens.make("probe-owner", sub=sub)
            reply = rig.get(ORDER, None, headers={"Authorization": f"Bearer {token}"})
            found.append(reply.status)
        assert found == [403, 200, 200, 200, 200]

    def test_path_with_strange_text_is_taken_for_itself(self, rig: NginxRig) -> None:
        """
        The same of the text of a path.
        """
        path = "/api/or\"d'e\\rs/$uri;v/{id}"
        rig.gateway.converge([CLOSE.model_copy(update={"path": path})])

        assert rig.status("/api/or%22d'e%5Crs/$uri;v/4001") == 503
        assert rig.status("/api/or%22d'e%5Crs/$urx;v/4001") == 404

    def test_whole_internet_is_a_network(self, rig: NginxRig) -> None:
        """
        A network of all addresses is one like others.
        """
        for network in ("0.0.0.0/0", "::/0"):
            rig.gateway.converge([block(Principal(kind=PrincipalKind.IP, value=network))])

            assert rig.status(ORDER) == (403 if network == "0.0.0.0/0" else 200)

    def test_allow_only_by_claim_lets_nobody_in_without_a_token(self, rig: NginxRig) -> None:
        """
        Where no token is asked for there is no verified claim, so nobody is allowed.
        """
        login = Control(
            kind=ControlKind.ALLOW_ONLY,
            method="POST",
            path="/api/login",
            principals=(subject_is("c-owner"),),
        )
        rig.gateway.converge([login])

        assert rig.request("POST", "/api/login", body=b"{}").status == 403
        assert (
            rig.request("POST", "/api/login", headers={"X-Verified-Sub": "c-owner"}).status == 403
        )

    def test_mixed_group_lets_each_of_its_kinds_in(self, rig: NginxRig) -> None:
        """
        Of a list of an address, a key and a claim, one is enough.
        """
        group = (
            Principal(kind=PrincipalKind.IP, value="127.0.0.2/32"),
            Principal(kind=PrincipalKind.API_KEY, value="partner-7"),
            subject_is("c-owner"),
        )
        rig.gateway.converge(
            [Control(kind=ControlKind.ALLOW_ONLY, method="GET", path=PATH, principals=group)]
        )

        assert rig.status(ORDER, "mallory") == 403
        assert rig.status(ORDER, "mallory", source="127.0.0.2") == 200
        assert rig.status(ORDER, "mallory", api_key="partner-7") == 200
        assert rig.status(ORDER, "mallory", api_key="partner-8") == 403
        assert rig.status(ORDER, "probe-owner") == 200


class TestLimits:
    @pytest.fixture(autouse=True)
    def nothing_counted(self, rig: NginxRig) -> None:
        """Start nginx anew: what limits have counted outlives any reload."""
        rig.stop()
        rig.start()

    def test_refused_callers_use_nothing_up(self, rig: NginxRig) -> None:
        """
        Who is refused, by a claim or for a token that nobody signed, takes nothing from those who
        are only limited.
        """
        rig.gateway.converge([block(subject_is("c-mallory")), throttle(1 / 60)])

        for _ in range(3):
            assert rig.status(ORDER, "mallory") == 403
            assert rig.get(ORDER, None, headers={"Authorization": "Bearer x"}).status == 401

        assert [rig.status(ORDER), rig.status(ORDER)] == [200, 429]

    def test_each_endpoint_has_a_limit_of_its_own(self, rig: NginxRig) -> None:
        """
        Endpoints of one rate do not share it, and another rate is beside it.
        """
        rig.gateway.converge(
            [throttle(0.1), throttle(0.1, "/api/customers/me"), throttle(5.0, "/api/orders")]
        )

        for path in (ORDER, "/api/customers/me"):
            assert [rig.status(path), rig.status(path)] == [200, 429]
        assert [rig.status("/api/orders") for _ in range(4)] == [200] * 4

    def test_another_spelling_uses_up_the_same(self, rig: NginxRig) -> None:
        """
        A limit counts requests for an endpoint, however they spell it.
        """
        rig.gateway.converge([throttle(1 / 60)])

        found = [rig.status(path) for path in (ORDER, f"/api//{ORDER[5:]}", f"{ORDER}%2f")]

        assert found == [200, 429, 429]

    def test_reload_gives_nothing_back(self, rig: NginxRig) -> None:
        """
        What was counted before another control came is still counted after it.
        """
        rig.gateway.converge([throttle(1 / 60)])
        assert rig.status(ORDER) == 200

        rig.gateway.converge([throttle(1 / 60), throttle(100.0, "/api/customers/me")])

        assert rig.status(ORDER) == 429


class TestShadows:
    def test_each_is_counted_by_itself_and_by_verified_claims(self, rig: NginxRig) -> None:
        """
        Two shadows on one endpoint count what each would refuse; a token that nobody signed
        counts for no subject. The log is emptied after the last.
        """
        mallory, everybody = (
            Control(kind=ControlKind.SHADOW, method="GET", path=PATH, would=would, principals=who)
            for would, who in (
                (ControlKind.BLOCK, (subject_is("c-mallory"),)),
                (ControlKind.CLOSE, ()),
            )
        )
        rig.gateway.converge([mallory, everybody])
        hits = [rig.gateway.shadow_hits(each) for each in (mallory, everybody)]

        assert [rig.status(ORDER, who) for who in ("mallory", "probe-owner")] == [200, 200]
        assert rig.get(ORDER, None, headers={"Authorization": "Bearer x"}).status == 401
        assert rig.status("/api/orders", "mallory") == 200

        assert hits == [0, 0]
        assert [rig.gateway.shadow_hits(each) for each in (mallory, everybody)] == [1, 3]
        rig.gateway.converge(())
        assert os.stat(rig.own.parent / "shadow.log").st_size == 0
