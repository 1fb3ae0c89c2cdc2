"""The orders service, with the hole that the demo closes: a broken object level authorization.

``python -m bot.sandbox.orders_api --port P --state DIR``. Any logged-in user can read any order
at ``GET /api/orders/{order_id}``, until a version with the ownership check is deployed. Every other
operation checks. The public operations are described in openapi.yaml; ``/internal`` is for the
service's own network and has no route at the gateway.

The state directory holds ``service.json``, ``accounts.json`` and ``jwt-key.pem`` (written by
`company.py`) and the database.
"""

# No postponed annotations here: FastAPI reads them, and could not see the names of a function's
# own scope in their text.

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from bot.sandbox.orders_data import OrdersData, read_accounts
from bot.sandbox.orders_key import KeyInUse, KeySource
from bot.sandbox.orders_tokens import Caller, Tokens, jwks_of, read_key

OWNER_HEADER = "x-resource-owner"
"""On every object that is read: whose it is. The gateway logs it, which makes reads countable."""


class LoginBody(BaseModel):
    """The body of a login."""

    username: str
    password: str


class DeployBody(BaseModel):
    """The body of a deployment."""

    version: str
    ownership_check: bool = True


def build_app(data: OrdersData, key: RSAPrivateKey, key_in_use: KeyInUse) -> FastAPI:
    """Return the service's application."""
    tokens = Tokens(key)

    async def caller_of(request: Request) -> Caller:
        caller = tokens.verify(request.headers.get("authorization"))
        if caller is None:
            raise HTTPException(
                401, "A valid token is needed. Log in.", {"WWW-Authenticate": "Bearer"}
            )
        return caller

    app = FastAPI(
        title="Orders", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    _add_public(app, data, tokens, caller_of)
    _add_internal(app, data, jwks_of(key), key_in_use)
    return app


# The handlers are coroutines although they wait for nothing: each takes a fraction of a
# millisecond, and handing it to a thread would cost more than the work.


def _add_public(
    app: FastAPI, data: OrdersData, tokens: Tokens, caller_of: Callable[..., Any]
) -> None:
    def order_or_404(order_id: int) -> dict[str, Any]:
        order = data.order(order_id)
        if order is None:
            raise HTTPException(404, f"There is no order {order_id}.")
        return order

    def check_owner(caller: Caller, owner: str) -> None:
        if not caller.may_read(owner):
            raise HTTPException(403, "This order belongs to another customer.")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/api/login")
    async def login(body: LoginBody) -> dict[str, str]:
        known = data.check_login(body.username, body.password)
        if known is None:
            raise HTTPException(401, "Unknown user name or wrong password.")
        return {"token": tokens.make(*known)}

    @app.get("/api/orders")
    async def list_orders(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        return {"orders": data.orders_of(caller.subject)}

    @app.get("/api/orders/{order_id}")
    async def read_order(
        order_id: int, caller: Annotated[Caller, Depends(caller_of)]
    ) -> JSONResponse:
        order = order_or_404(order_id)
        # The hole: only the fixed version asks whose order this is.
        _, ownership_check = data.deployed()
        if ownership_check:
            check_owner(caller, order["customer_id"])
        return JSONResponse(order, headers={OWNER_HEADER: order["customer_id"]})

    @app.get("/api/orders/{order_id}/invoice")
    async def read_invoice(
        order_id: int, caller: Annotated[Caller, Depends(caller_of)]
    ) -> JSONResponse:
        order = order_or_404(order_id)
        check_owner(caller, order["customer_id"])
        invoice = {
            "invoice_number": f"R-{order_id}",
            "order_id": order_id,
            "billed_to": order["customer_name"],
            "total_cents": order["total_cents"],
            "currency": order["currency"],
        }
        return JSONResponse(invoice, headers={OWNER_HEADER: order["customer_id"]})

    @app.get("/api/customers/me")
    async def read_me(
        caller: Annotated[Caller, Depends(caller_of)], response: Response
    ) -> dict[str, Any]:
        customer = data.customer(caller.subject)
        if customer is None:
            return {"subject": caller.subject, "role": caller.role}
        response.headers[OWNER_HEADER] = caller.subject
        return customer


def _add_internal(
    app: FastAPI, data: OrdersData, jwks: dict[str, Any], key_in_use: KeyInUse
) -> None:
    @app.get("/internal/health")
    def internal_health() -> dict[str, Any]:
        # Not a coroutine: it asks AWS, and must not hold up the orders meanwhile.
        return {"service": "orders", **key_in_use.status()}

    @app.get("/internal/jwks")
    async def read_jwks() -> dict[str, Any]:
        return jwks

    @app.get("/internal/version")
    async def read_version() -> dict[str, Any]:
        version, ownership_check = data.deployed()
        return {"version": version, "ownership_check": ownership_check}

    @app.post("/internal/deploy")
    async def deploy(body: DeployBody) -> dict[str, Any]:
        data.deploy(body.version, body.ownership_check)
        return body.model_dump()


def main(argv: list[str] | None = None) -> None:
    """Serve until terminated."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m bot.sandbox.orders_api", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args(argv)
    state: Path = options.state

    key = read_key(state)
    data = OrdersData(state / "orders.sqlite", read_accounts(state / "accounts.json"))
    key_in_use = KeyInUse(KeySource.read(state))
    key_in_use.start()
    uvicorn.run(
        build_app(data, key, key_in_use),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # The gateway keeps connections open; they must not keep the service from ending.
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
