"""`python -m broadway.notifier`."""

from broadway import connections, service
from broadway.notifier.serve import serve
from broadway.settings.loading import load
from broadway.settings.programs import NotifierSettings


async def _main(settings: NotifierSettings, stop: service.Stop) -> None:
    async with connections.opened(settings, service="notifier") as opened:
        await serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop)


def main(prog: str = "python -m broadway.notifier") -> None:
    settings = load(NotifierSettings, prog=prog)
    service.run(lambda stop: _main(settings, stop), service="notifier", settings=settings)


if __name__ == "__main__":
    main()
