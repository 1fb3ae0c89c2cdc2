"""Texts of others that mean to be more than text."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from actions.gateway.templates import PARAMETER

HOSTILE = (
    "closed\n}\nroutes: []\r\nreturn 200 ok; # \u2028\u0085\x00*/ --> \"' \\ \u202e"
    '${HOME} $host %{if true} ${{ env "DECK_SECRET" }} {{ x }} <<EOF'
)

TEMPLATES = (
    "/api/a\"b'c/{id}",
    "/api/back\\slash\\/{id}",
    "/api/line\nreturn 200;/{id}",
    "/api/} location / { return 200; }/{id}",
    "/api/$host ${HOME} %[src]/{id}",
    '/api/%{if true}${x}${{ env "DECK_SECRET" }}/{id}',
    "/api/# comment/{id}",
    "/api/(?i).*|.*/{id}",
    "/api/\u00fc\u2028\U0001f6aa/{id}",
    "/api/a+b c;d,e/{id}.json",
    "/api/%0a%22%5c/{id}",
)


def sent(template: str) -> str:
    """Return a path of a template as a polite client sends it."""
    filled = PARAMETER.sub("1", template)
    return "/".join(quote(unquote_to_bytes(part), safe="") for part in filled.split("/"))
