"""Small actions for tests of the language: one of each effect, doing nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bot.action import (
    Action,
    ChangeAction,
    Context,
    Effect,
    Facts,
    NotifyAction,
    Params,
    ReadAction,
)
from bot.model.outcome import Outcome, Proof
from bot.model.plan import Plan


class CloseParams(Params):
    endpoint: str
    rate: str | None = None
    hours: Annotated[int, Field(ge=1, le=24)] = 1
    tags: list[Literal["red", "blue"]] = []

    @field_validator("rate")
    @classmethod
    def _rate(cls, value: str | None) -> str | None:
        if value is not None and not value.endswith("/s"):
            raise ValueError("a rate ends in /s")
        return value


class CloseFacts(Facts):
    containment: str


class _Change(ChangeAction[Any]):
    def observe(self, params: Any, ctx: Context) -> Any:
        return None

    def plan(self, params: Any, observed: Any) -> Plan:
        return Plan(action=self.name, params={}, summary="", before=None, after=None)

    def apply(self, plan: Plan, ctx: Context) -> Outcome:
        return Outcome()

    def verify(self, plan: Plan, ctx: Context) -> Proof:
        return Proof()

    def undo(self, plan: Plan, ctx: Context) -> Outcome:
        return Outcome()


class Close(_Change):
    name = "gateway.close"
    params = CloseParams
    facts = CloseFacts
    contains = True


class RotateParams(Params):
    credential: str
    mode: Literal["routine", "compromise"] = "routine"
    old: str | None = None
    new: str | None = None

    @model_validator(mode="after")
    def _together(self) -> RotateParams:
        if (self.old is None) != (self.new is None):
            raise ValueError("old and new go together")
        return self


class Rotate(_Change):
    name = "credentials.rotate"
    params = RotateParams


class Wipe(_Change):
    name = "data.wipe"
    effect = Effect.IRREVERSIBLE
    params = Params


class Principals(BaseModel):
    model_config = ConfigDict(frozen=True)

    people: int
    services: list[str]


class ReadsParams(Params):
    endpoint: str
    since: datetime


class ReadsFacts(Facts):
    count: int
    principals: Principals
    by_day: dict[str, int] = {}
    first_at: datetime | None = None
    paths: list[str] = []
    anything: Any = None
    either: int | Principals = 0
    mode: Literal["a", "b"] = "a"


class Reads(ReadAction[Any]):
    name = "logs.reads"
    params = ReadsParams
    facts = ReadsFacts

    def run(self, params: Any, ctx: Context) -> Outcome:
        return Outcome()


class Letter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    subject: str
    copies: tuple[int, str] = (1, "x")


class TellParams(Params):
    data: list[str]
    letter: Letter | None = None
    either: int | list[int] = 0
    people: int | None = None
    extra: dict[str, list[int]] = {}


class Tell(NotifyAction[Any]):
    name = "notify.people"
    params = TellParams

    def compose(self, params: Any, ctx: Context) -> Outcome:
        return Outcome()


ACTIONS: dict[str, Action[Any]] = {
    action.name: action for action in (Close(), Rotate(), Wipe(), Reads(), Tell())
}
