"""How every connection to AWS is made: with the keys it is given, and nothing of the machine's."""

from __future__ import annotations

import logging
import os
from typing import Any

BUSY = frozenset(
    {
        "EC2ThrottledException",
        "InternalFailure",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Codes that ask for patience; botocore's own standard retry mode knows the same."""


def session() -> Any:
    """Return a session that reads no profile, no configuration file and no credentials file."""
    import boto3.session
    import botocore.session

    # At level DEBUG botocore logs whole answers, and those of CreateAccessKey hold the secret.
    logging.getLogger("botocore").setLevel(logging.INFO)
    # boto3 leaves it to botocore what a session reads; without this, the user's files.
    reads_nothing = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    return boto3.session.Session(botocore_session=reads_nothing)


def client(
    session: Any,
    service: str,
    *,
    region: str,
    endpoint_url: str | None,
    access_key_id: str,
    secret_access_key: str,
    attempts: int,
) -> Any:
    """
    Return a client of one service.

    Args:
        endpoint_url: None for the real AWS; its proxy then comes from the environment.

        attempts: One for a call that must not be made twice when its answer is lost.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=5,
        read_timeout=15,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        ignore_configured_endpoint_urls=True,
        proxies={} if endpoint_url else None,
    )
    return session.client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=config,
    )
