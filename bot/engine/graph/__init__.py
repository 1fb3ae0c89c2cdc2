"""Draws a runbook, and the way that a run took through it.

``mermaid`` is for pages and reviews; ``svg`` is a picture on its own. Both are pure, and equal
runbooks and states give equal drawings. Whatever a file, an alert or a person wrote is text in
them and nothing else.
"""

from bot.engine.graph.mermaid import mermaid
from bot.engine.graph.svg import svg

__all__ = ["mermaid", "svg"]
