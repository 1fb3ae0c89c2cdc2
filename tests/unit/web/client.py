"""Calls the application in this process, without a socket. (Starlette's own test client wants
another HTTP library.)"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI


class Client:
    """``raises``: whether an error that nobody foresaw comes out here as well, as a server would
    get it after the answer."""

    def __init__(self, app: FastAPI, *, raises: bool = True) -> None:
        self._app, self._raises = app, raises

    def post(self, url: str, **request: Any) -> httpx.Response:
        return self.request("POST", url, **request)

    def get(self, url: str, **request: Any) -> httpx.Response:
        return self.request("GET", url, **request)

    def request(self, method: str, url: str, **request: Any) -> httpx.Response:
        return asyncio.run(self._call(method, url, request))

    async def _call(self, method: str, url: str, request: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=self._raises)
        async with httpx.AsyncClient(transport=transport, base_url="http://firedoor") as client:
            return await client.request(method, url, **request)
