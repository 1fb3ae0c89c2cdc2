"""What is Caddy's own about containments there, on a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.action import Writing
from bot.errors import BadInput, ProviderRefused, ProviderUnreachable
from bot.model.answers import MARK_HEADER
from bot.model.containment import ANY_METHOD, Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is
from tests.gateways.caddy import ROUTES, SERVER, CaddyRig, write_certificate
from tests.gateways.upstream import until

pytestmark = pytest.mark.live

PATH = "/api/orders/{order_id}"
ORDER = "/api/orders/4001"


class ResumingRig(CaddyRig):
    resumes = True


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaddyRig]:
    rig = CaddyRig(tmp_path_factory.mktemp("caddy"))
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(running: CaddyRig) -> Iterator[CaddyRig]:
    """Caddy with no control in force; afterwards it has the configuration that it had before."""
    running.gateway.converge(())
    running.upstream.reset()
    running.verifier.asked.clear()
    before = running.operator("GET", "config/").json()
    yield running
    running.verifier.fails_with = None
    running.operator("POST", "load", before)
    running.gateway = running.adapter()
    until(running.is_ready, "Caddy to be ready")


def close(path: str = PATH, method: str = "GET") -> Control:
    return Control(kind=ControlKind.CLOSE, method=method, path=path)


def about(kind: ControlKind, *principals: Principal) -> Control:
    return Control(kind=kind, method="GET", path=PATH, principals=principals)


def address(value: str) -> Principal:
    return Principal(kind=PrincipalKind.IP, value=value)


def is_held(rig: CaddyRig, path: str, method: str = "GET", **kwargs: Any) -> bool:
    return MARK_HEADER in rig.request(method, path, **kwargs).headers


class TestPaths:
    CLOSED = (
        "/api/orders/a%2fb",
        "/api/orders/a%2Fb%2fc",
        "/api/%6frders/a%2fb",
        "/api//orders/a%2fb",
        "/x/../api/orders/a%2fb",
        "/api/x%2f..%2forders/a%2fb",
        "/api/orders/a%2fb?c=d/e",
        "/api/orders/a%2fb/",
        "/api/orders/a%0ab%2fc",
        "/api/orders%5c4001",
        "/api\\orders\\4001",
        "/api;v=1/orders/a%2fb;v=2",
        "/api/x/..;/orders/4001",
        "/api/orders/4001%2f..",
        "/x/..\\api\\orders\\4001",
        "/API/Orders/4001",
        "/api/orders/%7Bhttp.request.host%7D",
        "/api/orders/{http.request.host}",
        "http://other.invalid/api/orders/a%2fb",
        "/api/orders%2fexport",
        "/api/orders/x/../export",
        "/api/orders/export;v=1",
    )
    OPEN = (
        "/api/orders/export",
        "/api/orders/export/",
        "/api/orders/export?a=/b",
        "/api/orders",
        "/api/orders/",
        "/api/orders/4001/items",
        "/api/orders/4001/files/a%2fb",
        "/api/orders/4001//items",
        "/api/customers/a%2fb",
        "/api/customers/me?next=/api/orders/4001",
        "/health",
    )

    @pytest.mark.parametrize("path", CLOSED)
    def test_held_spelling(self, rig: CaddyRig, path: str) -> None:
        """
        What any service could take for the closed endpoint is refused, however it is written.
        """
        rig.gateway.converge([close(method=ANY_METHOD)])

        assert is_held(rig, path)
        assert rig.upstream.paths == []

    @pytest.mark.parametrize("path", OPEN)
    def test_free_neighbour(self, rig: CaddyRig, path: str) -> None:
        """
        What no service takes for it is let through as it is.
        """
        rig.gateway.converge([close(method=ANY_METHOD)])

        assert not is_held(rig, path)
        assert rig.upstream.paths == [path]

    def test_encoded_slash_is_no_way_past_by_a_shorter_endpoint(self, rig: CaddyRig) -> None:
        """
        What may be of two endpoints has the rules of both.
        """
        block = about(ControlKind.BLOCK, address("198.51.100.7"))
        rig.gateway.converge([block, close(f"{PATH}/items")])

        assert not is_held(rig, ORDER)
        assert is_held(rig, f"{ORDER}/items")
        assert is_held(rig, f"{ORDER}%2fitems")

    def test_method_in_lower_case(self, rig: CaddyRig) -> None:
        """
        Some services take a method for what it is in upper case.
        """
        rig.gateway.converge([close()])

        assert is_held(rig, ORDER, "get")
        assert not is_held(rig, ORDER, "DELETE")

    def test_override_is_no_way_past_by_a_more_specific_endpoint(self, rig: CaddyRig) -> None:
        """
        What is let past a closed route as another endpoint's GET must not be anything else.
        """
        rig.gateway.converge([close(method=ANY_METHOD)])

        assert not is_held(rig, "/api/orders/export")
        assert is_held(rig, "/api/orders/export", headers={"X-HTTP-Method-Override": "DELETE"})


class TestOwnRoute:
    def test_every_change_says_what_it_was_made_from(self, rig: CaddyRig) -> None:
        """
        Caddy would take a change without If-Match, and lose an operator's; Firedoor sends none.
        """
        rig.gateway.converge([close()])
        rig.gateway.converge([close(), close("/health")])
        rig.operator("PUT", f"config/{ROUTES}/0", {"handle": []})
        rig.gateway.converge([close()])
        rig.gateway.converge(())

        lines = map(json.loads, (rig.directory / "gateway.log").read_text().splitlines())
        asked = [each for each in lines if each.get("logger") == "admin.api" and "method" in each]
        ours = [e for e in asked if e.get("secure") and e["method"] != "GET"]
        assert {each["method"] for each in ours} == {"PUT", "PATCH", "DELETE"}
        assert all(each["headers"].get("If-Match") for each in ours)

    def test_it_is_brought_back_to_the_front(self, rig: CaddyRig) -> None:
        """
        An operator's route in front of Firedoor's may answer first, so it is moved behind; it is
        not lost.
        """
        theirs = {"@id": "theirs", "handle": [{"handler": "static_response", "body": "theirs"}]}
        told: list[str] = []
        version = rig.gateway.converge([close()])
        rig.operator("PUT", f"config/{ROUTES}/0", theirs)
        assert rig.gateway.observe() == f"{version}, edited"
        assert rig.get(ORDER).body == b"theirs"

        rig.gateway.converge([close()], Writing(displaced=told.append))

        assert rig.gateway.observe() == version
        assert rig.routes()[1] == theirs
        assert rig.status(ORDER) == 503
        assert len(told) == 1

    @pytest.mark.parametrize("at_last", [(close(),), ()], ids=["held", "lifted"])
    def test_it_is_known_without_its_id(self, rig: CaddyRig, at_last: tuple[Control, ...]) -> None:
        """
        A route whose id another hand took off is not left behind, nor made a second time; what it
        held is kept.
        """
        told: list[str] = []
        rig.gateway.converge([close()])
        edited = {key: each for key, each in rig.routes()[0].items() if key != "@id"}
        rig.operator("PATCH", f"config/{ROUTES}/0", edited)
        assert rig.gateway.observe() == "unknown, edited"

        rig.gateway.converge(at_last, Writing(displaced=told.append))

        assert len(rig.routes()) == 2 + len(at_last)
        assert rig.gateway.observe() == rig.gateway.version_of(at_last)
        kept = Path(told[0].partition("is in ")[2].partition(". Make")[0])
        assert json.loads(kept.read_text()) == edited

    def test_route_without_a_control_is_none(self, rig: CaddyRig) -> None:
        """
        With nothing in force there is no trace of Firedoor in the configuration.
        """
        rig.gateway.converge([close()])
        assert b"firedoor" in rig.export().partition(b'"apps"')[2]

        rig.gateway.converge(())

        assert b"firedoor" not in rig.export().partition(b'"apps"')[2]

    @pytest.mark.parametrize("kind", [CaddyRig, ResumingRig])
    def test_restart(self, kind: type[CaddyRig], tmp_path: Path) -> None:
        """
        Started with `--resume` Caddy has what was in force, and nothing is written; with its file
        only it has forgotten, and one converge brings it back.
        """
        rig = kind(tmp_path / "caddy")
        try:
            rig.start()
            version = rig.gateway.converge([close()])
            rig.stop()
            rig.start()

            expected = version if kind.resumes else rig.gateway.version_of(())
            assert rig.gateway.observe() == expected
            written = rig.writes()
            assert rig.gateway.converge([close()]) == version
            assert (rig.writes() == written) == kind.resumes
            assert rig.status(ORDER) == 503
        finally:
            rig.close()


class TestRights:
    def test_what_the_example_grants_is_no_more_than_needed(self, rig: CaddyRig) -> None:
        """
        By what `deploy/gateways/caddy.example.json` grants, nothing but the server's routes and
        what it believes of addresses can be seen or changed.
        """
        admin = rig.gateway._admin

        for at in ("routes", "trusted_proxies", "trusted_proxies_strict"):
            admin.setting(at)
        for at in ("listen", "../../../../", "routes2"):
            with pytest.raises(ProviderUnreachable, match="does not let Firedoor read"):
                admin.setting(at)
        with pytest.raises(ProviderRefused, match="does not let Firedoor change"):
            admin.write("PATCH", "listen", [":1"], "x")

    def test_no_right_to_write_is_said(self, rig: CaddyRig) -> None:
        """
        Who may only read is told what is missing; a retry would be useless.
        """
        at = "config/admin/remote/access_control/0/permissions/0/methods"
        rig.operator("PATCH", at, ["GET"])

        with pytest.raises(ProviderRefused, match=r"Allow GET, PUT, PATCH and DELETE"):
            rig.gateway.converge([close()])

    def test_caddy_of_another_authority_is_not_believed(
        self, rig: CaddyRig, tmp_path: Path
    ) -> None:
        """
        Nor one that is only in the list of the public authorities; it learns nothing of us.
        """
        other = tmp_path / "other.pem"
        other.write_bytes(rig.arguments()["client_certificate"].read_bytes())

        for ca_file in (other, None):
            with pytest.raises(ProviderUnreachable, match="SSLError"):
                rig.adapter(ca_file=ca_file).observe()

    def test_renewed_certificate_is_read_without_a_restart(
        self, rig: CaddyRig, tmp_path: Path
    ) -> None:
        """
        Certificates run out; the file is put anew, and what knew the old one goes on.
        """
        ours, mine = rig.arguments()["client_certificate"], tmp_path / "mine.pem"
        write_certificate(mine)  # one that Caddy does not know
        gateway = rig.adapter(client_certificate=mine)
        with pytest.raises(ProviderUnreachable):
            gateway.observe()

        mine.write_bytes(ours.read_bytes())

        assert gateway.observe() == rig.gateway.observe()

    def test_unknown_server_is_said(self, rig: CaddyRig) -> None:
        """
        A server that Caddy does not have is a slip in the settings, or Caddy has no configuration
        yet; nobody is told that nothing is contained there.
        """
        local = f"http://127.0.0.1:{rig.admin_port}"
        for server in ("nowhere", "no/where"):
            gateway = rig.adapter(server=server, admin_url=local)
            with pytest.raises(ProviderUnreachable, match=f"'{server}'.*apps.http.servers"):
                gateway.observe()

        rig.operator("DELETE", f"config/{ROUTES}")
        with pytest.raises(ProviderUnreachable, match="has no routes in a server 'edge'"):
            rig.adapter(admin_url=local).observe()


class TestAddresses:
    def test_behind_a_proxy_it_is_the_caller_who_is_known(self, rig: CaddyRig) -> None:
        """
        Of a request that a trusted proxy passes on, the last address that is no proxy's counts,
        not the first, which the caller may have written; of any other the sender's own.
        """
        proxies = {"source": "static", "ranges": ["127.0.0.3/32"]}
        rig.operator("PATCH", f"config/apps/http/servers/{SERVER}/trusted_proxies", proxies)
        rig.gateway.converge([about(ControlKind.BLOCK, address("198.51.100.7"))])

        def status(sent: str, source: str) -> int:
            return rig.status(ORDER, headers={"X-Forwarded-For": sent}, source=source)

        assert status("198.51.100.7", "127.0.0.3") == 403
        assert status("203.0.113.1, 198.51.100.7", "127.0.0.3") == 403
        assert status("198.51.100.7, 203.0.113.1", "127.0.0.3") == 200
        assert status("198.51.100.7", "127.0.0.2") == 200

    @pytest.mark.parametrize("kind", [ControlKind.BLOCK, ControlKind.ALLOW_ONLY])
    def test_address_that_callers_choose_is_no_basis(
        self, rig: CaddyRig, kind: ControlKind
    ) -> None:
        """
        A server that believes the first address in X-Forwarded-For is told apart; what goes by no
        address is held there all the same.
        """
        rig.operator("DELETE", f"config/apps/http/servers/{SERVER}/trusted_proxies_strict")
        written = rig.writes()

        with pytest.raises(BadInput, match="trusted_proxies_strict"):
            rig.gateway.converge([about(kind, address("198.51.100.7"))])

        assert rig.writes() == written
        rig.gateway.converge([close()])


class TestVerifier:
    def test_it_is_asked_about_the_request_and_takes_nothing_from_it(self, rig: CaddyRig) -> None:
        """
        The verifier gets a GET with the caller's headers; the service gets the request with its
        body and query, as without Firedoor.
        """
        block = Control(
            kind=ControlKind.BLOCK,
            method=ANY_METHOD,
            path="/api/login",
            principals=(subject_is("c-mallory"),),
        )
        rig.gateway.converge([block])
        body = json.dumps({"username": "probe-owner", "password": "correct horse"}).encode()

        reply = rig.request("POST", "/api/login?a=b", body=body, headers={"X-Own": "x"})

        assert reply.status == 200
        assert rig.upstream.paths == ["/api/login?a=b"]
        ((method, path, headers, sent),) = rig.verifier.asked
        assert (method, path.rstrip("?"), sent) == ("GET", "/verify", b"")
        assert headers["X-Own"] == "x"
        assert headers["X-Forwarded-Method"] == "POST"
        assert headers["X-Forwarded-Uri"] == "/api/login?a=b"

    def test_it_is_not_asked_about_other_endpoints(self, rig: CaddyRig) -> None:
        """
        Who is not held has nothing to do with it.
        """
        rig.gateway.converge([about(ControlKind.BLOCK, subject_is("c-mallory"))])

        assert rig.status("/api/orders") == 200
        assert rig.verifier.asked == []

    @pytest.mark.parametrize("status", [404, 429, 500, 302, None])
    def test_without_its_word_nobody_passes(self, rig: CaddyRig, status: int | None) -> None:
        """
        A verifier that is broken, misnamed or gone opens no block: the request gets an error.
        """
        if status is None:
            rig.gateway = rig.adapter(verifier="http://127.0.0.1:1/verify")
        rig.verifier.fails_with = status
        rig.gateway.converge([about(ControlKind.BLOCK, subject_is("c-mallory"))])

        assert rig.status(ORDER) == 502
        assert rig.upstream.reached == []
        assert rig.status("/api/orders") == 200

    def test_caller_cannot_write_who_they_are(self, rig: CaddyRig) -> None:
        """
        The header counts in the verifier's answer, not in the request.
        """
        rig.gateway.converge([about(ControlKind.ALLOW_ONLY, subject_is("c-owner"))])

        told = {"X-Verified-Sub": "c-owner"}
        assert rig.status(ORDER, "mallory", headers=told) == 403
        assert rig.status(ORDER, None, headers=told) == 403
        assert rig.status(ORDER) == 200

    def test_nobody_is_on_no_list(self, rig: CaddyRig) -> None:
        """
        Whom the verifier does not know is not who is blocked, and the service has the say; nor
        are they who is allowed, unless by their address.
        """
        rig.gateway.converge([about(ControlKind.BLOCK, subject_is("c-mallory"))])
        assert rig.status(ORDER, None) == 401

        either = (subject_is("c-owner"), address("127.0.0.2"))
        rig.gateway.converge([about(ControlKind.ALLOW_ONLY, *either)])
        assert rig.status(ORDER, None) == 403
        assert rig.status(ORDER, None, source="127.0.0.2") == 401
        assert rig.status(ORDER, "mallory", source="127.0.0.2") == 200
        assert rig.status(ORDER, "mallory") == 403

    def test_blocked_address_costs_the_verifier_nothing(self, rig: CaddyRig) -> None:
        """
        Who is refused by their address is refused first.
        """
        both = (subject_is("c-mallory"), address("127.0.0.2"))
        rig.gateway.converge([about(ControlKind.BLOCK, *both)])

        assert rig.status(ORDER, source="127.0.0.2") == 403
        assert rig.verifier.asked == []
        assert rig.status(ORDER, "mallory") == 403

    def test_principal_is_taken_literally(self, rig: CaddyRig) -> None:
        """
        Neither an expression nor a placeholder of Caddy's in a name makes it another's.
        """
        for name in ("c-.*", "{http.reverse_proxy.header.X-Verified-Sub}"):
            rig.gateway.converge([about(ControlKind.ALLOW_ONLY, subject_is(name))])
            assert rig.status(ORDER) == 403

    def test_names_of_headers_have_no_case(self, rig: CaddyRig) -> None:
        """
        The settings may write them as they like.
        """
        rig.gateway = rig.adapter(claim_headers={"sub": "X-VERIFIED-sub"})
        rig.gateway.converge([about(ControlKind.BLOCK, subject_is("c-mallory"))])

        assert rig.status(ORDER, "mallory") == 403
        assert rig.status(ORDER) == 200
