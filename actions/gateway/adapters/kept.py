"""What another hand had made of a gateway's own part, kept as files when it is replaced."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MAX_FILES = 100
"""A hand that edits in a loop must not fill the disk."""


def keep(folder: Path, gateway: str, content: Any) -> str:
    """Keep what was there as JSON, once per content; return words for where it can be read.

    A disk that takes nothing must not keep a containment from being made, so then it says that.
    """
    text = json.dumps(content, indent=1, sort_keys=True, default=str) + "\n"
    name = f"{gateway}.other-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / name).exists() and len(list(folder.iterdir())) >= MAX_FILES:
            return f"what it held could not be kept: {folder} has {MAX_FILES} files already"
        (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        return f"what it held could not be kept in {folder} ({error.strerror})"
    return f"what it held is in {folder / name}"
