"""Rotation of credentials: from their issuer to their store in one step, seen by nobody."""

from __future__ import annotations

from actions.credentials.aws import AwsIam
from actions.credentials.credential import AwsKeyCredential
from actions.credentials.rotate import Rotate
from actions.credentials.vault import VaultKv

ACTIONS = (Rotate(),)

__all__ = ["ACTIONS", "AwsIam", "AwsKeyCredential", "Rotate", "VaultKv"]
