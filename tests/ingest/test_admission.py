"""Who may join as which grader, and who may speak to the gateway in whose name."""

import asyncio
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from harness import Client, token_of
from starlette.requests import Request

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.grader import Grader
from broadway.ingest.commands.admission import Admission
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import Authenticator
from broadway.ingest.http.rights import Auth, Rights
from broadway.messages.events import GraderHeartbeat
from broadway.mongo.store import Store

CLUSTER, OPERATOR = "cluster-token", "operator-token"
HEADER = "broadway-grader-secret"


@pytest.fixture
def name() -> str:
    return f"g{token_hex(4)}"


@pytest.fixture
def pool() -> str:
    """A pool whose switch is off, as in every new cluster."""
    return f"p{token_hex(4)}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def join(
    client: Client, name: str, *, token: str = CLUSTER, secret: str | None = None, pool: str = "default"
) -> httpx2.Response:
    headers = {**bearer(token), **({HEADER: secret} if secret else {})}
    body = {"hostname": "host", "pool": pool, "slots": 2}
    return await client.http.post(f"/api/v2/graders/{name}", json=body, headers=headers)


async def joined(client: Client, name: str, **more: Any) -> str:
    """Join with a new secret, and return it."""
    secret = new_secret(SecretPrefix.GRADER)
    answer = await join(client, name, secret=secret, **more)
    assert (answer.status_code, answer.json().get("own_secret")) == (200, True), answer.text
    return secret


async def join_token(client: Client, **limits: Any) -> dict[str, Any]:
    answer = await client.http.post("/api/v2/join-tokens", json=limits, headers=bearer(OPERATOR))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def order(client: Client, name: str, verb: str, token: str = OPERATOR) -> httpx2.Response:
    return await client.http.post(f"/api/v2/graders/{name}/{verb}", headers=bearer(token))


async def register(client: Client, name: str, token: str, pool: str) -> httpx2.Response:
    body = {"hostname": "host"}
    return await client.http.post(f"/api/v1/worker/{name}?pool={pool}", json=body, headers=bearer(token))


async def everything(client: Client, name: str, token: str) -> list[tuple[int, str]]:
    """Send every request of a registered grader; return the statuses and messages of the answers."""
    result = {"grading_job_id": "0" * 24, "success": True, "results": [], "logs": {}}
    answers = [
        await client.http.get(f"/api/v1/grading_job/{name}", headers=bearer(token)),
        await client.http.post(f"/api/v1/grading_job/{name}", json=result, headers=bearer(token)),
        await client.http.post(f"/api/v1/heartbeat/{name}", headers=bearer(token)),
        await client.http.delete(f"/api/v2/graders/{name}", headers=bearer(token)),
    ]
    return [(each.status_code, _message(each)) for each in answers]


def _message(answer: httpx2.Response) -> str:
    if not answer.content:
        return ""
    body = answer.json()
    data = body.get("data")
    return str(data["message"] if isinstance(data, dict) else body.get("detail", ""))


def detail(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]


async def test_an_id_belongs_to_the_secret_of_its_first_join(client: Client, name: str, store: Store) -> None:
    secret = await joined(client, name)
    again = await join(client, name, secret=secret)
    by_bearer = await join(client, name, token=secret)
    assert [each.json()["own_secret"] for each in (again, by_bearer)] == [True, True]

    for other in (None, new_secret(SecretPrefix.GRADER)):
        status, text = detail(await join(client, name, secret=other))
        assert status == 403
        assert f"forget-secret {name}" in text
    assert detail(await join(client, name, token="wrong")) == (401, "invalid token")
    grader = await store.graders.get(name)
    assert grader is not None
    assert secret not in str(grader)


async def test_one_of_two_first_joins_wins(client: Client, name: str) -> None:
    secrets = [new_secret(SecretPrefix.GRADER) for _ in range(6)]
    answers = await asyncio.gather(*(join(client, name, secret=each) for each in secrets))
    assert sorted(each.status_code for each in answers) == [200, *[403] * 5]


@pytest.mark.parametrize("secret", ["bwg_short", "x" * 50, f"bwg_{'a' * 101}", f"bwj_{'a' * 43}"])
async def test_a_weak_secret_is_refused(client: Client, name: str, secret: str) -> None:
    assert (await join(client, name, secret=secret)).status_code == 403
    assert not (await join(client, name)).json()["own_secret"], "the default pool admits graders without one"


async def test_a_grader_with_a_secret_needs_it_for_every_request(client: Client, name: str) -> None:
    secret = await joined(client, name)
    for token in (CLUSTER, OPERATOR, new_secret(SecretPrefix.GRADER), await joined(client, f"{name}-2")):
        assert await everything(client, name, token) == [(401, "invalid token")] * 4
        assert (await register(client, name, token, "default")).status_code == 401
    assert (await register(client, name, secret, "default")).status_code == 200
    assert [status for status, _ in await everything(client, name, secret)] == [498, 400, 200, 204]


async def test_the_gateway_serves_no_grader_at_the_broker(client: Client, name: str, store: Store) -> None:
    beat = GraderHeartbeat(grader_id=name, hostname="h", pool="default", slots=2, sent_at=datetime.now(UTC))
    await store.graders.beat([beat], now=datetime.now(UTC))
    assert await everything(client, name, CLUSTER) == [(401, "worker not found")] * 4
    assert (await register(client, name, CLUSTER, "default")).status_code == 400, "it is alive"
    status, text = detail(await join(client, name, secret=new_secret(SecretPrefix.GRADER)))
    assert (status, f"runs as {name}" in text) == (403, True)

    own = f"{name}-2"
    secret = await joined(client, own)
    await store.graders.beat([beat.model_copy(update={"grader_id": own})], now=datetime.now(UTC))
    assert await everything(client, own, secret) == [(401, "worker not found")] * 4


async def test_a_forgotten_secret_is_replaced_at_the_next_join(client: Client, name: str) -> None:
    secret = await joined(client, name)
    await register(client, name, secret, "default")
    assert (await order(client, name, "forget-secret", CLUSTER)).status_code == 401
    assert (await order(client, name, "forget-secret")).json()["has_secret"] is False
    assert (await join(client, name, token=secret)).status_code == 401
    other = await joined(client, name)
    assert (await join(client, name, token=secret, secret=secret)).status_code == 401
    assert [status for status, _ in await everything(client, name, other)] == [498, 400, 200, 204]
    assert (await order(client, f"{name}-x", "forget-secret")).status_code == 404


async def test_a_revoked_grader_cannot_readmit_itself(client: Client, name: str) -> None:
    secret = await joined(client, name)
    await order(client, name, "revoke")
    for token in (CLUSTER, secret):
        assert (await order(client, name, "readmit", token)).status_code == 401
        assert (await join(client, name, token=token, secret=secret)).status_code == 403
    assert (await register(client, name, secret, "default")).status_code == 403
    await order(client, name, "readmit")
    assert (await join(client, name, token=secret)).status_code == 200


class TestJoinTokens:
    async def test_a_token_admits_to_its_pools_only_and_so_does_a_grader_of_it(self, client: Client, name: str) -> None:
        token = (await join_token(client, pools=["gpu", "cpu"]))["token"]
        status, text = detail(await join(client, name, token=token, secret=new_secret(SecretPrefix.GRADER)))
        assert (status, "gpu, cpu only" in text) == (403, True)
        secret = await joined(client, name, token=token, pool="gpu")
        assert (await join(client, name, token=secret, pool="cpu")).status_code == 200
        for credential in (token, CLUSTER, secret):
            status, text = detail(await join(client, name, token=credential, secret=secret))
            assert (status, "not to pool default" in text) == (403, True)
        assert (await register(client, name, secret, "default")).status_code == 403
        assert (await register(client, name, secret, "gpu")).status_code == 200

    async def test_uses_count_new_graders_only(self, client: Client, name: str) -> None:
        made = await join_token(client, uses=2, name="rack 3")
        secrets = [await joined(client, f"{name}-{n}", token=made["token"]) for n in range(2)]
        assert (await join(client, f"{name}-0", token=made["token"], secret=secrets[0])).status_code == 200
        third = await join(client, f"{name}-3", token=made["token"], secret=new_secret(SecretPrefix.GRADER))
        assert detail(third) == (403, "this join token has no uses left: ask an operator for a new one")
        shown = await client.http.get(f"/api/v2/join-tokens/{made['id']}", headers=bearer(OPERATOR))
        assert (shown.json()["uses_left"], shown.json()["name"]) == (0, "rack 3")
        assert shown.json()["graders"] == [f"{name}-0", f"{name}-1"]
        assert made["token"] not in shown.text
        await order(client, f"{name}-0", "forget-secret")
        await joined(client, f"{name}-0", token=made["token"])

    async def test_a_revoked_token_admits_no_new_grader(self, client: Client, name: str) -> None:
        made = await join_token(client)
        secret = await joined(client, name, token=made["token"])
        path = f"/api/v2/join-tokens/{made['id']}"
        assert (await client.http.delete(path, headers=bearer(CLUSTER))).status_code == 401
        assert (await client.http.delete(path, headers=bearer(OPERATOR))).status_code == 204
        other = await join(client, f"{name}-2", token=made["token"], secret=new_secret(SecretPrefix.GRADER))
        assert (other.status_code, "has been revoked" in other.text) == (403, True)
        assert (await join(client, name, token=made["token"], secret=secret)).status_code == 200
        assert (await client.http.delete("/api/v2/join-tokens/nope", headers=bearer(OPERATOR))).status_code == 404

    async def test_a_token_gives_no_other_right(self, client: Client, name: str) -> None:
        token = (await join_token(client))["token"]
        assert (await join(client, name, token=token)).status_code == 403, "a secret is needed"
        assert (await register(client, name, token, "default")).status_code == 401
        for path in ("graders", "join-tokens", "pools", "dead-letters"):
            for other in (token, CLUSTER, await joined(client, f"{name}{path}")):
                assert (await client.get(path, token=other, version="v2")).status_code == 401

    @pytest.mark.parametrize(
        "body",
        [{"uses": 0}, {"uses": 10_001}, {"pools": []}, {"pools": ["a.b"]}, {"valid_for": 0}, {"name": "x" * 101}],
    )
    async def test_limits_have_bounds(self, client: Client, body: dict[str, Any]) -> None:
        answer = await client.http.post("/api/v2/join-tokens", json=body, headers=bearer(OPERATOR))
        assert (answer.status_code, next(iter(body)) in answer.json()["detail"]) == (400, True)


class TestSwitch:
    @pytest.fixture
    async def off(self, client: Client, pool: str) -> str:
        await self.turn(client, pool, on=False)
        return pool

    async def turn(self, client: Client, pool: str, *, on: bool) -> dict[str, Any]:
        answer = await client.http.put(f"/api/v2/pools/{pool}", json={"original_graders": on}, headers=bearer(OPERATOR))
        state: dict[str, Any] = answer.json()
        return state

    async def test_a_pool_refuses_graders_without_a_secret_until_it_is_turned_on(
        self, client: Client, name: str, off: str
    ) -> None:
        refused = await register(client, name, CLUSTER, off)
        assert (refused.status_code, f"pool set {off} --original-graders on" in refused.text) == (403, True)
        assert (await join(client, name, pool=off)).status_code == 403

        state = await self.turn(client, off, on=True)
        assert (state["original_graders"], state["id"]) == (True, off)
        assert (await register(client, name, CLUSTER, off)).status_code == 200
        assert [status for status, _ in await everything(client, name, CLUSTER)] == [498, 400, 200, 204]
        listed = (await client.get("pools", token=OPERATOR, version="v2")).json()["pools"]
        assert [each["without_secret"] for each in listed if each["id"] == off] == [[name]]

        await self.turn(client, off, on=False)
        answers = await everything(client, name, CLUSTER)
        assert {status for status, _ in answers} == {403}
        assert all(f"pool set {off}" in text for _, text in answers)

    async def test_only_operators_turn_it(self, client: Client, off: str, course: str) -> None:
        for token in (CLUSTER, token_of(course), "wrong"):
            answer = await client.http.put(
                f"/api/v2/pools/{off}", json={"original_graders": True}, headers=bearer(token)
            )
            assert answer.status_code == 401

    async def test_our_grader_needs_no_switch(self, client: Client, name: str, off: str) -> None:
        secret = await joined(client, name, pool=off)
        assert (await register(client, name, secret, off)).status_code == 200


async def test_without_an_operators_token_every_order_is_refused_with_the_setting(store: Store) -> None:
    scope = {"type": "http", "path": "/api/v2/graders", "path_params": {}, "query_string": b""}
    request = Request({**scope, "headers": [(b"authorization", b"Bearer anything")]})
    admission = Admission(store.graders, store.access_tokens, store.pools, CLUSTER)
    closed = Authenticator(
        store.courses, store.courses, store.access_tokens, store.graders, admission, operator_token=None
    )
    with pytest.raises(Refused, match="--operator-token") as refused:
        await closed.admit(request, Rights((Auth.OPERATOR,)))
    assert refused.value.status == 401


async def test_a_grader_of_an_earlier_version_has_its_grace(client: Client, name: str, store: Store, pool: str) -> None:
    known = Grader(
        name, hostname="h", alive=True, pool=pool, gateway="api:1", extended=True, last_seen=datetime.now(UTC)
    )
    assert await store.graders.register(known)
    assert (await everything(client, name, CLUSTER))[0][0] == 403
    await store.graders.give_grace([name], datetime(9999, 1, 1, tzinfo=UTC))
    assert (await everything(client, name, CLUSTER))[0][0] == 498
    secret = await joined(client, name, pool=pool)
    assert (await everything(client, name, CLUSTER))[0] == (401, "invalid token")
    assert (await everything(client, name, secret))[0][0] == 498
