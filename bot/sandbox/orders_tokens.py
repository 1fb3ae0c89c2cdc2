"""The orders service's JSON Web Tokens (RS256): made at login, verified at the gateway and here."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from bot.errors import BadInput
from bot.sandbox.files import write_secret
from bot.sandbox.orders_data import Role

ISSUER = "https://login.acme.example"
AUDIENCE = "orders-api"
KEY_ID = "orders-1"
TOKEN_LIFETIME_S = 8 * 3600
KEY_FILE = "jwt-key.pem"


@dataclass(frozen=True)
class Caller:
    """Who calls: the verified token's subject and role."""

    subject: str
    role: Role

    def may_read(self, owner: str) -> bool:
        """Whether this caller is entitled to an object of this owner."""
        return self.subject == owner or self.role == "support"


class Tokens:
    """Makes and verifies tokens with one key."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key
        self._public = key.public_key()

    def make(self, subject: str, role: Role) -> str:
        """Return a token that is valid from now on, for eight hours."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "role": role,
            "iat": now,
            "exp": now + TOKEN_LIFETIME_S,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": KEY_ID})

    def verify(self, header: str | None) -> Caller | None:
        """Return who calls, from an ``Authorization`` header; None unless its token holds."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["RS256"],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["exp", "sub", "role"]},
            )
        except jwt.InvalidTokenError:
            return None
        return Caller(claims["sub"], claims["role"])


def new_key(state: Path) -> RSAPrivateKey:
    """Make the key that signs tokens and keep it in the service's state, mode 0600."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(state / KEY_FILE, pem.decode())
    return key


def read_key(state: Path) -> RSAPrivateKey:
    """Read what ``new_key`` kept. Raises BadInput if the file holds another kind of key."""
    key = load_pem_private_key((state / KEY_FILE).read_bytes(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise BadInput(f"{state / KEY_FILE} is not an RSA key, so no token can be made. Renew it.")
    return key


def jwks_of(key: RSAPrivateKey) -> dict[str, Any]:
    """Return the public half as a JSON Web Key Set."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]}
