from graded import World
from harness import token_of
from walking import Walker
async def test_first(world: World, walker: Walker) -> None:
    page = await walker.window()
    await walker.sign_in(page, token_of(world.course))
    for address in (f"/ui/c/{world.course}", f"/ui/c/{world.course}/r/{world.run}", f"/ui/j/{world.jobs['ada']}"):
        await page.goto(f"{walker.base}{address}")
        await walker.check_first_load(page)
        print("LOADED", await page.evaluate("[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map((e) => [e.name, e.encodedBodySize])"))
    assert walker.problems == []
