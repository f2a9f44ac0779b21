"""Images from registries and archives without an engine: pulls, refusals, faults, interruptions, and removal."""

import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness import broadway, free_port, until
from images import busybox, layer, layout
from registries import PASSWORD, USER, Registry, proxy, registry

from broadway.domain.job import FaultPhase
from broadway.grader.oci import pulls
from broadway.grader.oci.compression import zstd
from broadway.grader.oci.images import Store
from broadway.grader.oci.layers import Room
from broadway.grader.oci.library import Keeping, Library
from broadway.grader.oci.names import Names
from broadway.grader.oci.places import LAYOUT, REGISTRY, Access, Place
from broadway.grader.oci.pulls import Pulls
from broadway.grader.oci.skopeo import Skopeo
from broadway.grader.oci.sources import Contents, Layout
from broadway.grader.ports import ContainerError

MACHINE = platform.machine()
NAME = "image:1"
ROOM = Room(2**30, 100_000)
LOCAL, REGISTRIES = Access(allow_local=True), Place(REGISTRY)


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    async with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    async with registry(tmp_path_factory.mktemp("guarded"), with_login=True) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", ROOM)


def made(directory: Path, *layers: bytes, **more: Any) -> Path:
    return layout(directory / "layout", NAME, layers or [layer(("file", "content"))], **more)


def origin(store: Store, place: Place = REGISTRIES, access: Access = LOCAL, **more: Any) -> Pulls:
    given = {"program": "skopeo", "max_size": ROOM.size, **more}
    timeout = given.pop("timeout", 60)
    return Pulls(Skopeo(place=place, access=access, machine=MACHINE, **given), store, timeout=timeout)


async def pulled(name: str, store: Store, **more: Any) -> dict[str, str]:
    """Pull an image, and return the content of its files, by path."""
    library = Library(store, from_there := origin(store, **more), Keeping(3600))
    try:
        await library.ensure(name)
        async with library.use(name) as image:
            files = {}
            for directory in reversed(image.layers):
                for path in directory.rglob("*"):
                    if path.is_file() and not path.is_symlink() and path.name != "busybox":
                        files[str(path.relative_to(directory))] = path.read_text()
            return files
    finally:
        library.close()
        await from_there.close()


async def refusal(name: str, store: Store, **more: Any) -> ContainerError:
    with pytest.raises(ContainerError) as raised:
        await pulled(name, store, **more)
    assert raised.value.phase is FaultPhase.PULL
    assert not list((store.directory / "images").iterdir())
    assert not [path for path in (store.directory / "pulls").iterdir() if path.is_dir()]
    return raised.value


async def test_an_image_of_a_registry_is_unpacked_and_found_again_without_it(tmp_path: Path, store: Store) -> None:
    directory = made(tmp_path, busybox(), layer(("file", "content"), gzipped=True))
    async with registry(tmp_path / "registry") as running:
        name = running.push(directory, NAME)
        assert await pulled(name, store) == {"file": "content"}
    assert await pulled(name, store) == {"file": "content"}
    assert Layout(directory).find(NAME, MACHINE) == await origin(store).find(name, FaultPhase.CREATE)


async def test_layers_may_be_compressed_with_zstd(shared: Registry, tmp_path: Path, store: Store) -> None:
    directory = made(tmp_path, zstd.compress(layer(("file", "content"))))
    assert await pulled(shared.push(directory, NAME, "zstd:1"), store) == {"file": "content"}


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
async def test_an_image_of_an_archive_is_unpacked(tmp_path: Path, store: Store, kind: str) -> None:
    archive = tmp_path / "archive.tar"
    source = f"oci:{made(tmp_path)}:{NAME}"
    command = ["skopeo", "copy", "--quiet", "--insecure-policy", source, f"{kind}:{archive}:{NAME}"]
    await asyncio.to_thread(subprocess.run, command, check=True)
    assert await pulled(NAME, store, place=Place.of(f"{kind}:{archive}")) == {"file": "content"}
    other = await refusal("other:1", Store(tmp_path / "other", ROOM), place=Place.of(f"{kind}:{archive}"))
    assert not other.retryable
    assert "does not have it" in str(other)
    assert str(tmp_path) not in str(other)


async def test_a_new_image_under_the_same_name_is_refreshed_behind(
    shared: Registry, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = shared.push(made(tmp_path / "old"), NAME, "renewed:1")
    assert await pulled(name, store) == {"file": "content"}
    shared.push(made(tmp_path / "new", layer(("file", "new"))), NAME, "renewed:1")
    assert await pulled(name, store) == {"file": "content"}
    monkeypatch.setattr(pulls, "REFRESH_INTERVAL", 0.0)
    from_there = origin(store)
    before = await from_there.find(name, FaultPhase.CREATE)
    await from_there.ensure(name)
    assert await from_there.find(name, FaultPhase.CREATE) == before
    async with asyncio.timeout(60):
        await asyncio.gather(*from_there._pulls.values())  # noqa: SLF001 - there is no other sign of its end
    assert await from_there.find(name, FaultPhase.CREATE) != before
    assert await pulled(name, store) == {"file": "new"}


class TestAccess:
    @pytest.mark.parametrize("way", ["auth file", "password file"])
    async def test_credentials_come_from_files(
        self, guarded: Registry, tmp_path: Path, store: Store, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        name = guarded.push(made(tmp_path), NAME)
        password, recorded = tmp_path / "password", tmp_path / "recorded"
        password.write_text(f"{PASSWORD}\n")
        recorder = tmp_path / "skopeo"
        recorder.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >>{recorded}\nexec skopeo "$@"\n')
        recorder.chmod(0o755)
        auth = tmp_path / "auth.json"
        auth.write_text(json.dumps({"auths": {guarded.host: {"auth": "Z3JhZGVyOmNvcnJlY3QgaG9yc2U="}}}))
        access = {
            "auth file": replace(LOCAL, auth_file=auth),
            "password file": replace(LOCAL, login=(guarded.host, USER, password)),
        }[way]
        assert await pulled(name, store, access=access, program=str(recorder)) == {"file": "content"}
        for secret in (PASSWORD, "Z3JhZGVyOmNvcnJlY3QgaG9yc2U="):
            assert secret not in recorded.read_text() + caplog.text

    @pytest.mark.parametrize("password", [None, "wrong"])
    async def test_a_refused_login_is_lasting(
        self, guarded: Registry, tmp_path: Path, store: Store, password: str | None
    ) -> None:
        name = guarded.push(made(tmp_path), NAME)
        file = tmp_path / "password"
        file.write_text(password or "")
        access = replace(LOCAL, login=(guarded.host, USER, file)) if password else LOCAL
        refused = await refusal(name, store, access=access)
        assert not refused.retryable
        assert "unauthorized" in str(refused)

    async def test_a_registry_of_this_host_must_be_allowed(
        self, shared: Registry, tmp_path: Path, store: Store
    ) -> None:
        refused = await refusal(shared.push(made(tmp_path), NAME, "local:1"), store, access=Access())
        assert "--allow-local-registries" in str(refused)

    @pytest.mark.parametrize(
        ("name", "access", "tls"),
        [
            ("busybox:1", LOCAL, True),
            ("registry.example.org/a:1", LOCAL, True),
            ("registry.example.org:5000/a:1", Access(plain_http=frozenset({"registry.example.org:5000"})), False),
            ("registry.example.org:5001/a:1", Access(plain_http=frozenset({"registry.example.org:5000"})), True),
            ("127.0.0.1:5000/a:1", Access(), True),
            ("127.0.0.1:5000/a:1", LOCAL, False),
            ("localhost/a:1", LOCAL, False),
        ],
    )
    def test_only_registries_of_this_host_and_named_ones_need_no_tls(
        self, name: str, access: Access, *, tls: bool
    ) -> None:
        assert access.demands_tls(name) is tls

    def test_a_name_with_a_digest_loses_its_tag(self) -> None:
        digest = "sha256:" + "0" * 64
        assert Place(REGISTRY).reference(f"h:5000/a/b:1@{digest}") == f"docker://h:5000/a/b@{digest}"
        assert Place(REGISTRY).reference(f"h:5000/a/b@{digest}") == f"docker://h:5000/a/b@{digest}"
        assert Place(REGISTRY).reference("h:5000/a/b:1") == "docker://h:5000/a/b:1"


class TestFaults:
    @pytest.mark.parametrize("name", ["image:2", "nothing:1"])
    async def test_a_missing_image_is_a_lasting_fault_that_names_it(
        self, shared: Registry, tmp_path: Path, store: Store, name: str
    ) -> None:
        shared.push(made(tmp_path), NAME)
        refused = await refusal(shared.name(name), store)
        assert not refused.retryable
        assert str(refused).startswith(f"image {shared.name(name)}: manifest unknown")

    async def test_a_registry_that_does_not_answer_is_tried_again(self, store: Store) -> None:
        name = f"127.0.0.1:{free_port()}/{NAME}"
        refused = await refusal(name, store)
        assert refused.retryable
        assert str(refused) == f"image {name}: {pulls.answer_in('')}"

    async def test_a_registry_that_hangs_is_given_up(self, shared: Registry, tmp_path: Path, store: Store) -> None:
        shared.push(made(tmp_path), NAME, "hanging:1")
        async with proxy(shared.port) as held:
            refused = await refusal(held.name("hanging:1"), store, timeout=1)
        assert refused.retryable
        assert "not pulled within 1 s" in str(refused)

    async def test_an_image_of_another_architecture_is_refused(
        self, shared: Registry, tmp_path: Path, store: Store
    ) -> None:
        name = shared.push(made(tmp_path, architecture="s390x"), NAME, "other:1")
        refused = await refusal(name, store)
        assert not refused.retryable
        assert "made for linux/s390x" in str(refused)

    @pytest.mark.parametrize("change", ["changed", "truncated"])
    async def test_a_layer_without_its_digests_content_is_tried_again(
        self, shared: Registry, tmp_path: Path, store: Store, change: str
    ) -> None:
        directory = made(tmp_path, layer((change, os.urandom(100_000)), gzipped=True))
        name = shared.push(directory, NAME, f"{change}:1")
        (digest,) = (each["digest"] for each in _manifest(directory)["layers"])
        blob = shared.blob(digest)
        content = blob.read_bytes()
        blob.write_bytes(content[:50_000] + (b"" if change == "truncated" else b"\0" + content[50_001:]))
        refused = await refusal(name, store)
        assert refused.retryable
        assert "content that its digest names" in str(refused)
        blob.write_bytes(content)
        assert change in {path.name for path in await _directories(name, store)}

    async def test_an_image_above_the_limit_is_refused(self, shared: Registry, tmp_path: Path, store: Store) -> None:
        name = shared.push(made(tmp_path, layer(("file", os.urandom(3_000_000)))), NAME, "large:1")
        refused = await refusal(name, store, max_size=1_000_000)
        assert not refused.retryable
        assert "--images-max-size" in str(refused)
        small = Store(tmp_path / "small", Room(1_000_000, 1000))
        assert "--images-max-size" in str(await refusal(name, small))

    async def test_pulls_that_keep_failing_are_held_back(self, store: Store) -> None:
        from_there, name = origin(store), f"127.0.0.1:{free_port()}/{NAME}"
        texts = []
        for _ in range(4):
            with pytest.raises(ContainerError) as raised:
                await from_there.ensure(name)
            texts.append(str(raised.value))
        assert ["pulls failed" in text for text in texts] == [False, False, False, True]


class TestConcurrency:
    async def test_graders_of_one_host_pull_an_image_once(self, shared: Registry, tmp_path: Path) -> None:
        shared.push(made(tmp_path), NAME, "once:1")
        stores = [Store(tmp_path / "store", ROOM) for _ in range(3)]
        async with proxy(shared.port) as held:
            waiting = [asyncio.create_task(pulled(held.name("once:1"), store)) for store in stores]
            await until(lambda: held.blobs)
            held.is_open.set()
            assert await asyncio.gather(*waiting) == [{"file": "content"}] * 3
            assert held.blobs == 3  # the config twice, and the layer

    async def test_a_cancelled_pull_leaves_nothing(self, shared: Registry, tmp_path: Path, store: Store) -> None:
        shared.push(made(tmp_path), NAME, "cancelled:1")
        async with proxy(shared.port) as held:
            from_there = origin(store)
            waiting = asyncio.create_task(from_there.ensure(held.name("cancelled:1")))
            await until(lambda: held.blobs)
            waiting.cancel()
            await from_there.close()
            assert not [path for path in (store.directory / "pulls").iterdir() if path.is_dir()]
            assert not _processes_of(store.directory)

    async def test_after_a_crash_in_the_middle_of_a_pull_no_half_image_is_used(
        self, shared: Registry, tmp_path: Path, store: Store
    ) -> None:
        shared.push(made(tmp_path, busybox(), layer(("file", "content"))), NAME, "crashed:1")
        async with proxy(shared.port, free=2) as held:  # the config and a layer
            name = held.name("crashed:1")
            grader = await asyncio.create_subprocess_exec(sys.executable, "-c", GRADER, store.directory, name)
            await until(lambda: held.blobs > held.free)
            grader.send_signal(signal.SIGKILL)
            await grader.wait()
            await until(lambda: not _processes_of(store.directory))
            assert [path for path in (store.directory / "pulls").iterdir() if path.is_dir()]
            held.is_open.set()
            assert await pulled(name, store) == {"file": "content"}


class TestRemoval:
    async def test_images_above_the_size_are_removed_beginning_with_the_longest_unused(
        self, tmp_path: Path, store: Store
    ) -> None:
        for number, name in enumerate(("old", "used", "new")):
            directory = layout(tmp_path / name, NAME, [layer((name, os.urandom(100_000)))])
            image_id = str(Layout(directory).find(NAME, MACHINE))
            image = store.add(image_id, partial(_opened, Layout(directory)))
            os.utime(store.directory / "images" / image_id.removeprefix("sha256:"), (number, number))
            if name != "used":
                image.close()
        assert store.collect(2**40, keep_size=400_000) == 0
        assert store.collect(2**40, keep_size=250_000) == 1
        assert _names_in(store) == {"used", "new"}
        assert store.collect(2**40, keep_size=0) == 1
        assert _names_in(store) == {"used"}

    async def test_layers_of_an_earlier_version_are_measured(self, tmp_path: Path, store: Store) -> None:
        found = Layout(made(tmp_path, layer(("file", os.urandom(100_000)))))
        store.add(str(found.find(NAME, MACHINE)), lambda _: found.open(NAME, MACHINE)).close()
        for file in (store.directory / "sizes").iterdir():
            file.unlink()
        assert store.collect(2**40, keep_size=200_000) == 0
        assert store.collect(2**40, keep_size=50_000) == 1

    async def test_names_and_leftovers_go_with_their_images(
        self, shared: Registry, tmp_path: Path, store: Store
    ) -> None:
        name, from_there = shared.push(made(tmp_path), NAME, "gone:1"), origin(store)
        await from_there.ensure(name)
        (store.directory / "pulls" / "killed").mkdir()
        (store.directory / "pulls" / "killed.lock").touch()
        from_there.collect()
        assert len(list((store.directory / "names").iterdir())) == 1
        assert not list((store.directory / "pulls").iterdir())
        store.collect(-1)
        from_there.collect()
        assert not list((store.directory / "names").iterdir())
        assert await pulled(name, store) == {"file": "content"}


GRADER = """
import asyncio, platform, sys
from pathlib import Path
from broadway.grader.oci.images import Store
from broadway.grader.oci.places import REGISTRY, Access, Place
from broadway.grader.oci.pulls import Pulls
from broadway.grader.oci.skopeo import Skopeo

skopeo = Skopeo("skopeo", Place(REGISTRY), Access(allow_local=True), platform.machine(), 2**30)
asyncio.run(Pulls(skopeo, Store(Path(sys.argv[1])), timeout=60).ensure(sys.argv[2]))
"""


def _opened(found: Layout, _directory: Path) -> AbstractContextManager[Contents]:
    return found.open(NAME, MACHINE)


def _manifest(directory: Path) -> dict[str, Any]:
    (entry,) = json.loads((directory / "index.json").read_text())["manifests"]
    found: dict[str, Any] = json.loads((directory / "blobs" / entry["digest"].replace(":", "/")).read_text())
    return found


async def _directories(name: str, store: Store) -> list[Path]:
    await origin(store).ensure(name)
    return list((store.directory / "layers").glob("*/*"))


def _names_in(store: Store) -> set[str]:
    return {path.name for path in (store.directory / "layers").glob("*/*")}


def _processes_of(directory: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"skopeo" in command and bytes(directory) in command:
            found.append(path.parent.name)
    return found


def test_places() -> None:
    assert Place.of("docker-daemon:") == Place.of("engine") == Place()
    assert Place.of("oci:/a") == Place(LAYOUT, Path("/a"))
    assert [Place.of(each).is_of_skopeo for each in ("engine", "oci:a", "registry", "oci-archive:a")] == [
        False,
        False,
        True,
        True,
    ]


async def test_stages_of_a_directory_run_from_a_registry_on_a_host_without_an_engine(
    shared: Registry, tmp_path: Path
) -> None:
    name = shared.push(made(tmp_path, busybox()), NAME, "stages:1")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "answer").write_text("42\n")
    stage = {"image": name, "entrypoint": ["cat", "/job/submission/answer"], "networking": False}
    with_network = {**stage, "networking": True}
    (tmp_path / "good.json").write_text(json.dumps({"student_pipeline": [stage]}))
    (tmp_path / "network.json").write_text(json.dumps({"student_pipeline": [with_network]}))
    environment = {
        "DOCKER_HOST": f"unix://{tmp_path}/no.sock",
        "BROADWAY_RUNTIME": "auto",
        "BROADWAY_IMAGES_SOURCE": "registry",
        "BROADWAY_IMAGES_DIR": str(tmp_path / "library"),
        "BROADWAY_ALLOW_LOCAL_REGISTRIES": "true",
    }
    for file, code, said in (("good", 0, "42\n"), ("network", 1, "the stage asks for a network")):
        words = ("assignment", "validate", str(tmp_path / f"{file}.json"), "--run", str(tmp_path / "files"), "--log")
        done = await broadway(*words, **environment)
        output = done.stdout + done.stderr
        assert (done.exit_code, said in output) == (code, True), output


async def test_an_interrupted_note_of_a_name_leaves_nothing(tmp_path: Path) -> None:
    names = Names(tmp_path, "registry")
    async with names.pulling("alpine"):
        names.put("alpine", "sha256:1")
    (kept,) = (tmp_path / "names").iterdir()
    kept.unlink()
    kept.mkdir()  # in the way of the next one
    with pytest.raises(IsADirectoryError):
        async with names.pulling("alpine"):
            names.put("alpine", "sha256:2")
    assert list((tmp_path / "names").iterdir()) == [kept]
    assert [path.suffix for path in (tmp_path / "pulls").iterdir()] == [".lock"]
