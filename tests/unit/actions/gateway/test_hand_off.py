"""``gateway.hand_off``, and the command that prints the same patch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from actions.gateway import ACTIONS, Close, HandOff
from actions.gateway.handoff import FORMATS, patch
from bot.cli.main import cli
from bot.errors import BadInput, FiredoorError, NotAllowed, NotFound
from bot.model.endpoint import Endpoint
from bot.model.outcome import Evidence, Outcome
from bot.service.containments import ContainmentDesk
from bot.service.context import ActionContext, Connections
from bot.store import SqlStore
from bot.testing import START, FakeClock, FakeGateway

ORDER = "GET /api/orders/{order_id}"
ENDPOINTS = {
    key: Endpoint(method="GET", path=key.removeprefix("GET "))
    for key in (ORDER, "GET /api/orders/export", "GET /api/customers/me")
}


class Desk:
    """An incident's desk: what is held, and what evidence was kept."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.store = SqlStore(f"sqlite:///{folder / 'firedoor.sqlite'}")
        self.store.migrate()
        gateways = {name: FakeGateway(name) for name in ("edge", "inner")}
        self.containments = ContainmentDesk(self.store, gateways, self.clock)
        self.kept: dict[str, tuple[bytes, str, str]] = {}

    def keep(self, name: str, content: bytes, media_type: str, summary: str) -> Evidence:
        self.kept[name] = (content, media_type, summary)
        return Evidence(
            id=name,
            sha256="0" * 64,
            size_bytes=len(content),
            media_type=media_type,
            summary=summary,
            kept_at=START,
        )

    def context(self, run: str = "INC-1-R1", step: str = "close") -> ActionContext:
        unused: Any = None
        evidence: Any = self
        return ActionContext(
            incident_id=run.partition("-R")[0],
            incident_title="Cross-owner reads",
            run_id=run,
            step_id=step,
            actor="slack:U0IRIS",
            ttl_s=3600.0,
            endpoints=ENDPOINTS,
            containments=self.containments,
            evidence=evidence,
            notes=unused,
            postmortem=unused,
            clock=self.clock,
            connections=Connections({}),
        )

    def close(self, endpoint: str = ORDER, *, run: str = "INC-1-R1", gateway: str = "edge") -> str:
        """Close an endpoint and return the containment's id."""
        action, ctx = Close(), self.context(run, f"close-{len(endpoint)}-{gateway}")
        params = action.read_params({"endpoint": endpoint, "gateway": gateway})
        return str(
            action.apply(action.plan(params, action.observe(params, ctx)), ctx).facts["containment"]
        )

    def hand_off(self, *ids: str | None, format: str = "nginx", run: str = "INC-1-R1") -> Outcome:
        action = HandOff()
        read = action.read_params({"containments": list(ids), "format": format})
        return action.run(read, self.context(run, "hand-off"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


class TestAction:
    def test_it_is_an_action(self) -> None:
        """
        Runbooks can use it, and it changes nothing.
        """
        (found,) = (each for each in ACTIONS if each.name == "gateway.hand_off")
        assert (found.effect.value, found.contains) == ("read", False)

    @pytest.mark.parametrize("format_", FORMATS)
    def test_patch_becomes_evidence(self, desk: Desk, format_: str) -> None:
        """
        The whole text is kept under the incident, and the facts name it.
        """
        held = desk.close()

        outcome = desk.hand_off(held, format=format_)

        containment = desk.containments.get(held)
        assert containment is not None
        made = patch(format_, [containment.control], containments=[containment], known=ENDPOINTS)  # type: ignore[arg-type]
        assert outcome.facts == {
            "evidence": made.file_name,
            "format": format_,
            "left_out": len(made.unsupported),
        }
        content, media_type, summary = desk.kept[made.file_name]
        assert (content.decode(), media_type) == (made.text, made.media_type)
        assert "U0IRIS" not in summary
        # The inventory's other endpoint is kept out; Kong's expressions say so letter by letter.
        assert ("export" in made.text) == (format_ != "kong")

    def test_what_skipped_steps_left(self, desk: Desk) -> None:
        """
        Nulls are passed over; nothing held is nothing to hand off, and no error.
        """
        held = desk.close()

        assert desk.hand_off(None, held, "").facts["evidence"] is not None
        assert desk.hand_off(None, None).facts == {
            "evidence": None,
            "format": "nginx",
            "left_out": 0,
        }
        assert len(desk.kept) == 1

    def test_again_is_the_same(self, desk: Desk) -> None:
        """
        Called again after a crash, it keeps the same bytes under the same name.
        """
        held = desk.close()
        first = desk.hand_off(held)
        kept = dict(desk.kept)
        desk.clock.advance(minutes=5)

        assert desk.hand_off(held) == first
        assert desk.kept == kept

    def test_another_incidents(self, desk: Desk) -> None:
        """
        Another incident's owner and reason are none of this one's evidence.
        """
        held = desk.close(run="INC-2-R1")
        with pytest.raises(NotAllowed, match="belongs to INC-2"):
            desk.hand_off(held)
        assert desk.kept == {}

    def test_over(self, desk: Desk) -> None:
        """
        What was lifted is not brought back by a pull request.
        """
        held = desk.close()
        desk.containments.lift([held], "slack:U0IRIS")
        with pytest.raises(BadInput, match="is over"):
            desk.hand_off(held)

    def test_expired(self, desk: Desk) -> None:
        """
        Nor what has expired, even if nothing has reopened it yet.
        """
        held = desk.close()
        desk.clock.advance(hours=2)
        with pytest.raises(BadInput, match="is over"):
            desk.hand_off(held)

    def test_unknown(self, desk: Desk) -> None:
        """
        An id of nothing is an error.
        """
        with pytest.raises(NotFound):
            desk.hand_off("INC-1-R1.nothing")

    def test_two_gateways(self, desk: Desk) -> None:
        """
        A patch is for one configuration.
        """
        ids = [desk.close(gateway="edge"), desk.close(gateway="inner")]
        with pytest.raises(BadInput, match="gateways edge, inner"):
            desk.hand_off(*ids)

    def test_formats_are_checked_before_a_run(self) -> None:
        """
        A format that there is none of is a mistake in the runbook.
        """
        with pytest.raises(ValidationError):
            HandOff().read_params({"containments": [], "format": "apache"})


class TestCommand:
    @pytest.fixture
    def call(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Any:
        service = SimpleNamespace(
            desk=desk.containments,
            clock=desk.clock,
            incidents=SimpleNamespace(endpoints=ENDPOINTS),
        )

        @contextmanager
        def attached(_ctx: Any) -> Iterator[Any]:
            yield service

        monkeypatch.setattr("bot.cli.containments.attached", attached)

        def run(*words: str, code: int = 0) -> Any:
            done = CliRunner().invoke(cli, ("containments", "patch", *words))
            error = done.exception
            got = error.exit_code if isinstance(error, FiredoorError) else done.exit_code
            assert got == code, (done.output, error)
            return done

        return run

    @pytest.mark.parametrize("format_", FORMATS)
    def test_standard_output_is_the_patch(self, desk: Desk, call: Any, format_: str) -> None:
        """
        It can be piped into a file, as nothing else stands in it; what is left out is told beside.
        """
        held = desk.close()

        done = call(held, "--format", format_)

        desk.hand_off(held, format=format_)
        ((content, _, _),) = desk.kept.values()
        assert done.stdout == content.decode()
        assert ("Content-Type" in done.stderr) == (format_ == "terraform-aws-waf")

    def test_file(self, desk: Desk, call: Any, tmp_path: Path) -> None:
        """
        With --out it is written, and only its name is printed.
        """
        held, file = desk.close(), tmp_path / "patch.conf"

        done = call(held, "--format", "nginx", "--out", str(file))

        assert done.stdout == f"{file}\n"
        assert file.read_text().startswith("# Firedoor: containment of INC-1")
        call(held, "--format", "nginx", "--out", str(tmp_path / "no" / "folder"), code=2)

    def test_several_of_any_incident(self, desk: Desk, call: Any) -> None:
        """
        A person may put several incidents' containments into one patch.
        """
        ids = [desk.close(), desk.close("GET /api/customers/me", run="INC-2-R1")]

        text = call(*ids, "--format", "haproxy").stdout

        assert "containment of INC-1, INC-2 at gateway edge" in text

    def test_bad_input(self, desk: Desk, call: Any) -> None:
        """
        No containment, an unknown one and an unknown format end with 2, and print no patch.
        """
        held = desk.close()
        call("--format", "nginx", code=2)
        call("INC-1-R1.nothing", "--format", "nginx", code=2)
        assert call(held, "--format", "apache", code=2).stdout == ""
        desk.clock.advance(hours=2)
        call(held, "--format", "nginx", code=2)
