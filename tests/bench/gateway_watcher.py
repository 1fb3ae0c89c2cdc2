"""Asks for one path without a pause, on fresh and on kept connections, until its input ends.

Arguments: URL, path, bearer token. Prints a line once it has begun, and at its end when the first
blocked answer came and when the last one that was let through was asked for (monotonic clock, ns).
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from urllib.parse import urlsplit

URL, PATH, TOKEN = sys.argv[1:4]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
ended = threading.Event()
blocked: list[int] = []
allowed: list[int] = [0]


def ask(keeps: bool) -> None:
    address = urlsplit(URL)
    line = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
    while not ended.is_set():
        asked_ns = time.monotonic_ns()
        try:
            line.request("GET", PATH, headers=HEADERS)
            answer = line.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            line.close()
            continue
        if answer.status == 200:
            allowed.append(asked_ns)
        elif answer.status == 503:
            blocked.append(time.monotonic_ns())
        if not keeps:
            line.close()


threads = [threading.Thread(target=ask, args=(keeps,)) for keeps in (False, True)]
for thread in threads:
    thread.start()
print("begun", flush=True)
sys.stdin.readline()
ended.set()
for thread in threads:
    thread.join()
print(json.dumps({"first_blocked_ns": min(blocked), "last_allowed_ns": max(allowed)}))
