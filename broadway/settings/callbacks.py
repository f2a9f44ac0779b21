"""The settings of endpoints for callbacks, for the services that register them and send to them."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from broadway.domain.callback_addresses import AddressRules
from broadway.settings.http import Networks, networks

_LAST_PORT = 65535


def _of_ports(text: str) -> str:
    """Check a list of ports."""
    parts = [part.strip() for part in text.split(",")]
    if any(not re.fullmatch(r"[0-9]{1,5}", part) or not 0 < int(part) <= _LAST_PORT for part in parts):
        raise ValueError(f"should be ports from 1 to {_LAST_PORT}, separated by commas")
    return ",".join(parts)


class CallbackSettings(BaseModel):
    """The addresses to which callbacks may go, the number of endpoints, and the pace of the notifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: Networks = Field(
        default="",
        description="networks that callbacks may reach although they are not public: separated by commas",
    )
    ports: Annotated[str, Field(max_length=1000), AfterValidator(_of_ports)] = Field(
        default="443", description="ports that endpoints for callbacks may have: separated by commas"
    )
    http: bool = Field(default=False, description="accept endpoints for callbacks without TLS")
    endpoints: int = Field(default=20, ge=1, le=1000, description="limit on the endpoints for callbacks of a course")
    lease: float = Field(
        default=60.0, ge=1, le=3600, description="seconds until another notifier sends the callbacks of one that died"
    )
    poll: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="seconds between two checks for callbacks while the broker reports no fact",
    )

    @property
    def rules(self) -> AddressRules:
        """The addresses that endpoints may have."""
        return AddressRules(tuple(networks(self.allow)), frozenset(map(int, self.ports.split(","))), self.http)
