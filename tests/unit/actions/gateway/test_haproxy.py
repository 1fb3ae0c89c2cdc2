"""The adapter for HAProxy, without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actions.gateway.adapters.haproxy import HaproxyGateway
from actions.gateway.adapters.haproxy.runtime import RuntimeApi
from bot.action import Writing
from bot.errors import LeaseLost, ProviderUnreachable
from bot.model.containment import Control, ControlKind, Principal, PrincipalKind
from bot.model.containment import subject as subject_is
from tests.gateways.haproxy import Garbage

CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}")


def gateway(folder: Path, **changes: Any) -> HaproxyGateway:
    arguments: dict[str, Any] = {
        "name": "edge",
        "socket": folder / "nobody.sock",
        "maps_dir": folder / "maps",
        "claims": ("sub",),
    }
    return HaproxyGateway(**{**arguments, **changes})


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "maps").glob("*.map")}


def block(principal: Principal) -> Control:
    return CLOSE.model_copy(update={"kind": ControlKind.BLOCK, "principals": (principal,)})


class TestSupports:
    @pytest.mark.parametrize(
        ("wanted", "why"),
        [
            (block(Principal(kind=PrincipalKind.API_KEY, value="partner-7")), "API keys"),
            (block(Principal(kind=PrincipalKind.CLAIM, claim="role", value="x")), "claim role"),
            (block(subject_is("müller")), "ASCII"),
            (
                CLOSE.model_copy(update={"kind": ControlKind.THROTTLE, "rate_per_s": 1 / 3601}),
                "lowest rate",
            ),
        ],
        ids=["unchecked key", "claim nobody handed over", "escaped letters", "less than hourly"],
    )
    def test_what_it_cannot_tell_it_does_not_promise(
        self, tmp_path: Path, wanted: Control, why: str
    ) -> None:
        """
        A key or a claim counts only if the operator says that HAProxy has checked it; and then
        only as far as HAProxy reads it.
        """
        support = gateway(tmp_path).supports(wanted)

        assert not support.ok
        assert why in support.why
        assert support.nearest in (ControlKind.THROTTLE, ControlKind.CLOSE)

    def test_shadows_are_looked_at_too(self, tmp_path: Path) -> None:
        """
        What a shadow would do by a caller that cannot be told counts nothing, so it is refused.
        """
        wanted = block(subject_is("müller")).model_copy(
            update={"kind": ControlKind.SHADOW, "would": ControlKind.BLOCK}
        )

        assert not gateway(tmp_path).supports(wanted).ok

    def test_rungs_of_the_ladder(self, tmp_path: Path) -> None:
        """
        Everything else it can.
        """
        hourly = CLOSE.model_copy(update={"kind": ControlKind.THROTTLE, "rate_per_s": 1 / 3600})
        key = block(Principal(kind=PrincipalKind.API_KEY, value="partner-7"))

        for wanted in (CLOSE, hourly, block(subject_is("c-mallory"))):
            assert gateway(tmp_path).supports(wanted).ok
        assert gateway(tmp_path, checks_api_keys=True).supports(key).ok


class TestPrepare:
    def test_files_are_there_before_haproxy(self, tmp_path: Path) -> None:
        """
        HAProxy does not start without its maps; the first ones hold nothing but their version.
        """
        gateway(tmp_path).prepare()

        version = gateway(tmp_path).version_of([])
        assert texts(tmp_path) == {
            "routes.map": f"$.version {version}\n",
            "networks.map": "",
            "members.map": "",
        }

    def test_maps_that_are_there_stay(self, tmp_path: Path) -> None:
        """
        Preparing again reopens nothing.
        """
        gateway(tmp_path).prepare()
        with pytest.raises(ProviderUnreachable):
            gateway(tmp_path).converge([CLOSE])
        before = texts(tmp_path)

        gateway(tmp_path).prepare()

        assert texts(tmp_path) == before


class TestDown:
    def test_it_comes_up_with_what_is_wanted(self, tmp_path: Path) -> None:
        """
        While HAProxy is down nobody is told that an endpoint is closed; but its files say so.
        """
        gateway(tmp_path).prepare()

        with pytest.raises(ProviderUnreachable, match="comes up with it") as raised:
            gateway(tmp_path).converge([CLOSE])

        assert "edge" in str(raised.value)
        assert "closed" in texts(tmp_path)["routes.map"]
        assert gateway(tmp_path).version_of([CLOSE]) in texts(tmp_path)["routes.map"]

    def test_who_lost_the_right_to_write_leaves_the_files(self, tmp_path: Path) -> None:
        """
        The right is asked for before the files are written, too.
        """
        gateway(tmp_path).prepare()
        before = texts(tmp_path)

        def lost() -> None:
            raise LeaseLost("Another worker drives the run.")

        with pytest.raises(LeaseLost):
            gateway(tmp_path).converge([CLOSE], Writing(begin=lost))

        assert texts(tmp_path) == before

    def test_edited_file_is_kept_and_told(self, tmp_path: Path) -> None:
        """
        What another hand wrote into a file is never replaced in silence.
        """
        gateway(tmp_path).prepare()
        with (tmp_path / "maps" / "routes.map").open("a") as file:
            file.write("^GET/by/hand$ closed\n")
        told: list[str] = []

        with pytest.raises(ProviderUnreachable):
            gateway(tmp_path).converge([], Writing(displaced=told.append))

        assert len(told) == 1
        kept = Path(told[0].partition(" is in ")[2].partition(". ")[0])
        assert "^GET/by/hand$ closed" in kept.read_text()
        assert "by/hand" not in texts(tmp_path)["routes.map"]

    def test_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        """
        A folder that is none is an error of this gateway, with a way out.
        """
        (tmp_path / "maps").write_text("")

        with pytest.raises(ProviderUnreachable, match="Mend the disk"):
            gateway(tmp_path).converge([CLOSE])


class TestAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"0x1 one two\n",
            b"0x1 one two\n\n",
            b"Welcome\n\n\n\n",
            b"\n\n\n\n",
            b"\xff\n\n\n\n",
        ],
        ids=["nothing", "cut off", "one of three", "not a map", "four", "not text"],
    )
    def test_only_whole_answers_count(self, tmp_path: Path, answer: bytes) -> None:
        """
        What is no complete answer of HAProxy's is never read as maps with nothing in them.
        """
        garbage = Garbage(tmp_path / "x.sock", answer)
        try:
            with pytest.raises(ProviderUnreachable, match="edge"):
                gateway(tmp_path, socket=garbage.path).observe()
        finally:
            garbage.close()

    def test_configuration_without_the_maps(self, tmp_path: Path) -> None:
        """
        An HAProxy that was not set up for Firedoor is told apart from one that is down.
        """
        said = b"Unknown map identifier. Please use #<id> or <file>.\n\n"
        garbage = Garbage(tmp_path / "x.sock", said * 3)
        try:
            with pytest.raises(ProviderUnreachable, match=r"haproxy\.example\.cfg"):
                gateway(tmp_path, socket=garbage.path).observe()
        finally:
            garbage.close()

    def test_server_that_says_nothing(self, tmp_path: Path) -> None:
        """
        A hung HAProxy is given up after the timeout.
        """
        garbage = Garbage(tmp_path / "x.sock", None)
        try:
            with pytest.raises(ProviderUnreachable, match="no answer"):
                RuntimeApi("edge", garbage.path, timeout_s=0.05).counters("firedoor_shadows")
        finally:
            garbage.close()
