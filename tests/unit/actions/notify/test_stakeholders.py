"""Who is told what, and what never reaches a reader."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actions.notify import Stakeholder, Stakeholders, Tell, rendering
from actions.notify.cleaning import clean_line, clean_text
from bot.errors import BadInput
from bot.model.containment import Containment, Control, ControlKind

ENDPOINT = "GET /api/orders/{order_id}"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

SECURITY = Stakeholder("security", ["any"], ["#security"], ["security@acme.example"])
LEGAL = Stakeholder("legal", ["personal", "payment"], ["#legal"], ["legal@acme.example"])
COMPLIANCE = Stakeholder("compliance", ["payment"], [], ["compliance@acme.example"])


@dataclass
class Context:
    """The parts of an action's context that a notice uses."""

    stakeholders: Stakeholders = field(
        default_factory=lambda: Stakeholders([SECURITY, LEGAL, COMPLIANCE])
    )
    held: tuple[Containment, ...] = ()
    gateways: tuple[str, ...] = ("edge",)
    incident_id: str = "INC-7"
    incident_title: str = "Broken object level authorization"

    @property
    def containments(self) -> Context:
        return self

    def default_gateway(self, endpoint: str) -> str:
        if not self.gateways:
            raise BadInput("none")
        return self.gateways[0]

    def in_force(self, gateway: str, endpoint: str | None = None) -> tuple[Containment, ...]:
        assert (gateway, endpoint) == ("edge", ENDPOINT)
        return self.held

    def connection(self, type_: type, name: str | None = None) -> Stakeholders:
        assert (type_, name) == (Stakeholders, None)
        return self.stakeholders


def tell(context: Context | None = None, **params: Any) -> Any:
    action = Tell()
    values = {"data": ["personal"], "people": 12, "records": 40} | params
    outcome = action.compose(action.read_params(values), context or Context())  # type: ignore[arg-type]
    assert outcome.facts.keys() == action.facts.model_fields.keys()
    assert outcome.facts["notices"] == len(outcome.notices)
    return outcome


def text_for(outcome: Any, audience: str) -> str:
    return next(notice.text for notice in outcome.notices if notice.audience == audience)


class TestWhoIsTold:
    @pytest.mark.parametrize(
        ("data", "audiences"),
        [
            ("personal", ["security", "legal"]),
            (["payment"], ["security", "legal", "compliance"]),
            (["Payment "], ["security", "legal", "compliance"]),
            (["internal"], ["security"]),
            ([], ["security"]),
            (None, ["security"]),
        ],
    )
    def test_by_the_classification_of_the_data(self, data, audiences):
        """An audience is told if it names one of the classifications, or `any`."""
        assert tell(data=data).facts["audiences"] == audiences

    def test_one_notice_for_each_way_and_address(self):
        """Each is sent once: its key names audience, way and address."""
        notices = tell(data="payment").notices

        assert [notice.key for notice in notices] == [
            "security:slack:#security",
            "security:email:security@acme.example",
            "legal:slack:#legal",
            "legal:email:legal@acme.example",
            "compliance:email:compliance@acme.example",
        ]

    def test_an_address_given_twice_is_told_once(self):
        """A slip in the settings must not send twice."""
        group = replace(SECURITY, channels=["#a", "#a"], emails=["x@y", "x@y"])

        assert len(tell(Context(Stakeholders([group]))).notices) == 2

    def test_an_unknown_classification_is_reported(self):
        """Only who is always told was told; the notice says that someone must decide."""
        outcome = tell(data=["personal", "health"])

        assert outcome.facts["unknown_classifications"] == ["health"]
        assert "configured to be told about: health" in text_for(outcome, "security")

    def test_any_names_no_classification(self):
        """`any` is not a classification that a person thought of."""
        assert tell(data="any").facts["unknown_classifications"] == ["any"]

    @pytest.mark.parametrize("groups", [[], [LEGAL], [replace(SECURITY, channels=[], emails=[])]])
    def test_telling_nobody_is_refused(self, groups):
        """A step that tells nobody must not look done."""
        with pytest.raises(BadInput, match="nobody was told"):
            tell(Context(Stakeholders(groups)), data="internal")


class TestWhatIsSaid:
    def test_the_whole_notice(self):
        """What happened, what is known, what was done, what is asked; to this audience."""
        containment = Containment(
            id="c1",
            incident_id="INC-7",
            run_id="INC-7-R1",
            step_id="close",
            gateway="edge",
            control=Control(kind=ControlKind.CLOSE, method="GET", path="/api/orders/{order_id}"),
            owner="slack:U1",
            reason="x",
            since=NOON,
            expires_at=NOON + timedelta(hours=4),
        )

        outcome = tell(
            Context(held=(containment,)),
            data=["personal", "payment"],
            endpoint=ENDPOINT,
            window="2026-11-23 11:00:00 to 2026-11-23 12:00:00 UTC",
            evidence="cross-owner-reads.csv",
            done=["The key of orders-service was rotated."],
            message="First finding.\n\nMore follows.",
        )

        assert outcome.notices[0].subject == "[INC-7] Broken object level authorization"
        assert text_for(outcome, "legal") == (
            "Incident INC-7: Broken object level authorization\n"
            "\n"
            "What is known\n"
            "- Data: personal, payment\n"
            "- People affected: 12\n"
            "- Records read: 40\n"
            "- Endpoint: GET /api/orders/{order_id}\n"
            "- Time: 2026-11-23 11:00:00 to 2026-11-23 12:00:00 UTC\n"
            "- Details: evidence cross-owner-reads.csv of this incident\n"
            "\n"
            "What was done\n"
            "- GET /api/orders/{order_id} is closed to everyone at gateway edge since "
            "2026-11-23 12:00 UTC, until 2026-11-23 16:00 UTC at the latest if nobody extends it.\n"
            "- The key of orders-service was rotated.\n"
            "\n"
            "First finding.\n"
            "\n"
            "More follows.\n"
            "\n"
            "What we ask of you\n"
            "- Decide whether authorities, or the people affected, must be told, and by when. "
            "Firedoor decides nothing of this.\n"
            "- If this is a personal data breach under the GDPR, the 72 hours of Article 33 run "
            "from when the company became aware of it; whether and when it did is yours to say.\n"
            "- Say in the incident's channel if anything must be kept, or must not be written "
            "down.\n"
            "- Do not pass this on beyond those who need it.\n"
            "\n"
            "This notice was sent by Firedoor to legal. The numbers are those of the moment it was "
            "sent.\n"
        )

    def test_what_is_not_known_is_said_to_be_unknown(self):
        """No number is not zero."""
        text = text_for(tell(people=None, records=None, data=[]), "security")

        assert "People affected: not known yet" in text
        assert "Data: not classified" in text
        assert "People affected: 0" in text_for(tell(people=0), "security")

    @pytest.mark.parametrize(
        ("control", "says"),
        [
            ({"kind": "throttle", "rate_per_s": 0.5}, "lets 0.5 requests a second through"),
            ({"kind": "block_principal", "principal": "mallory"}, "is closed to one caller"),
        ],
    )
    def test_other_containments_are_told_without_names(self, control, says):
        """Who was blocked is for the incident's channel, not for every mailbox."""
        containment = Containment(
            id="c1",
            incident_id="INC-7",
            run_id="INC-7-R1",
            step_id="s",
            gateway="edge",
            control=Control(method="GET", path="/api/orders/{order_id}", **control),
            owner="slack:U1",
            reason="x",
            since=NOON,
            expires_at=NOON,
        )

        text = text_for(tell(Context(held=(containment,)), endpoint=ENDPOINT), "security")

        assert says in text
        assert "mallory" not in text

    def test_no_gateway_does_not_stop_a_notice(self):
        """Nothing is in force then, and people must be told all the same."""
        assert tell(Context(gateways=()), endpoint=ENDPOINT).notices

    def test_each_audience_is_asked_something_else(self):
        """Legal decides on duties; security looks for more."""
        outcome = tell(data="payment")

        assert len({text_for(outcome, name) for name in outcome.facts["audiences"]}) == 3

    def test_an_audience_without_a_template_gets_the_default(self):
        """A new audience needs no new template."""
        group = Stakeholder("Customer care / DE", ["any"], ["#care"])

        text = text_for(tell(Context(Stakeholders([group]))), "Customer care / DE")

        assert "to Customer care / DE." in text

    def test_one_template_for_all(self):
        """A runbook may choose its own."""
        outcome = tell(template="legal")

        assert "Article 33" in text_for(outcome, "security")

    @pytest.mark.parametrize("template", ["none", "../../pyproject", "", "LEGAL", "a/b"])
    def test_a_template_that_is_not_ours_is_refused(self, template):
        """The name of a template never leads out of its folder."""
        if template == "":
            assert tell(template=template).notices  # nothing chosen
            return
        with pytest.raises(BadInput, match="compliance, default, legal, security"):
            tell(template=template)

    def test_a_broken_template_is_named_with_its_line(self, tmp_path, monkeypatch):
        """Whoever edits a template is told where it breaks, before an incident if they ask."""
        (tmp_path / "default.txt.j2").write_text("fine\n{{ peple }}\n")
        monkeypatch.setattr(rendering, "TEMPLATES", tmp_path)
        rendering._environment.cache_clear()

        try:
            with pytest.raises(BadInput, match=r"default\.txt\.j2 does not render"):
                Stakeholders([SECURITY]).check()
        finally:
            rendering._environment.cache_clear()

    def test_check_counts_the_ways(self):
        """`firedoor doctor` shows whether anybody would be told."""
        assert Context().stakeholders.check() == "3 audiences, 2 channels, 3 addresses"


class TestUntrustedText:
    def test_text_is_never_a_template(self):
        """An alert may say anything; it is shown, not run."""
        nasty = "{{ 7 * 7 }}{% for x in y %}{# #}"

        outcome = tell(Context(incident_title=nasty), message=nasty, done=[nasty])

        text = text_for(outcome, "security")
        assert text.count(nasty) == 3
        assert "49" not in text

    def test_what_a_reader_cannot_see_is_taken_out(self):
        """Overrides of direction, zero-width letters and controls make a text lie."""
        title = "pay\u202egpj.exe\u200b\x1b[31m\r\nBcc: all@acme.example\u2028x"

        outcome = tell(Context(incident_title=title))

        subject = outcome.notices[0].subject
        assert subject == "[INC-7] paygpj.exe[31m Bcc: all@acme.example x"
        assert subject in f"[INC-7] {text_for(outcome, 'security').splitlines()[0][16:]}"

    def test_a_long_text_is_cut_visibly(self):
        """A notice stays a notice."""
        text = text_for(tell(message="word " * 1000), "security")

        assert " […]\n" in text
        assert len(text) < 4000

    @given(st.text())
    def test_a_cleaned_line_is_one_visible_line(self, text):
        """For every text there is."""
        line = clean_line(text)

        assert line.isprintable()
        assert len(line) <= 200
        assert clean_line(line) == line

    @given(st.text())
    def test_a_cleaned_text_has_no_controls_but_line_breaks(self, text):
        """For every text there is."""
        cleaned = clean_text(text)

        assert cleaned.replace("\n", "").isprintable()
        assert "\n\n\n" not in cleaned

    @pytest.mark.parametrize("params", [{"people": -1}, {"records": "many"}, {"names": ["Alice"]}])
    def test_parameters_are_checked(self, params):
        """There is no place for names, and counts are counts."""
        with pytest.raises(ValidationError):
            tell(**params)
