"""The adapter's files, without an Envoy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actions.gateway import EnvoyGateway
from bot.errors import BadInput, ProviderUnreachable
from bot.model.containment import Control, ControlKind

BASE = {
    "name": "edge",
    "virtual_hosts": [
        {
            "name": "public",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "orders"}}],
        }
    ],
}
CLOSE = Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}")
NOBODY = "http://127.0.0.1:1"
"""Port 1 needs a privilege to be listened on, and nothing does."""


@pytest.fixture
def gateway(tmp_path: Path) -> EnvoyGateway:
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    return EnvoyGateway(
        name="edge",
        base_routes=tmp_path / "base.json",
        rds_file=tmp_path / "rds" / "edge.json",
        admin_url=NOBODY,
        take_timeout_s=0.05,
    )


class TestPrepare:
    def test_first_routes_are_the_operators(self, gateway: EnvoyGateway, tmp_path: Path) -> None:
        """
        An Envoy that was never set up finds the operator's routes, with their version.
        """
        gateway.prepare()

        written = json.loads((tmp_path / "rds" / "edge.json").read_text())
        assert written == gateway.response([])
        assert written["version_info"] == gateway.version_of([])
        assert written["resources"][0].items() >= BASE.items()

    def test_routes_that_are_there_stay(self, gateway: EnvoyGateway, tmp_path: Path) -> None:
        """
        Preparing again reopens nothing.
        """
        gateway.prepare()
        with pytest.raises(ProviderUnreachable):
            gateway.converge([CLOSE])
        before = (tmp_path / "rds" / "edge.json").read_bytes()

        gateway.prepare()

        assert (tmp_path / "rds" / "edge.json").read_bytes() == before


class TestFiles:
    def test_only_whole_files_appear_in_the_watched_directory(
        self, gateway: EnvoyGateway, tmp_path: Path
    ) -> None:
        """
        Drafts are made out of the watch's sight; what appears in it is complete.
        """
        gateway.prepare()
        with pytest.raises(ProviderUnreachable):
            gateway.converge([CLOSE])

        watched = [path.name for path in (tmp_path / "rds").iterdir()]
        assert sorted(watched) == [".firedoor", "edge.json"]
        written = json.loads((tmp_path / "rds" / "edge.json").read_text())
        assert written["version_info"] == gateway.version_of([CLOSE])

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(None, id="missing"),
            pytest.param("{", id="not-json"),
            pytest.param("[]", id="not-an-object"),
            pytest.param('{"virtual_hosts": [{}]}', id="no-name"),
            pytest.param('{"name": "edge"}', id="no-hosts"),
        ],
    )
    def test_base_routes_that_cannot_be_used_are_said(
        self, gateway: EnvoyGateway, tmp_path: Path, text: str | None
    ) -> None:
        """
        Without usable base routes nothing is written; the message names the file.
        """
        (tmp_path / "base.json").unlink()
        if text is not None:
            (tmp_path / "base.json").write_text(text)

        with pytest.raises(BadInput, match=r"base\.json.*nothing was done"):
            gateway.converge([CLOSE])
        assert not (tmp_path / "rds").exists()

    def test_file_that_cannot_be_written_is_said(
        self, gateway: EnvoyGateway, tmp_path: Path
    ) -> None:
        """
        Trouble with the disk is no answer of the gateway, and nothing was changed.
        """
        (tmp_path / "rds").write_text("a file, where the folder should be")

        with pytest.raises(ProviderUnreachable, match=r"cannot be (read|written)"):
            gateway.converge([CLOSE])

    def test_no_admin_interface_is_unreachable(self, gateway: EnvoyGateway) -> None:
        """
        What Envoy serves is not known without Envoy's word.
        """
        with pytest.raises(ProviderUnreachable, match="nothing is known of its routes"):
            gateway.observe()
