"""`python -m broadway.results`."""

from broadway import connections, service
from broadway.results.serve import serve
from broadway.settings.loading import load
from broadway.settings.programs import ResultsSettings


async def _main(settings: ResultsSettings, stop: service.Stop) -> None:
    async with connections.opened(settings, service="results") as opened:
        await serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop)


def main(prog: str = "python -m broadway.results") -> None:
    settings = load(ResultsSettings, prog=prog)
    service.run(lambda stop: _main(settings, stop), service="results", settings=settings)


if __name__ == "__main__":
    main()
