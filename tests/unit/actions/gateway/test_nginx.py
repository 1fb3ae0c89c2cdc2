"""The adapter without an nginx, and the lines that operators take from the example."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from actions.gateway.adapters.nginx import NginxGateway
from actions.gateway.adapters.nginx.render import SLOTS, version_in
from bot.errors import BadInput, FiredoorError, ProviderUnreachable
from bot.model.answers import CLOSED, REFUSED, THROTTLED, ControlAnswer
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind, subject
from tests.unit.actions.gateway.nginx_reader import Directive, parsed

PATH = "/api/orders/{order_id}"
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path=PATH)
NOBODY = "127.0.0.1:1"
"""Port 1 needs a privilege to be listened on, and nothing does."""

EXAMPLE = Path(__file__).resolve().parents[4] / "deploy" / "gateways" / "nginx.example.conf"


def made(folder: Path, **more: Any) -> NginxGateway:
    arguments: dict[str, Any] = {
        "name": "edge",
        "own_file": folder / "firedoor" / "http.conf",
        "status_address": NOBODY,
        "pid_file": folder / "nginx.pid",
        "test_command": ("true",),
    }
    return NginxGateway(**(arguments | more))


def control(kind: ControlKind, *principals: Principal, **more: Any) -> Control:
    return Control(kind=kind, method="GET", path=PATH, principals=principals, **more)


def key(name: str) -> Principal:
    return Principal(kind=PrincipalKind.API_KEY, value=name)


class TestSupports:
    def test_what_needs_nothing_of_the_operator(self, tmp_path: Path) -> None:
        """
        Closing, limiting, and addresses need no argument.
        """
        network = Principal(kind=PrincipalKind.IP, value="10.0.0.0/8")
        for wanted in (
            CLOSE,
            control(ControlKind.THROTTLE, rate_per_s=1.0),
            control(ControlKind.BLOCK, network),
            control(ControlKind.ALLOW_ONLY, network),
        ):
            support = made(tmp_path).supports(wanted)
            assert support.ok
            assert not support.best_effort

    @pytest.mark.parametrize(
        ("wanted", "argument"),
        [
            (control(ControlKind.BLOCK, key("partner-7")), {"api_key_variable": "api_client"}),
            (control(ControlKind.BLOCK, subject("c-1")), {"claim_variables": {"sub": "verified"}}),
            (control(ControlKind.SHADOW, would=ControlKind.CLOSE), {"shadow_log": Path("log")}),
        ],
        ids=["api-key", "claim", "shadow"],
    )
    def test_what_an_argument_promises(
        self, tmp_path: Path, wanted: Control, argument: dict[str, Any]
    ) -> None:
        """
        Keys, claims and shadows are refused until the operator has said where nginx has them.
        """
        support = made(tmp_path).supports(wanted)

        assert (support.ok, support.nearest) == (False, ControlKind.THROTTLE)
        assert next(iter(argument)) in support.why
        assert made(tmp_path, **argument).supports(wanted).ok

    def test_shadow_is_as_good_as_what_it_stands_for(self, tmp_path: Path) -> None:
        """
        A shadow of a block by a claim needs the claim.
        """
        shadow = control(ControlKind.SHADOW, subject("c-1"), would=ControlKind.BLOCK)

        assert not made(tmp_path, shadow_log=Path("log")).supports(shadow).ok

    @pytest.mark.parametrize("value", ["c-é", " c-1"])
    def test_claim_that_no_header_carries(self, tmp_path: Path, value: str) -> None:
        """
        A value that could arrive as another one is refused, not silently blocked for nobody.
        """
        gateway = made(tmp_path, claim_variables={"sub": "verified"})

        assert not gateway.supports(control(ControlKind.BLOCK, subject(value))).ok

    def test_slower_than_once_a_minute(self, tmp_path: Path) -> None:
        """
        nginx has no slower limit; the next that it can is to close.
        """
        support = made(tmp_path).supports(control(ControlKind.THROTTLE, rate_per_s=0.01))

        assert (support.ok, support.nearest) == (False, ControlKind.CLOSE)
        assert made(tmp_path).supports(control(ControlKind.THROTTLE, rate_per_s=1 / 60)).ok


class TestFiles:
    def test_commands_see_no_setting_of_firedoor(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Secrets may lie in Firedoor's environment; the operator's commands get one of their own.
        """
        monkeypatch.setenv("FIREDOOR_TOKEN", "hunter2")
        (tmp_path / "nginx.pid").write_text(str(os.getpid()))
        seen = tmp_path / "seen"
        gateway = made(tmp_path, test_command=("sh", "-c", f"env > {seen}; exit 1"))
        gateway.prepare()

        with pytest.raises(FiredoorError):
            gateway.converge([CLOSE])

        assert "PATH=" in seen.read_text()
        assert "hunter2" not in seen.read_text()

    def test_first_file_has_no_control(self, tmp_path: Path) -> None:
        """
        An nginx that was never set up finds what its configuration includes, and the log.
        """
        gateway = made(tmp_path, shadow_log=tmp_path / "firedoor" / "shadow.log")

        gateway.prepare()

        text = (tmp_path / "firedoor" / "http.conf").read_text()
        assert version_in(text) == gateway.version_of([])
        assert (tmp_path / "firedoor" / "shadow.log").read_text() == ""

    def test_log_of_shadows_can_be_emptied_once_it_is_the_workers(self, tmp_path: Path) -> None:
        """
        nginx gives its logs to the workers' user when they are reopened (USR1): the group may write
        the one that Firedoor makes. One that is there is left as it is, and needs no right to it.
        """
        log = tmp_path / "firedoor" / "shadow.log"
        gateway = made(tmp_path, shadow_log=log)
        gateway.prepare()
        assert log.stat().st_mode & 0o777 == 0o660

        log.chmod(0o640)
        before = log.stat()
        gateway.prepare()

        assert (log.stat().st_mode, log.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)

    def test_file_that_is_there_stays(self, tmp_path: Path) -> None:
        """
        Preparing again reopens nothing, and what nobody answers for is written for the next start.
        """
        gateway = made(tmp_path)
        gateway.prepare()
        with pytest.raises(ProviderUnreachable, match="edge does not run"):
            gateway.converge([CLOSE])
        before = (tmp_path / "firedoor" / "http.conf").read_text()
        assert version_in(before) == gateway.version_of([CLOSE])

        made(tmp_path).prepare()

        assert (tmp_path / "firedoor" / "http.conf").read_text() == before

    def test_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        """
        A broken disk is told with what is to be mended, and changes nothing.
        """
        (tmp_path / "firedoor").write_text("a file where a folder is to be")

        for call in (made(tmp_path).prepare, lambda: made(tmp_path).converge([CLOSE])):
            with pytest.raises(ProviderUnreachable, match="Mend the disk"):
                call()

    def test_hits_are_lines_with_the_shadow_s_id(self, tmp_path: Path) -> None:
        """
        A line counts for each shadow that it names; without a log there is nothing to count.
        """
        shadow = control(ControlKind.SHADOW, would=ControlKind.CLOSE)
        gateway = made(tmp_path, shadow_log=tmp_path / "shadow.log")
        assert gateway.shadow_hits(shadow) == 0
        (tmp_path / "shadow.log").write_bytes(b"\n0123abcd \n\xff\n")
        assert gateway.shadow_hits(shadow) == 0

        for without in (
            lambda: made(tmp_path).shadow_hits(shadow),
            lambda: gateway.shadow_hits(CLOSE),
        ):
            with pytest.raises(BadInput):
                without()


class TestExample:
    @pytest.fixture
    def server(self) -> list[Directive]:
        (http,) = (each for each in parsed(EXAMPLE.read_text()) if each.words == ["http"])
        (server,) = (each for each in http.block if each.words == ["server"])
        return server.block

    def test_limits_are_those_that_the_file_has_zones_for(self, server: list[Directive]) -> None:
        """
        Each zone has a line, which lets as many through at once as Firedoor takes it to.
        """
        (serving,) = (each for each in server if each.words == ["location", "@orders"])
        lines = [each.words[1:] for each in serving.block if each.words[0] == "limit_req"]

        bursts = [[f"burst={size - 1}", "nodelay"] if size > 1 else [] for size in SLOTS]
        assert lines == [[f"zone=firedoor_{n}", *burst] for n, burst in enumerate(bursts, 1)]

    @pytest.mark.parametrize("answer", [CLOSED, REFUSED, THROTTLED], ids=lambda each: each.mark)
    def test_answers_are_those_of_every_gateway(
        self, server: list[Directive], answer: ControlAnswer
    ) -> None:
        """
        Status and headers stand in the example; the body comes with Firedoor's file.
        """
        where = ["location", "=", f"/.firedoor/{answer.mark}"]
        (place,) = (each for each in server if each.words == where)
        headers = {
            each.words[1].lower(): each.words[2]
            for each in place.block
            if each.words[0] == "add_header" and each.words[3:] == ["always"]
        }
        said = [each.words for each in place.block]

        assert headers | {"content-type": "application/problem+json"} == answer.headers
        assert ["default_type", "application/problem+json"] in said
        assert ["return", str(answer.status), f"$firedoor_{answer.mark}"] in said
        assert ["internal"] in said
