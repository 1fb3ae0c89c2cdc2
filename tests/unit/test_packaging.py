"""What is installed is what was locked, and what was locked is what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(lock: str) -> dict[str, str]:
    """Return name to version of a lock file's entries."""
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ \\;]+)", text, flags=re.MULTILINE))


def asked(*groups: list[str]) -> list[Requirement]:
    return [Requirement(line) for group in groups for line in group]


RUNTIME = PYPROJECT["project"]["dependencies"]
POSTGRES = PYPROJECT["project"]["optional-dependencies"]["postgres"]
SANDBOX = PYPROJECT["project"]["optional-dependencies"]["sandbox"]
DEV = PYPROJECT["dependency-groups"]["dev"]


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        pytest.param("requirements.lock", asked(RUNTIME, POSTGRES), id="runtime"),
        pytest.param(
            "requirements-dev.lock", asked(RUNTIME, POSTGRES, SANDBOX, DEV), id="development"
        ),
    ],
)
class TestLockFiles:
    def test_every_requirement_is_pinned_within_its_range(self, lock, requirements):
        """
        A lock file in step holds, for each requirement of pyproject.toml, one version it allows.
        """
        locked = pins(lock)

        wrong = [
            str(requirement)
            for requirement in requirements
            if locked.get(requirement.name.lower()) is None
            or not requirement.specifier.contains(locked[requirement.name.lower()])
        ]

        assert wrong == [], "run `make lock`"

    def test_every_pin_has_hashes_and_no_index_is_named(self, lock, requirements):
        """
        Any index may serve a package as long as its bytes are the locked ones.
        """
        text = (ROOT / lock).read_text()
        entries = re.split(r"\n(?=[a-z0-9])", text.strip())

        assert [e.split()[0] for e in entries if "--hash=sha256:" not in e] == []
        assert "://" not in text


def test_both_locks_agree():
    """
    What runs in production is what was tested.
    """
    development = pins("requirements-dev.lock")

    differing = {
        name: (version, development.get(name))
        for name, version in pins("requirements.lock").items()
        if development.get(name) != version
    }

    assert differing == {}
