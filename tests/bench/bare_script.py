"""The yardstick: what the quickest possible script would do with the same alert.

It receives the same POST, checks nothing, plans nothing, remembers nothing, and writes the same
Envoy configuration as Firedoor does. ``POST /open`` writes the one without the containment.

Arguments: port, the file that Envoy watches, the closed and the open configuration.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PORT, TARGET, CLOSED, OPEN = int(sys.argv[1]), *map(Path, sys.argv[2:5])
CONTENTS = {"/open": OPEN.read_bytes(), "/alert": CLOSED.read_bytes()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        json.loads(body or b"{}")
        draft = TARGET.parent.parent / "bare-script.part"
        draft.write_bytes(CONTENTS[self.path])
        os.replace(draft, TARGET)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
