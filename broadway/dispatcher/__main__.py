"""`python -m broadway.dispatcher`."""

from broadway import connections, service
from broadway.dispatcher.serve import serve
from broadway.settings.loading import load
from broadway.settings.programs import DispatcherSettings


async def _main(settings: DispatcherSettings, stop: service.Stop) -> None:
    async with connections.opened(settings, service="dispatcher") as opened:
        await serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop)


def main(prog: str = "python -m broadway.dispatcher") -> None:
    settings = load(DispatcherSettings, prog=prog)
    service.run(lambda stop: _main(settings, stop), service="dispatcher", settings=settings)


if __name__ == "__main__":
    main()
