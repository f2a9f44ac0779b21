"""The settings of signing in to the pages through an OpenID Connect provider."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from broadway.domain.openid import PersonRules, matches_of, staff_of
from broadway.settings.values import MAX_TEXT, check_address

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")


def _of_provider(text: str) -> str:
    """Check an address that must not be read or changed on its way: HTTPS, or HTTP on this machine."""
    if not text:
        return text
    check_address(text, ("https", "http"), "should be an address, as in https://login.example.edu")
    parts = urlsplit(text)
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise ValueError("should begin with https://")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("should be an address without a user, a query and a fragment")
    return text


def _of_pages(text: str) -> str:
    return _of_provider(text).rstrip("/")


def _of_operators(text: str) -> str:
    matches_of(text)
    return text


def _of_staff(text: str) -> str:
    staff_of(text)
    return text


def _of_algorithms(text: str) -> str:
    """Refuse algorithms without a key, and those with a secret that the provider shares."""
    names = [part.strip() for part in text.split(",")]
    if not set(names) <= ALGORITHMS:
        raise ValueError(f"should be some of {', '.join(sorted(ALGORITHMS))}, separated by commas")
    return ",".join(names)


def _of_scope(text: str) -> str:
    if "openid" not in text.split():
        raise ValueError("should contain openid")
    return " ".join(text.split())


class OpenIdSettings(BaseModel):
    """The provider, and the rules from its claims to people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_of_provider)] = Field(
        default="", description="address of the OpenID Connect provider; without it, only tokens and links sign in"
    )
    client_id: str = Field(default="", max_length=MAX_TEXT, description="the provider's id for these pages")
    client_secret: SecretStr | None = Field(
        default=None, min_length=1, max_length=MAX_TEXT, description="the secret with that id, if it has one"
    )
    url: Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_of_pages)] = Field(
        default="", description="address of this server in browsers, as in https://grading.example.edu"
    )
    label: str = Field(
        default="Sign in with your university account", min_length=1, max_length=100, description="words on the button"
    )
    scope: Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_of_scope)] = Field(
        default="openid profile email", description="scopes to ask for, separated by blanks"
    )
    claim: str = Field(
        default="email", min_length=1, max_length=100, description="claim that has a person's name, as in the rosters"
    )
    domain: str = Field(
        default="",
        max_length=255,
        pattern=r"^[A-Za-z0-9.-]*$",
        description="only domain of these names, which is removed from them: ada@example.edu becomes ada",
    )
    operators: Annotated[str, Field(max_length=16 * MAX_TEXT), AfterValidator(_of_operators)] = Field(
        default="", description="operators: names, or CLAIM=VALUE, separated by commas"
    )
    staff: Annotated[str, Field(max_length=16 * MAX_TEXT), AfterValidator(_of_staff)] = Field(
        default="", description="staff of courses: COURSE:NAME, or COURSE:CLAIM=VALUE, separated by commas"
    )
    unverified: bool = Field(
        default=False, description="accept addresses that the provider does not call verified (email_verified)"
    )
    algorithms: Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_of_algorithms)] = Field(
        default="RS256,PS256,ES256", description="signatures to accept, separated by commas"
    )
    leeway: int = Field(
        default=60, ge=0, le=600, description="seconds by which the provider's clock may differ from this server's"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.issuer and not (self.client_id and self.url):
            raise ValueError("issuer needs client_id and url: set --oidc-client-id and --oidc-url, too")
        return self

    @property
    def rules(self) -> PersonRules:
        """The rules from claims to people."""
        staff = staff_of(self.staff)
        return PersonRules(self.claim, self.domain, matches_of(self.operators), staff, self.unverified)

    @property
    def allowed(self) -> list[str]:
        """The signatures to accept."""
        return self.algorithms.split(",")
