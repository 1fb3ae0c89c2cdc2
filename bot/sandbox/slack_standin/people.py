"""Who is in the workspace: the people of the sandbox, Slackbot and the app itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.errors import BadInput

TEAM_ID = "T0ACME"
TEAM_NAME = "Acme"
TEAM_DOMAIN = "acme"
APP_ID = "A0FIREDOOR"
APP_NAME = "firedoor"
BOT_ID = "B0FIREDOOR"
BOT_USER_ID = "U0FIREDOOR"
SLACKBOT_ID = "USLACKBOT"

Json = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """Somebody with a Slack user id. ``name`` is the handle, ``display`` what people read."""

    id: str
    name: str
    display: str
    role: str = ""
    is_bot: bool = False

    @property
    def profile(self) -> Json:
        """The object that ``users.info`` returns."""
        return {
            "id": self.id,
            "team_id": TEAM_ID,
            "name": self.name,
            "real_name": self.display,
            "deleted": False,
            "is_bot": self.is_bot,
            "is_app_user": False,
            "is_admin": False,
            "tz": "Etc/UTC",
            "tz_offset": 0,
            "profile": {
                "real_name": self.display,
                "display_name": self.name,
                "title": self.role,
                "email": f"{self.name}@{TEAM_DOMAIN}.example",
            },
        }

    @property
    def brief(self) -> Json:
        """The object that names this person inside an interaction."""
        return {
            "id": self.id,
            "username": self.name,
            "name": self.name,
            "team_id": TEAM_ID,
        }


APP = Member(BOT_USER_ID, APP_NAME, "Firedoor", "incident response", is_bot=True)
SLACKBOT = Member(SLACKBOT_ID, "slackbot", "Slackbot", is_bot=True)


def read_people(path: Path) -> list[Member]:
    """
    Return the people of a file: a JSON list of ``{"id", "name", "display", "role"}``.

    Raises:
        BadInput: The file is not such a list, or an id is not a Slack user id.
    """
    try:
        people = [Member(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read as the list of people ({error}), so the Slack stand-in was "
            'not started. Write [{"id": "U0SAM", "name": "sam", "display": "Sam", "role": ""}].'
        ) from error
    for person in people:
        if not re.fullmatch(r"[UW][A-Z0-9]{2,}", person.id):
            raise BadInput(
                f"{path}: {person.id!r} is not a Slack user id, so the stand-in was not started. "
                "Use U or W and then capitals and digits."
            )
    return people


def usergroups(people: list[Member]) -> dict[str, tuple[Json, list[str]]]:
    """Return the user groups by id, one for each role, each with the ids of its people."""
    groups: dict[str, tuple[Json, list[str]]] = {}
    for person in people:
        if not person.role:
            continue
        group_id = "S" + re.sub(r"[^A-Z0-9]", "", person.role.upper())
        handle = re.sub(r"[^a-z0-9]+", "-", person.role.lower()).strip("-")
        group = {
            "id": group_id,
            "team_id": TEAM_ID,
            "is_usergroup": True,
            "name": person.role,
            "handle": handle,
            "description": "",
            "date_delete": 0,
        }
        groups.setdefault(group_id, (group, []))[1].append(person.id)
    return groups
