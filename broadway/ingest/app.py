"""The HTTP application: the routes of all interfaces, middleware, and answers to exceptions."""

from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from broadway.ingest.http import endpoint, probes
from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.errors import exception_handlers
from broadway.ingest.http.gate import Gate
from broadway.ingest.http.request_log import RequestLog
from broadway.ingest.ui import routes as ui
from broadway.ingest.ui.security import PageHeaders
from broadway.ingest.v1 import openapi as openapi_v1
from broadway.ingest.v1 import routes as v1
from broadway.ingest.v2 import docs_page
from broadway.ingest.v2 import routes as v2


def build_app(deps: Deps, admission: ClientLimits) -> Starlette:
    """Build the application, with limits on its clients. ``deps`` must stay open as long as it runs."""
    route = partial(endpoint.route, deps)
    routes: list[BaseRoute] = [
        *v1.routes(deps),
        *v2.routes(deps),
        *ui.routes(deps),
        route(openapi_v1.PATH, GET=openapi_v1.openapi_yaml),
        route(docs_page.PATH, GET=docs_page.openapi_json),
        route("/docs", GET=docs_page.page),
        route("/livez", GET=probes.live),
        route("/readyz", GET=probes.ready),
        *([route("/metrics", GET=probes.scrape)] if deps.settings.metrics_token else []),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers=exception_handlers(),
        middleware=[Middleware(PageHeaders), Middleware(RequestLog), Middleware(Gate, admission)],
    )
    app.router.redirect_slashes = False  # no route of ours ends with a slash
    app.router.default = endpoint.nowhere
    return app
