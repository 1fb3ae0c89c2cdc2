"""Rehearsals as JUnit XML, which CI systems read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from bot.engine.rehearsal import Rehearsed

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even as a character code."""


def junit_xml(results: Iterable[Rehearsed]) -> bytes:
    """Return one test suite for each runbook. Times are zero: a rehearsal takes none that says
    anything, and so equal results give equal files."""
    suites: dict[str, list[Rehearsed]] = {}
    for result in results:
        suites.setdefault(result.runbook, []).append(result)
    root = ElementTree.Element("testsuites", name="firedoor rehearse")
    for runbook, cases in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", _counts(cases), name=_clean(runbook))
        for case in cases:
            _add(suite, case)
    every = [case for cases in suites.values() for case in cases]
    root.attrib.update(_counts(every))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _counts(cases: list[Rehearsed]) -> dict[str, str]:
    failed = sum(bool(case.differences) for case in cases)
    return {
        "tests": str(len(cases)),
        "failures": str(failed),
        "errors": "0",
        "skipped": "0",
        "time": "0",
    }


def _add(suite: ElementTree.Element, case: Rehearsed) -> None:
    made = ElementTree.SubElement(
        suite,
        "testcase",
        name=_clean(case.case),
        classname=_clean(case.runbook),
        file=_clean(case.file),
        line=str(case.line),
        time="0",
    )
    if case.differences:
        first = "; ".join(case.differences)
        failure = ElementTree.SubElement(made, "failure", type="mismatch", message=_clean(first))
        failure.text = _clean(f"{case.file}:{case.line}\n{case.told}")


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
