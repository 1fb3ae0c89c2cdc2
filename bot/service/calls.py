"""Threads for calls of actions: as many as there are calls, since any of them may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

IDLE_S = 30.0
"""How long a thread without work stays for the next call."""


class CallThreads:
    """Begins every call at once. The threads do not keep the process alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = 0
        self._busy = 0
        self._is_idle = threading.Condition(self._lock)
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def begin(self, call: Callable[[], None]) -> None:
        """Run ``call``, which must not raise, in a thread of its own."""
        with self._lock:
            self._busy += 1
            if self._idle:
                self._idle -= 1
                self._queue.put(call)
                return
        threading.Thread(target=self._work, args=(call,), name="action", daemon=True).start()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no call is under way; False if one still is."""
        with self._is_idle:
            return self._is_idle.wait_for(lambda: self._busy == 0, timeout_s)

    def _work(self, call: Callable[[], None]) -> None:
        while True:
            call()
            with self._lock:
                self._idle += 1
                self._busy -= 1
                self._is_idle.notify_all()
            try:
                call = self._queue.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if self._queue.empty():
                        self._idle -= 1
                        return
                call = self._queue.get()
