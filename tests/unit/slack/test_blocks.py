"""Messages and forms as Block Kit: always valid, and text is never more than text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.language.runbook import Input, InputType, Runbook, Step
from bot.model.ask import Ask
from bot.model.incident import Severity
from bot.model.message import Button, Message
from bot.sandbox.slack_standin import mrkdwn
from bot.sandbox.slack_standin.blockkit import message_findings, view_findings, walk
from bot.slack import blocks

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
VERBS = ("approve", "reject", "override", "answer", "retry", "skip", "stop", "done", "review")
SHOWN = {"text", "bold", "italic", "strike", "code", "pre", "quote", "emoji"}
"""What a run of mrkdwn may be without doing anything: no link, no mention, no date."""

NASTY = [
    pytest.param("<!channel>", id="calls-everybody"),
    pytest.param("<!here|here>", id="calls-who-is-here"),
    pytest.param("<@U1>", id="calls-a-person"),
    pytest.param("<!subteam^S1>", id="calls-a-group"),
    pytest.param("<#C1>", id="links-a-channel"),
    pytest.param("<https://evil.example|https://acme.example>", id="lies-about-an-address"),
    pytest.param("<mailto:a@b.example|x>", id="mail-link"),
    pytest.param("<!date^1^{date}^https://evil.example|x>", id="date-with-a-link"),
    pytest.param("&lt;!channel&gt;", id="escaped-before"),
    pytest.param("```\n<!channel>\n```", id="breaks-out-of-a-fence"),
    pytest.param("`<!channel>`", id="in-code"),
]


def message(**fields: Any) -> Message:
    return Message.model_validate({"title": "INC-1: approve close?"} | fields)


def everywhere(text: str) -> Message:
    """Return a message with a text in every place that takes text from outside."""
    return message(
        title=text,
        paragraphs=(text, text),
        facts=((text, text),) * 12,
        code=text,
        buttons=tuple(Button(label=text, verb=verb, token="t" * 32) for verb in VERBS),
        context=text,
    )


def runs(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all runs of mrkdwn that a person would see in some blocks."""
    for node in walk(value):
        if node.get("type") == "mrkdwn":
            yield from walk(mrkdwn.parse(node["text"], verbatim=node.get("verbatim", False)))


def shown(value: Any) -> str:
    """Return all text that a person would see in some blocks."""
    parts = [n["text"] for n in walk(value) if n.get("type") == "plain_text"]
    parts += [run["text"] for run in runs(value) if run.get("kind") == "text"]
    return "\n".join(parts)


def kinds(value: Any) -> set[str]:
    return {run["kind"] for run in runs(value) if "kind" in run}


TEXTS = st.builds(
    lambda text, times: text * times,
    st.text(max_size=40)
    | st.sampled_from([param.values[0] for param in NASTY])
    | st.text(alphabet="`<>&!@#|*_~^\n\u202e\u200b\u0000x", max_size=40),
    st.sampled_from([1, 1, 1, 3, 200, 2000]),
)


class TestMessages:
    @settings(max_examples=120, deadline=None)
    @given(TEXTS)
    def test_any_text_anywhere_is_valid_and_only_text(self, text):
        """
        Whatever an alert or a person writes: Slack takes the message, nobody is called, and
        nothing is a link.
        """
        built = blocks.message_blocks(everywhere(text))

        assert message_findings(built) == []
        assert kinds(built) <= SHOWN

    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    def test_so_is_the_text_beside_the_blocks(self, text):
        """
        Notifications and screen readers get text only, and not too much of it.
        """
        fallback = blocks.fallback_text(everywhere(text))

        assert {run["kind"] for run in mrkdwn.parse(fallback, verbatim=True)} <= SHOWN
        assert 0 < len(fallback) <= blocks.TEXT_MAX

    def test_the_smallest_message_is_valid(self):
        """
        A title is enough.
        """
        built = blocks.message_blocks(message())

        assert message_findings(built) == []
        assert [block["type"] for block in built] == ["header"]

    def test_empty_texts_are_valid(self):
        """
        Slack refuses an empty text; ours is never one.
        """
        assert message_findings(blocks.message_blocks(everywhere(""))) == []

    def test_many_facts_are_spread_over_sections(self):
        """
        A section holds ten fields; the eleventh is not lost.
        """
        facts = tuple((f"label {n}", f"value {n}") for n in range(25))

        built = blocks.message_blocks(message(facts=facts))

        assert message_findings(built) == []
        assert all(f"value {n}" in shown(built) for n in range(25))

    @pytest.mark.parametrize("verb", VERBS)
    def test_a_button_carries_its_verb_and_token_and_nothing_else(self, verb):
        """
        What a click means is looked up on our side; the button only says which question.
        """
        button = Button(label="Go", verb=verb, token="opaque", style="primary")

        built = blocks.message_blocks(message(buttons=(button,)))

        assert built[-1]["elements"] == [
            {
                "type": "button",
                "action_id": f"firedoor.{verb}",
                "text": {"type": "plain_text", "text": "Go", "emoji": False},
                "value": "opaque",
                "style": "primary",
            }
        ]


class TestEscaping:
    @pytest.mark.parametrize("text", NASTY)
    def test_nothing_in_a_text_does_anything(self, text):
        """
        Mentions, links and dates of others are shown as they were written.
        """
        built = blocks.message_blocks(everywhere(text))

        assert kinds(built) <= SHOWN
        assert text.replace("```", "'''") in shown(built).replace("```", "'''")

    @pytest.mark.parametrize("text", NASTY)
    def test_code_stays_in_its_fence(self, text):
        """
        A plan that holds backticks is still one block of fixed width, whole.
        """
        built = blocks.message_blocks(message(code=f"before\n{text}\nafter"))

        parsed = mrkdwn.parse(built[-1]["text"]["text"], verbatim=True)

        assert [run["kind"] for run in parsed] == ["pre"]
        assert "after" in json.dumps(parsed)

    @pytest.mark.parametrize("code", ["`", "``", "a`", "`a", "````", "`````", "``\n``"])
    def test_few_backticks_do_not_meet_ours(self, code):
        """
        Backticks at the edge do not lengthen or shorten the fence.
        """
        built = blocks.message_blocks(message(code=code))

        parsed = mrkdwn.parse(built[-1]["text"]["text"], verbatim=True)

        assert [run["kind"] for run in parsed] == ["pre"]

    @pytest.mark.parametrize(
        ("character", "name"),
        [
            ("\u202e", "right-to-left-override"),
            ("\u2066", "left-to-right-isolate"),
            ("\u200b", "zero-width-space"),
            ("\u200d", "zero-width-joiner"),
            ("\ufeff", "byte-order-mark"),
            ("\x1b", "escape"),
            ("\x00", "null"),
            ("\U000e0041", "tag"),
        ],
    )
    def test_what_hides_or_reorders_is_dropped(self, character, name):
        """
        What is approved is what was read: no character changes the order or hides a part.
        """
        built = blocks.message_blocks(everywhere(f"pay{character}load"))
        beside = blocks.fallback_text(everywhere(f"pay{character}load"))

        assert character not in json.dumps(built, ensure_ascii=False) + beside
        assert "payload" in shown(built)

    def test_lines_and_other_scripts_stay(self):
        """
        Only what deceives is dropped.
        """
        text = "Zoë\t(東京)\nשלום 👍"  # noqa: RUF001  # other scripts are the point

        assert blocks.clean(text) == text


class TestLongTexts:
    @pytest.mark.parametrize(
        ("field", "limit"),
        [
            pytest.param({"title": "x" * 9_000}, 150, id="title"),
            pytest.param({"paragraphs": ("x" * 9_000,)}, 3_000, id="paragraph"),
            pytest.param({"code": "x" * 9_000}, 3_000, id="code"),
            pytest.param({"context": "x" * 9_000}, 3_000, id="context"),
            pytest.param({"facts": (("l", "x" * 9_000),)}, 2_000, id="fact"),
        ],
    )
    def test_they_are_cut_with_a_mark(self, field, limit):
        """
        Cut where Slack would refuse, and seen to be cut.
        """
        built = blocks.message_blocks(message(**field))

        longest = max((n["text"] for n in walk(built) if isinstance(n.get("text"), str)), key=len)
        assert len(longest) <= limit
        assert "…" in longest

    @pytest.mark.parametrize("text", ["&" * 9_000, "<" * 9_000, "`" * 9_000])
    def test_escaping_does_not_make_them_too_long(self, text):
        """
        The limit is on what is sent, after escaping.
        """
        assert message_findings(blocks.message_blocks(everywhere(text))) == []


# --- forms ---------------------------------------------------------------------------------------


def declared(name: str, type_: InputType = InputType.STRING, **fields: Any) -> Input:
    return Input(name=name, type=type_, **fields)


def runbook(id_: str = "api1-bola", text: str = "A summary.", *inputs: Input) -> Runbook:
    return Runbook(
        id=id_,
        name=text,
        summary=text,
        severity=Severity.SEV1,
        owners=("oncall",),
        inputs={each.name: each for each in inputs},
        triggers=(),
        steps=(Step(id="a", line=1),),
        text="",
        digest="0" * 64,
    )


def ask(**body: Any) -> Ask:
    return Ask(
        token="t" * 32,
        incident_id="INC-1",
        run_id="INC-1-R1",
        step_id="fixed",
        kind="answer",
        body=body,
        asked_at=NOON,
    )


ALL_TYPES = tuple(declared(f"in_{type_.value}", type_) for type_ in InputType)
ENDPOINTS = [f"GET /api/things/{n}" for n in range(5)]


def elements(form: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the elements that can be filled in, by input name."""
    return {b["block_id"]: b["element"] for b in form["blocks"] if b["type"] == "input"}


class TestForms:
    def forms(self, text: str) -> list[dict[str, Any]]:
        fields = {
            each.name: Input(
                name=each.name,
                type=each.type,
                description=text,
                examples=(text, text),
                enum=() if each.type is InputType.ENDPOINT else (text or "x", "other"),
            )
            for each in ALL_TYPES
        }
        return [
            blocks.pick_form([runbook(f"book-{n}", text) for n in range(3)], "C1"),
            blocks.run_form(runbook("book", text, *fields.values()), ENDPOINTS, "C1"),
            blocks.answer_form(ask(ask=text), fields),
            blocks.reject_form(ask(summary=text)),
            blocks.override_form(ask(summary=text)),
            blocks.review_form(ask(by=text, reason=text)),
        ]

    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    def test_any_text_makes_valid_forms(self, text):
        """
        Names, summaries, questions and examples may be long or odd; Slack takes the form.
        """
        for form in self.forms(text):
            assert view_findings(form) == []
            assert kinds(form) <= SHOWN

    def test_a_form_without_fields_is_valid(self):
        """
        A question that is only to be confirmed has a form too.
        """
        assert view_findings(blocks.answer_form(ask(ask="Done?"), {})) == []

    @pytest.mark.parametrize(
        ("one", "type_"),
        [
            pytest.param(declared("a", InputType.BOOLEAN), "static_select", id="yes-or-no"),
            pytest.param(declared("a", InputType.ENDPOINT), "static_select", id="endpoint"),
            pytest.param(declared("a", enum=("x", "y")), "static_select", id="listed"),
            pytest.param(declared("a"), "plain_text_input", id="text"),
            pytest.param(declared("a", InputType.DATETIME), "plain_text_input", id="moment"),
            pytest.param(
                declared("a", enum=tuple(f"x{n}" for n in range(101))),
                "plain_text_input",
                id="more-than-a-menu-holds",
            ),
            pytest.param(
                declared("a", enum=("x", "y" * 151)), "plain_text_input", id="longer-than-a-value"
            ),
        ],
    )
    def test_what_can_be_listed_is_a_menu(self, one, type_):
        """
        A menu where it can show all choices and give them back whole; else text.
        """
        form = blocks.run_form(runbook("book", "s", one), ENDPOINTS, "C1")

        assert view_findings(form) == []
        assert elements(form)["a"]["type"] == type_

    def test_without_an_inventory_an_endpoint_is_typed(self):
        """
        An empty menu is refused by Slack.
        """
        form = blocks.run_form(runbook("book", "s", declared("a", InputType.ENDPOINT)), [], "C1")

        assert elements(form)["a"]["type"] == "plain_text_input"

    def test_more_endpoints_than_a_menu_holds_are_typed(self):
        """
        The hundred and first endpoint can be named as well as the first.
        """
        many = [f"GET /{n}" for n in range(101)]

        form = blocks.run_form(runbook("book", "s", declared("a", InputType.ENDPOINT)), many, "C1")

        assert elements(form)["a"]["type"] == "plain_text_input"

    def test_an_input_with_a_default_may_be_left_empty(self):
        """
        And one without may not.
        """
        book = runbook("book", "s", declared("a"), declared("b", default="x", has_default=True))

        form = blocks.run_form(book, (), "C1")

        optional = {b["block_id"]: b["optional"] for b in form["blocks"] if b["type"] == "input"}
        assert optional == {"a": False, "b": True}

    def test_they_carry_what_comes_back_with_them(self):
        """
        The runbook and the channel, or the question's token: nothing that a person could read.
        """
        assert blocks.run_form(runbook(), (), "C1")["private_metadata"] == "api1-bola|C1"
        assert blocks.answer_form(ask(ask="?"), {})["private_metadata"] == "t" * 32
        assert blocks.reject_form(ask())["private_metadata"] == "t" * 32


class TestFormValues:
    def view(self, **elements: dict[str, Any]) -> dict[str, Any]:
        values = {name: {"value": element} for name, element in elements.items()}
        return {"state": {"values": values}}

    def test_each_kind_of_element_gives_its_value(self):
        """
        What was typed or chosen, by input name.
        """
        view = self.view(
            text={"type": "plain_text_input", "value": "1.2.3"},
            menu={"type": "static_select", "selected_option": {"value": "GET /x"}},
        )

        assert blocks.form_values(view) == {"text": "1.2.3", "menu": "GET /x"}

    def test_what_was_left_empty_is_not_there(self):
        """
        So that defaults apply.
        """
        view = self.view(
            none={"type": "plain_text_input", "value": None},
            empty={"type": "plain_text_input", "value": ""},
            unchosen={"type": "static_select", "selected_option": None},
        )

        assert blocks.form_values(view) == {}


class TestAsTyped:
    @pytest.mark.parametrize(
        ("handed_on", "typed"),
        [
            ("<@U1|sam>", "@sam"),
            ("<@U1>", "@U1"),
            ("<@U1|>", "@U1"),
            ("<#C1|general>, <#C2>", "#general, #C2"),
            ("<https://acme.example/?a=b|acme.example>", "https://acme.example/?a=b"),
            ("<http://acme.example>", "http://acme.example"),
            ("a <b> c", "a <b> c"),
            ("R&amp;D &lt;@U1&gt; &amp;lt;", "R&D <@U1> &lt;"),
            ("<!channel> <!subteam^S1|all>", "<!channel> <!subteam^S1|all>"),
            ("<javascript:alert(1)|x>", "<javascript:alert(1)|x>"),
            ("<@U1|<@U2|sam>>", "<@U1|@sam>"),
            ("", ""),
        ],
    )
    def test_references_become_what_they_stand_for(self, handed_on, typed):
        """
        And whatever is none stays as it is.
        """
        assert blocks.as_typed(handed_on) == typed
