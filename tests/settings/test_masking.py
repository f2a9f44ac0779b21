"""Masking: the part of a value that may be shown."""

import pytest
from pydantic import SecretStr

from broadway.settings.masking import masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SecretStr("cluster-token"), "***"),
        (SecretStr(""), "***"),
        (SecretStr("amqp://user:pass@host:5672/place"), "amqp://***@host:5672/place"),
        (SecretStr("amqp://host/place"), "amqp://host/place"),
        ("mongodb://user:p@ss/word@one,two/?replicaSet=rs0", "mongodb://***@one,two/?replicaSet=rs0"),
        ("mongodb://user@host", "mongodb://***@host"),
        (
            "mongodb://host/?tlsCertificateKeyFilePassword=x&w=2",
            "mongodb://host/?tlsCertificateKeyFilePassword=***&w=2",
        ),
        ("mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:x", "mongodb://host/?authMechanismProperties=***"),
        ("http://user:pass@api:1470", "http://***@api:1470"),
        ("someone@example.org", "someone@example.org"),
        ("logs", "logs"),
        (7, 7),
        (None, None),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_shown(value: object, shown: object) -> None:
    assert masked(value) == shown
