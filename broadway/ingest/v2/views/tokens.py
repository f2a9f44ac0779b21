"""Tokens and records of the audit log as resources."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from broadway.domain.access import AccessToken
from broadway.domain.audit import AuditRecord
from broadway.ingest.commands.tokens import Issued
from broadway.messages.resources.tokens import AuditView, NewTokenView, TokenView


def token_view(token: AccessToken) -> TokenView:
    return TokenView(**_fields(token))


def new_token_view(issued: Issued) -> NewTokenView:
    return NewTokenView(**_fields(issued.token), token=issued.secret)


def audit_view(record: AuditRecord) -> AuditView:
    return AuditView(**asdict(record))


def _fields(token: AccessToken) -> dict[str, Any]:
    ended = "revoked" if token.revoked_at else "expired"
    return {
        "id": token.id,
        "kind": token.kind.value,
        "name": token.name,
        "student": token.student or None,
        "state": "valid" if token.is_valid(datetime.now(UTC)) else ended,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }
