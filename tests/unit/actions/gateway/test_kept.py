"""Edits of other hands are kept when they are replaced, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

from actions.gateway.adapters import kept


def test_content_is_kept_once(tmp_path: Path) -> None:
    """
    The words name a file with what was there; the same again is the same file.
    """
    words = kept.keep(tmp_path / "kept", "edge", {"rules": [1]})

    assert kept.keep(tmp_path / "kept", "edge", {"rules": [1]}) == words
    (file,) = (tmp_path / "kept").iterdir()
    assert words == f"what it held is in {file}"
    assert json.loads(file.read_text()) == {"rules": [1]}


def test_hand_that_edits_in_a_loop_fills_no_disk(tmp_path: Path) -> None:
    """
    Only so many are kept; then the words say so.
    """
    for number in range(kept.MAX_FILES + 2):
        words = kept.keep(tmp_path, "edge", number)

    assert len(list(tmp_path.iterdir())) == kept.MAX_FILES
    assert "could not be kept" in words


def test_folder_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    """
    A containment is made all the same.
    """
    (tmp_path / "file").write_text("")

    assert "could not be kept" in kept.keep(tmp_path / "file", "edge", {})
