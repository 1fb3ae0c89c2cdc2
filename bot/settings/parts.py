"""What every part of the settings is made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, model_validator


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def absolute(value: str, info: ValidationInfo) -> str:
    """Return a path, relative to the folder of the settings file."""
    base = (info.context or {}).get("base")
    return value if base is None else str(Path(base) / value)


def absolute_if_given(value: str | None, info: ValidationInfo) -> str | None:
    """The same, of a path that may be missing."""
    return None if value is None else absolute(value, info)


class SecretSource(Part):
    """Where a secret is. Read once, when the settings are read."""

    file: str | None = None
    env: str | None = None
    value: SecretStr = Field(default=SecretStr(""), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or len(data) != 1 or not {*data} <= {"file", "env"}:
            raise ValueError("a secret is {file: path} or {env: NAME}, never written here")
        if "file" in data:
            path = Path(absolute(str(data["file"]), info))
            try:
                text = path.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ValueError(f"{path} cannot be read ({error.strerror})") from None
            except UnicodeDecodeError:
                raise ValueError(f"{path} is not UTF-8 text") from None
        else:
            text = os.environ.get(str(data["env"]), "")  # noqa: TID251  # the one place
        if not text:
            raise ValueError(f"{next(iter(data.values()))} holds no secret (it is empty)")
        if any("\ud800" <= each <= "\udfff" for each in text):  # bytes that are no UTF-8
            raise ValueError(f"{next(iter(data.values()))} is not UTF-8 text")
        return {**data, "value": text}

    def reveal(self) -> str:
        return self.value.get_secret_value()


FilePath = Annotated[str, Field(min_length=1)]
