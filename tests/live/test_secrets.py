"""No secret is found outside the systems that keep secrets."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from bot.sandbox.company import Company
from bot.sandbox.main_job import MainJob
from tests.live.harness import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

SHORTEST = 8


def forms(secret: str) -> set[bytes]:
    """Return the ways in which a secret may be written down."""
    raw = secret.encode()
    found = {
        raw,
        quote(secret, safe="").encode(),
        json.dumps(secret)[1:-1].encode(),
        raw.hex().encode(),
    }
    # Base64 at each of the three alignments, without the characters that neighbours change.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        middle = encoded[4 if shift else 0 : -2]
        found |= {middle.encode(), middle.replace("+", "-").replace("/", "_").encode()}
    return {form for form in found if len(form) >= SHORTEST}


class ArgumentWatch:
    """Collects the arguments of every process of this machine while it is open."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ArgumentWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue  # it ended meanwhile


def test_a_whole_main_job_leaves_no_secret_behind(tmp_path: Path):
    """
    After the main job, no secret (first or rotated) is in the database,
    the logs, the evidence, the postmortem, the Slack stand-in, the mails or process arguments.
    """
    folder = tmp_path / "company"
    with ArgumentWatch() as watch, Company(folder, runbooks=ROOT / "runbooks") as company:
        before = company.secrets()
        result = MainJob(company).run()
        secrets = {**before, **company.secrets()}
        dump = requests.get(f"{company.places.url('slack')}/control/dump", timeout=10).content
    assert result.ok, [vars(f) for f in result.findings if not f.ok]

    places = {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("state", "logs", "mail/messages", "slack")
        for path in (folder / part).rglob("*")
        if path.is_file()
    }
    places |= {str(path): path.read_bytes() for path in folder.glob("*postmortem*")}
    places |= {"firedoor.yaml": (folder / "firedoor.yaml").read_bytes(), "slack dump": dump}
    places |= {f"arguments of {argv!r}": argv for argv in watch.seen}
    places |= {f"{name} (inflated)": _inflated(content) for name, content in places.items()
               if name.endswith(".pdf")}  # fmt: skip
    assert any("firedoor.sqlite" in name for name in places)

    found = [
        (name, where)
        for name, secret in secrets.items()
        for form in forms(secret)
        for where, content in places.items()
        if form in content
    ]

    assert found == []
    assert len(secrets) > 15


def _inflated(pdf: bytes) -> bytes:
    """Return the streams of a PDF, decompressed."""
    parts = []
    for chunk in pdf.split(b"stream")[1:]:
        try:
            parts.append(zlib.decompressobj().decompress(chunk.strip(b"\r\n")))
        except zlib.error:
            continue
    return b"\n".join(parts)
