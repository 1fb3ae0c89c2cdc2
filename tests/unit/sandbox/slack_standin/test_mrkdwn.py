"""Text is shown as Slack shows it: so an injection is seen, and escaped text is only text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sandbox.slack_standin import mrkdwn, rendering


def kinds(runs):
    """All kinds of runs in a text, from all depths."""
    return {
        kind
        for run in runs
        for kind in ({run["kind"]} | (kinds(run["runs"]) if "runs" in run else set()))
    }


def shown(runs):
    """The characters that a person reads."""
    return "".join(shown(run["runs"]) if "runs" in run else run.get("text", "") for run in runs)


ATTACKS = {
    "calls-everybody": ("<!channel> hi", "broadcast"),
    "calls-here": ("<!here|here>", "broadcast"),
    "calls-a-person": ("<@U0SAM> hi", "user"),
    "calls-a-group": ("<!subteam^S0SEC|sec>", "group"),
    "lies-about-an-address": ("<https://evil.example|bank.com>", "link"),
    "inside-code": ("`<!channel>`", "broadcast"),
    "out-of-a-fence": ("```a``` <!channel> ```b```", "broadcast"),
    "makes-bold": ("*Approved by the incident commander*", "bold"),
}


@pytest.mark.parametrize(("attack", "kind"), ATTACKS.values(), ids=ATTACKS)
def test_raw_text_of_others_does_what_it_says(attack, kind):
    """Unescaped text is obeyed, as in Slack: whoever forgets to escape sees it here."""
    assert kind in kinds(mrkdwn.parse(attack))


@pytest.mark.parametrize(
    "attack", [attack for attack, kind in ATTACKS.values() if kind != "bold"], ids=str
)
def test_escaped_text_is_only_text(attack):
    """Once ``&``, ``<`` and ``>`` are escaped, the same text is shown and nothing is obeyed."""
    runs = mrkdwn.parse(mrkdwn.escape(attack))

    assert kinds(runs) <= {"text", "code", "pre", "link"}
    assert shown(runs).replace("`", "") == attack.replace("`", "")


@given(st.text())
def test_escaped_text_never_calls_anybody(text):
    """Whatever the text, its escaped form holds no command."""
    assert not kinds(mrkdwn.parse(mrkdwn.escape(text))) & {"broadcast", "user", "group", "date"}


@given(st.text(alphabet="<>&|!@#^`*_~: \nabcU0", max_size=60))
def test_nothing_breaks_the_parser(text):
    """Any text can be shown."""
    mrkdwn.parse(text)


def test_a_link_shows_where_it_leads():
    """The host of the address is there beside the text, which may lie."""
    (run,) = mrkdwn.parse("<https://evil.example/x|https://bank.com>")

    assert (run["text"], run["host"]) == ("https://bank.com", "evil.example")


def test_verbatim_stops_automatic_links_only():
    """``verbatim`` leaves bare addresses alone, but not what is written in angle brackets."""
    assert kinds(mrkdwn.parse("see https://a.example")) == {"text", "link"}
    assert kinds(mrkdwn.parse("see https://a.example", verbatim=True)) == {"text"}
    assert kinds(mrkdwn.parse("<!channel>", verbatim=True)) == {"broadcast"}


@pytest.mark.parametrize(
    ("text", "kind", "inner"),
    [
        ("*a b*", "bold", "a b"),
        ("_a_", "italic", "a"),
        ("~a~", "strike", "a"),
        ("`a *b*`", "code", "a *b*"),
        ("```\na\n  *b*\n```", "pre", "a\n  *b*"),
        ("&gt; a\n&gt; b", "quote", "a\nb"),
    ],
)
def test_formatting(text, kind, inner):
    """The marks of mrkdwn, and none inside code."""
    (run,) = mrkdwn.parse(text)

    assert run["kind"] == kind
    assert shown(run["runs"]) == inner


@pytest.mark.parametrize("text", ["2 * 3 * 4", "a_b_c", "snake_case_name", "10:30:00", "a < b"])
def test_marks_inside_words_are_no_marks(text):
    """Ordinary text with stars, underscores and colons stays as it is."""
    assert mrkdwn.parse(text) == [{"kind": "text", "text": text}]


def test_plain_text_obeys_nothing():
    """A plain_text object shows what it holds; only emoji have names."""
    blocks = rendering.with_runs(
        [{"type": "header", "text": {"type": "plain_text", "text": "<!channel> *a* :fire:"}}]
    )

    assert kinds(blocks[0]["text"]["runs"]) == {"text", "emoji"}
    assert shown(blocks[0]["text"]["runs"]) == "<!channel> *a* 🔥"


@given(st.text())
def test_escaping_and_unescaping_are_inverse(text):
    """What was escaped comes back, character by character."""
    assert mrkdwn.unescape(mrkdwn.escape(text)) == text
