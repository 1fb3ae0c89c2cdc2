"""Evidence on disk: by content, private, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from bot.errors import Failed, NotFound, StoreUnavailable
from bot.store import FolderFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


class TestKeeping:
    def test_bytes_are_named_by_their_sha256_and_read_back(self, folder):
        """
        The name is the proof of the content.
        """
        files = FolderFiles(folder)

        name = files.put(b"who,what\n")

        assert name == hashlib.sha256(b"who,what\n").hexdigest()
        assert files.get(name) == b"who,what\n"
        assert Path(files.path(name)).read_bytes() == b"who,what\n"

    def test_the_same_bytes_twice_are_one_file(self, folder):
        """
        A step that is repeated after a crash leaves no copy.
        """
        files = FolderFiles(folder)

        assert files.put(b"x") == files.put(b"x")
        assert len(list(folder.iterdir())) == 1

    def test_only_the_owner_can_read_it(self, folder):
        """
        Evidence names people: nobody else on the machine may look.
        """
        name = FolderFiles(folder).put(b"x")

        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


class TestTrouble:
    def test_altered_bytes_are_not_given_out(self, folder):
        """
        Evidence that was tampered with is worse than none.
        """
        files = FolderFiles(folder)
        name = files.put(b"guilty")
        (folder / name).write_bytes(b"innocent")

        with pytest.raises(Failed, match="altered"):
            files.get(name)

    def test_unknown_evidence_is_not_found(self, folder):
        """
        A name that was never kept is said to be unknown.
        """
        with pytest.raises(NotFound):
            FolderFiles(folder).get("0" * 64)

    def test_a_full_disk_is_said_and_leaves_nothing(self, folder, monkeypatch):
        """
        A half-written file is never found under its final name, nor left beside it.
        """

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)

        with pytest.raises(StoreUnavailable, match=r"No space left.*nothing more is done"):
            FolderFiles(folder).put(b"x")
        assert list(folder.iterdir()) == []

    def test_after_that_it_can_be_kept(self, folder, monkeypatch):
        """
        The step that is repeated once there is room finds its way.
        """
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", lambda *_: None)
            patched.setattr(Path, "replace", _refuse)
            with pytest.raises(StoreUnavailable):
                FolderFiles(folder).put(b"x")

        files = FolderFiles(folder)
        assert files.get(files.put(b"x")) == b"x"


def _refuse(self: Path, target: Path) -> Path:
    raise OSError(errno.EIO, "Input/output error")
