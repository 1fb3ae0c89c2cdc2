"""What an action is given: its connections, its evidence, its notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.errors import BadInput, StoreUnavailable
from bot.model.incident import Severity
from bot.service.context import Connections, IncidentEvidence, StepNotes
from bot.service.redact import SecretRedactor
from bot.store import FolderFiles, SqlStore
from bot.testing import START, FakeClock


class Vault:
    """A kind of connection."""


class Cloud:
    """Another kind."""


class TestConnections:
    main, other, cloud = Vault(), Vault(), Cloud()

    def test_the_only_one_needs_no_name(self):
        """
        Where there is one vault, a runbook need not name it.
        """
        connections = Connections({(Vault, "main"): self.main, (Cloud, "aws"): self.cloud})

        assert connections.get(Vault, None) is self.main
        assert connections.get(Vault, "main") is self.main

    @pytest.mark.parametrize(
        ("kind", "name", "said"),
        [
            pytest.param(Vault, None, "chosen (configured: main, other)", id="several"),
            pytest.param(Vault, "none", "named 'none' (configured: main, other)", id="unknown"),
            pytest.param(Cloud, None, "Cloud is chosen (configured: none)", id="not-configured"),
            pytest.param(Cloud, "main", "Cloud is named 'main'", id="of-another-kind"),
        ],
    )
    def test_what_cannot_be_told_is_bad_input(self, kind, name, said):
        """
        The message names what there is.
        """
        connections = Connections({(Vault, "main"): self.main, (Vault, "other"): self.other})

        with pytest.raises(BadInput) as caught:
            connections.get(kind, name)

        assert said in str(caught.value)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path / 'firedoor.sqlite'}")
    store.migrate()
    with store.begin() as tx:
        for _ in range(2):
            tx.add_incident(key="k", title="t", severity=Severity.SEV1, at=START)
    yield store
    store.close()


class TestEvidence:
    @pytest.fixture
    def desk(self, store: SqlStore, tmp_path: Path) -> IncidentEvidence:
        files = FolderFiles(tmp_path / "evidence")
        return IncidentEvidence(store, files, FakeClock(), "INC-1", "INC-1-R1", "affected")

    def keep(self, desk: IncidentEvidence, content: bytes, name: str = "list.csv"):
        return desk.keep(name, content, "text/csv", "Affected records.")

    def test_it_is_kept_and_journaled_with_its_hash(self, desk, store):
        """
        The journal names the file, its content's hash and the step that made it.
        """
        kept = self.keep(desk, b"a,b\n")

        assert desk.read(kept) == b"a,b\n"
        with store.read() as tx:
            (record,) = tx.records(kind="evidence_kept")
            assert list(tx.evidence("INC-1")) == [kept]
        assert record.body["evidence"]["sha256"] == kept.sha256
        assert (record.incident_id, record.step_id) == ("INC-1", "affected")

    def test_the_same_again_is_the_same_evidence(self, desk, store):
        """
        A step that is repeated after a crash leaves one piece of evidence.
        """
        assert self.keep(desk, b"a") == self.keep(desk, b"a")
        with store.read() as tx:
            assert len(tx.records(kind="evidence_kept")) == 1

    def test_another_content_of_the_same_name_is_kept_beside_it(self, desk):
        """
        Evidence is never overwritten.
        """
        ids = [self.keep(desk, content).id for content in (b"a", b"b", b"c", b"b", b"a")]

        assert ids == ["list.csv", "list-2.csv", "list-3.csv", "list-2.csv", "list.csv"]

    def test_a_name_without_an_ending_is_numbered_too(self, desk):
        """
        Whatever the name looks like.
        """
        assert [self.keep(desk, c, "list").id for c in (b"a", b"b")] == ["list", "list-2"]

    def test_the_bytes_are_there_before_the_row_that_names_them(self, store, tmp_path):
        """
        A crash leaves at most a file that nobody names, never a name without a file.
        """

        class Full(FolderFiles):
            def put(self, content: bytes) -> str:
                raise StoreUnavailable("No space left on device; nothing more is done.")

        desk = IncidentEvidence(store, Full(tmp_path), FakeClock(), "INC-1")

        with pytest.raises(StoreUnavailable):
            self.keep(desk, b"a")
        with store.read() as tx:
            assert list(tx.evidence("INC-1")) == []


class TestNotes:
    def notes(self, store: SqlStore, run: str = "INC-1-R1", step: str = "rotate") -> StepNotes:
        redactor = SecretRedactor(["canary-secret"])
        return StepNotes(store, FakeClock(), redactor, ("INC-1", run, step))

    def test_they_are_read_in_order_by_the_same_step(self, store):
        """
        Also by another attempt, in another process.
        """
        self.notes(store).write({"creating": "key-1"})
        self.notes(store).write({"created": "key-1"})

        assert list(self.notes(store).read()) == [{"creating": "key-1"}, {"created": "key-1"}]

    def test_other_steps_and_runs_do_not_see_them(self, store):
        """
        A step decides by what it did itself.
        """
        self.notes(store).write({"a": 1})

        assert list(self.notes(store, step="other").read()) == []
        assert list(self.notes(store, run="INC-1-R2").read()) == []

    def test_a_known_secret_in_one_is_taken_out(self, store):
        """
        Notes are journaled, and the journal holds no secret.
        """
        self.notes(store).write({"key": "canary-secret"})

        assert list(self.notes(store).read()) == [{"key": "[redacted]"}]
