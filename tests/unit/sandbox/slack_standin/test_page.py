"""The page in a real browser, where there is one."""

from __future__ import annotations

import shutil
import subprocess
import time
from html.parser import HTMLParser

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
    "--dump-dom",
)


class Tags(HTMLParser):
    """The elements of a piece of markup."""

    def __init__(self, markup):
        super().__init__()
        self.names, self.attributes, self.addresses = set(), set(), set()
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses.update(value for name, value in attrs if name in ("href", "src"))


def dom_of(url, profile):
    """The page's DOM as markup, once its script has run."""
    argv = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def test_markup_in_messages_stays_text(server, tmp_path):
    """What people and the app write is shown and never becomes part of the page."""
    client = server.client()
    name = f"inc-{time.time_ns()}"
    channel = client.conversations_create(name=name)["channel"]["id"]
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    client.chat_postMessage(channel=channel, text=f"mine {attack} <javascript:alert(3)|click>")
    client.chat_postMessage(
        channel=channel,
        text="?",
        blocks=[
            {"type": "header", "text": {"type": "plain_text", "text": attack}},
            {
                "type": "actions",
                "elements": [
                    {
                        "type": "button",
                        "action_id": attack,
                        "style": "primary",
                        "text": {"type": "plain_text", "text": "Approve"},
                    }
                ],
            },
        ],
    )
    server.person().say(f"yours {attack} @channel", channel)

    dom = dom_of(f"{server.url}/?live=off&user=U0SAM&channel={name}", tmp_path)

    _, _, log = dom.partition('id="messages"')
    messages, _, _ = log.partition("</ol>")
    shown = attack.replace("<", "&lt;").replace(">", "&gt;")
    assert f"mine {shown}" in messages
    assert f"yours {shown}" in messages
    assert f'<h3 class="b-header">{shown}</h3>' in messages
    assert ">Approve</button>" in messages
    assert '<span class="mention broadcast">@channel</span>' in messages
    tags = Tags(messages)
    assert tags.names.isdisjoint({"img", "script", "iframe", "object", "style"})
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert not [address for address in tags.addresses if not address.startswith("http")]
