"""``firedoor plan``: the whole run before it begins, and what would be refused."""

from __future__ import annotations

from typing import Any

import pytest

from bot.errors import ProviderUnreachable
from bot.service.preview import MAX_ITERATIONS, Foreseen
from tests.scenario.company import IRIS, SAM, Company, text_of

INNER = text_of(
    """
- id: put
  uses: acme.set
  with: {key: "{{ inputs.key }}", value: "3"}
""",
    id_="inner",
    more="inputs:\n  key: {type: string}\n",
)
LOOK = "\n- id: look\n  uses: acme.look\n  with: {key: door}\n"


def change(id_: str, key: str = "x", more: str = "") -> str:
    return f'\n- id: {id_}\n  uses: acme.set\n  with: {{key: "{key}", value: "1"}}\n{more}'


def loop(items: str, inner: str = "") -> str:
    body = inner or change("put", "{{ it }}")
    indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return f"\n- id: each\n  foreach: {items}\n  as: it\n  steps:\n{indented}\n"


def foreseen(company: Company, person: Any = IRIS, **inputs: Any) -> dict[str, Foreseen]:
    service = company.world.service
    found = service.foresee(service.incidents.runbook("book"), inputs, person)
    assert company.outside.effects == []
    assert len({each.step for each in found}) == len(found)
    return {each.step: each for each in found}


class TestGroups:
    def test_a_known_list_is_planned_item_by_item(self, company_of):
        """
        Each iteration has the difference that it would make.
        """
        found = foreseen(company_of(text_of(loop('["a", "b"]'))))

        assert list(found) == ["each", "each.0.put", "each.1.put"]
        assert found["each"].does == "for each it: 2 items"
        assert [f.plan.params["key"] for f in found.values() if f.plan] == ["a", "b"]

    def test_a_long_list_is_counted(self, company_of):
        """
        Nobody reads two hundred plans; the real system is not asked for them either.
        """
        items = ", ".join(f'"k{n}"' for n in range(MAX_ITERATIONS + 5))
        company = company_of(text_of(loop(f"[{items}]")))
        found = foreseen(company)

        assert len(found) == 1 + MAX_ITERATIONS
        assert found["each"].does == "for each it: 25 items"
        assert company.outside.calls.count("set.observe") == MAX_ITERATIONS

    def test_an_unknown_list_shows_its_steps_once(self, company_of):
        """
        With a star for the number, and what it depends on.
        """
        found = foreseen(company_of(text_of(LOOK + loop('"{{ steps.look.value }}"'))))

        assert found["each"].later == "depends on what look leaves"
        assert found["each.*.put"].later == "depends on what each leaves"

    def test_a_called_runbook_is_foreseen_with_its_inputs(self, company_of):
        """
        Its steps are keyed by the step that calls it.
        """
        steps = "\n- id: sub\n  runbook: inner\n  with: {key: cellar}\n"
        found = foreseen(company_of(text_of(steps), INNER))

        assert found["sub"].does == "the runbook inner"
        assert found["sub.put"].plan.params["key"] == "cellar"

    def test_what_a_called_runbook_is_given_later_is_known_later(self, company_of):
        """
        That is no mistake of the runbook: nothing is refused.
        """
        steps = LOOK + '\n- id: sub\n  runbook: inner\n  with: {key: "{{ steps.look.value }}"}\n'
        found = foreseen(company_of(text_of(steps), INNER))

        assert found["sub"].later == "depends on what look leaves"
        assert found["sub.put"].later == "depends on what sub leaves"
        assert not any(each.refused for each in found.values())

    def test_branches_are_foreseen_side_by_side(self, company_of):
        """
        Also what a person is asked in one of them.
        """
        steps = (
            "\n- parallel:\n"
            '  - id: a\n    uses: acme.set\n    with: {key: a, value: "1"}\n'
            '  - id: b\n    manual: {ask: "What?", assignee: oncall}\n'
        )
        found = foreseen(company_of(text_of(steps)))

        assert [each.does for each in found.values()] == [
            "2 branches side by side",
            "acme.set",
            "asks of oncall: What?",
        ]

    def test_always_is_foreseen_too(self, company_of):
        """
        It runs whatever becomes of the rest.
        """
        always = "always:\n  - id: told\n    uses: acme.tell\n    with: {text: over}\n"
        found = foreseen(company_of(text_of(LOOK) + always))

        assert list(found) == ["look", "told"]


class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "when"),
        [
            ("{{ inputs.mode == 'on' }}", "yes"),
            ("{{ inputs.mode == 'off' }}", "no"),
            ("{{ steps.look.affected > 0 }}", "depends on what look leaves"),
        ],
    )
    def test_each_step_says_whether_it_would_run(self, company_of, condition, when):
        """
        As far as that is known before.
        """
        steps = LOOK + change("put", more=f'  if: "{condition}"\n')
        more = "inputs:\n  mode: {type: string}\n"
        found = foreseen(company_of(text_of(steps, more=more)), mode="on")

        assert found["put"].when == when
        assert (found["put"].plan is None) is (when == "no")

    def test_what_would_not_run_shows_nothing_of_what_it_holds(self, company_of):
        """
        A group that is passed over is one line.
        """
        steps = loop('["a"]').replace("  as: it", '  as: it\n  if: "{{ 1 == 2 }}"')

        assert list(foreseen(company_of(text_of(steps)))) == ["each"]


class TestRefusals:
    def test_an_approval_that_nobody_could_give(self, company_of):
        """
        The starter does not count: four eyes.
        """
        steps = change("put", more="  approval: {from: [commanders], break_glass: security}\n")
        company = company_of(text_of(steps))

        assert "there are only 0" in foreseen(company, IRIS)["put"].refused
        assert foreseen(company, SAM)["put"].refused == ""
        assert foreseen(company, SAM)["put"].approval == (
            "1 of commanders; security may break the glass"
        )

    def test_a_list_that_is_none(self, company_of):
        """
        It is refused now as it would be in the run.
        """
        found = foreseen(company_of(text_of(LOOK + loop("\"{{ 'text' }}\""))))

        assert found["each"].refused == "'foreach' needs a list, and this is str."

    def test_an_expression_that_cannot_be_evaluated(self, company_of):
        """
        What fails with all that it reads known will fail in the run.
        """
        found = foreseen(company_of(text_of(change("put", "{{ alert.labels.x }}"))))

        assert "alert is null" in found["put"].refused

    def test_inputs_that_a_called_runbook_does_not_take(self, company_of):
        """
        The call is checked as its start would be.
        """
        inner = INNER.replace("{type: string}", "{type: integer}")
        steps = LOOK + '\n- id: sub\n  runbook: inner\n  with: {key: "{{ inputs.key }}"}\n'
        more = "inputs:\n  key: {type: string}\n"
        found = foreseen(company_of(text_of(steps, more=more), inner), key="many")

        assert "key" in found["sub"].refused

    def test_a_system_that_is_down_is_neither_yes_nor_no(self, company_of):
        """
        The rest of the plan is shown.
        """
        company = company_of(text_of(change("a") + change("b")))
        company.outside.fail["set.observe"] = [ProviderUnreachable("No answer.")]
        found = foreseen(company)

        assert (found["a"].unreachable, found["a"].refused) == ("No answer.", "")
        assert found["b"].plan is not None
