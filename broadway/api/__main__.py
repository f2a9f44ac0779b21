"""`python -m broadway.api`."""

import asyncio

from broadway import connections, dispatcher, ingest, results, service
from broadway.settings import ApiSettings, load


async def _main(settings: ApiSettings, stop: asyncio.Event) -> None:
    async with connections.opened(settings, service="api") as opened:
        # Before the dispatcher looks which courses there are.
        await ingest.load_courses(settings, store=opened.store, rabbit=opened.rabbit)
        settings = settings.model_copy(update={"course_config": None})
        async with asyncio.TaskGroup() as group:
            for part in (results, dispatcher, ingest):
                group.create_task(part.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))


def main() -> None:
    settings = load(ApiSettings, prog="python -m broadway.api")
    service.run(lambda stop: _main(settings, stop), service="api", settings=settings)


if __name__ == "__main__":
    main()
