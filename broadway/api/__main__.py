"""`python -m broadway.api`."""

import asyncio

from broadway import connections, service
from broadway.dispatcher import serve as dispatcher
from broadway.ingest import serve as ingest
from broadway.notifier import serve as notifier
from broadway.results import serve as results
from broadway.settings.loading import load
from broadway.settings.programs import ApiSettings


async def _main(settings: ApiSettings, stop: service.Stop) -> None:
    async with connections.opened_without_broker(settings, service="api") as opened:
        # The dispatcher reads the courses when it starts.
        await ingest.load_courses(settings, store=opened.store)
        settings = settings.model_copy(update={"course_config": None})
        async with asyncio.TaskGroup() as group:
            group.create_task(ingest.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))
            await service.unless_stopped(service.join(opened.rabbit), stop)
            if stop.is_set():
                return
            for part in (results, dispatcher, notifier):
                group.create_task(part.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))


def main(prog: str = "python -m broadway.api") -> None:
    settings = load(ApiSettings, prog=prog)
    service.run(lambda stop: _main(settings, stop), service="api", settings=settings)


if __name__ == "__main__":
    main()
