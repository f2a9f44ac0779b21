"""`python -m broadway.ingest`."""

from broadway import connections, service
from broadway.ingest.serve import serve
from broadway.settings.loading import load
from broadway.settings.programs import IngestSettings


async def _main(settings: IngestSettings, stop: service.Stop) -> None:
    async with connections.opened_without_broker(settings, service="ingest") as opened:
        await serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop)


def main(prog: str = "python -m broadway.ingest") -> None:
    settings = load(IngestSettings, prog=prog)
    service.run(lambda stop: _main(settings, stop), service="ingest", settings=settings)


if __name__ == "__main__":
    main()
