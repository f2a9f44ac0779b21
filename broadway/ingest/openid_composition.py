"""Composing the sign-in through an OpenID Connect provider, whose libraries only this needs."""

from broadway.ingest.commands.openid import OpenIdSignIn
from broadway.ingest.commands.sign_in import SignIn
from broadway.installation import explain
from broadway.lifecycle.stores import CoursesById
from broadway.mongo.store import Store
from broadway.service import SettingError
from broadway.settings.programs import IngestSettings


def openid_of(settings: IngestSettings, store: Store, courses: CoursesById, sign_in: SignIn) -> OpenIdSignIn | None:
    """Return the sign-in through the provider of the settings; None without one.

    Raises:
        SettingError: A library is missing, which the extra `oidc` brings.
    """
    given = settings.oidc
    if not given.issuer:
        return None
    try:
        from broadway.ingest.openid.answers import Requests  # noqa: PLC0415 - an extra
        from broadway.ingest.openid.provider import OpenIdProvider  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SettingError(f"--oidc-issuer: {explain(error) or error}") from error

    provider = OpenIdProvider(given, Requests(settings.tls))
    return OpenIdSignIn(provider, given.rules, courses, store.rosters, sign_in, given.label, given.url)
