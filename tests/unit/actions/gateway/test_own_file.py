"""A file that only Firedoor writes, where it cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from actions.gateway.own_file import OwnFile
from bot.errors import ProviderUnreachable


class TestFolder:
    def test_it_is_made_with_all_above_it(self, tmp_path: Path) -> None:
        """
        The first start makes what is not there; a later one leaves it.
        """
        file = OwnFile("edge", tmp_path / "a" / "b" / "routes.json")

        file.make_folder()
        file.make_folder()

        assert file.path.parent.is_dir()

    def test_one_that_cannot_be_made_is_said_of_its_gateway(self, tmp_path: Path) -> None:
        """
        A start of Firedoor goes on with the other gateways, and this one is named.
        """
        (tmp_path / "a").write_text("in the way")

        with pytest.raises(ProviderUnreachable, match=r"routes\.json of gateway edge cannot be"):
            OwnFile("edge", tmp_path / "a" / "routes.json").make_folder()
