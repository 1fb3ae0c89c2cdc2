"""Networks within networks. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


class Networks:
    """Some networks in CIDR notation, to ask which of them hold another."""

    def __init__(self, texts: Iterable[str]) -> None:
        parsed = [(text, ipaddress.ip_network(text)) for text in texts]
        self._found = {(n.version, n.prefixlen, int(n.network_address)): text for text, n in parsed}
        sizes = {(n.version, n.prefixlen) for _, n in parsed}
        self._sizes = sorted(sizes, reverse=True)

    def smallest_around(self, text: str) -> str | None:
        """Return the smallest of them that holds a network; None if none does."""
        inner = ipaddress.ip_network(text)
        for version, prefixlen in self._sizes:
            if version == inner.version and prefixlen <= inner.prefixlen:
                outer = inner.supernet(new_prefix=prefixlen)
                found = self._found.get((version, prefixlen, int(outer.network_address)))
                if found is not None:
                    return found
        return None

    def hold(self, text: str) -> bool:
        """Tell whether one of them holds a network."""
        return self.smallest_around(text) is not None
