"""A stand-in for Slack on loopback, which the unmodified slack-bolt and slack-sdk talk to.

Three doors on one port: the Web API and Socket Mode for the app (`web_api.py`, `socket_mode.py`),
a web page and the same in JSON for people (`person_routes.py`, `page/`), and faults on demand for
tests (`control.py`). It refuses what Slack refuses, in Slack's words, so that a message that gets
through here gets through there.

Nothing is imported here: tests and the demo take only `client.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def arguments(
    port: int,
    state_dir: Path,
    bot_token_file: Path,
    app_token_file: Path,
    people_file: Path,
    *,
    events: Sequence[str] | None = None,
) -> list[str]:
    """
    Return the command line arguments of ``python -m bot.sandbox.slack_standin``.

    Args:
        events: The types of events that the app subscribes to in its manifest; None: all that
            the stand-in knows (app_mention, member_joined_channel, message). An app that gets an
            event it does not handle does not acknowledge it, and gets it again.
    """
    return [
        *("--port", str(port)),
        *("--state-dir", str(state_dir)),
        *("--bot-token-file", str(bot_token_file)),
        *("--app-token-file", str(app_token_file)),
        *("--people", str(people_file)),
        *(() if events is None else ("--events", ",".join(events))),
    ]
