"""YAML text -> Runbook. Reports all problems at once, each with line, column and path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.action import Action
from bot.errors import Problem, RunbookInvalid
from bot.language.document import Draft, read_draft
from bot.language.link import check_links, linked
from bot.language.runbook import Runbook

Found = dict[str, tuple[Problem, ...]]
"""Problems by file."""


def load(
    text: str,
    file: str,
    actions: Mapping[str, Action[Any]],
    called: Mapping[str, str] | None = None,
) -> Runbook:
    """Read and check a runbook.

    Args:
        file: Its name, for messages.

        actions: All actions, by name.

        called: The texts of the runbooks that it calls, directly or through others, by id.

    Raises:
        RunbookInvalid: Holds every problem of the text, and of those called.
    """
    own = read_draft(text, actions)
    drafts = {file: own}
    for name, each in (called or {}).items():
        drafts[f"{file}, which calls {name}"] = read_draft(each, actions)
    books = _check_together(drafts)
    _raise({name: draft.problems for name, draft in drafts.items()})
    return linked(books)[own.id or ""]


def check(
    text: str, file: str, actions: Mapping[str, Action[Any]]
) -> tuple[Runbook | None, tuple[Problem, ...]]:
    """Return the runbook and no problems, or None and all problems, in file order.

    Its calls of other runbooks are left as they are, and are not checked.
    """
    del file  # the text says all; the caller names the file when it reports
    draft = read_draft(text, actions)
    return draft.runbook, draft.problems


def check_files(texts: Mapping[str, str], actions: Mapping[str, Action[Any]]) -> Found:
    """Return the problems of several texts by file, with those between them.

    A call of a runbook that is not among them is a problem.
    """
    drafts = {file: read_draft(text, actions) for file, text in texts.items()}
    _check_together(drafts)
    return {file: draft.problems for file, draft in drafts.items()}


def load_texts(
    texts: Mapping[str, str], actions: Mapping[str, Action[Any]], unreadable: Found | None = None
) -> dict[str, Runbook]:
    """Load the runbooks of several files, by id, each with those that it calls.

    Args:
        texts: By file.

        unreadable: The problems of files that have no text, which are told with the others.

    Raises:
        RunbookInvalid: Holds every problem of every file; two runbooks of one id are one.
    """
    unreadable = unreadable or {}
    drafts = {file: read_draft(text, actions) for file, text in texts.items()}
    books = _check_together(drafts, is_all=not unreadable)
    _raise({**unreadable, **{file: draft.problems for file, draft in drafts.items()}})
    return linked(books)


def _check_together(drafts: Mapping[str, Draft], *, is_all: bool = True) -> dict[str, Draft]:
    """Check what only shows between files, and return the drafts by the id of their runbook.

    Args:
        drafts: By file.

        is_all: Whether no file is left out because it could not be read at all.
    """
    books: dict[str, Draft] = {}
    files: dict[str, str] = {}
    for file, draft in drafts.items():
        if draft.id is None:
            is_all = False
        elif draft.id in books:
            first = files[draft.id].rpartition("/")[2]
            message = f"{first} is called '{draft.id}' already. Rename one of the two."
            draft.reading.add(draft.at, "id", message)
        else:
            books[draft.id], files[draft.id] = draft, file
    check_links(books, is_all=is_all)
    return books


def _raise(found: Found) -> None:
    """Raise all problems as one error, if there are any."""
    bad = {file: problems for file, problems in found.items() if problems}
    if len(bad) == 1:
        raise RunbookInvalid(*bad.popitem())
    if bad:
        raise RunbookInvalid(
            f"{len(bad)} files",
            [
                Problem(each.line, each.column, f"{file} {each.where}".rstrip(), each.message)
                for file, problems in bad.items()
                for each in problems
            ],
        )
