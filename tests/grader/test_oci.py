"""Containers without an engine: images from layers, refused stages, and leftovers of a killed grader."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import docker
import pytest
from harness import IS_WHOLE, until
from images import BUSYBOX, busybox, layer, layout

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.grader.oci.container import owner
from broadway.grader.oci.containers import OciContainers, OciOptions
from broadway.grader.oci.entries import LayerError
from broadway.grader.oci.groups import OURS
from broadway.grader.oci.host import STATE
from broadway.grader.oci.images import Store
from broadway.grader.oci.places import LAYOUT, Place
from broadway.grader.oci.sources import Layout
from broadway.grader.ports import ContainerError, Labels, Limits, Size, StageRun
from broadway.grader.sandbox.cgroups import ROOT
from broadway.grader.sandbox.process_identity import has_ended
from broadway.grader.sandbox.seccomp import RULES

MACHINE = os.uname().machine
NAME = "image:1"
LINE = re.compile(r"^\S+Z (.*)$", re.MULTILINE)

Run = Callable[..., Any]
Image = Callable[..., Path]


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """A function that makes an image of busybox and more layers, with a config."""
    return lambda *layers, **config: layout(tmp_path / "layout", NAME, [busybox(), *layers], **config)


@contextlib.asynccontextmanager
async def connected(directory: Path, work_dir: Path, **options: Any) -> AsyncIterator[OciContainers]:
    made = OciOptions(place=Place(LAYOUT, directory), **options)
    async with OciContainers.connect(slots=2, limits=Limits(), work_dir=work_dir, options=made) as containers:
        yield containers


@pytest.fixture
def run(tmp_path: Path, labels: Labels) -> Run:
    """Run a stage of the image in a layout; without a script, run the image's own command."""

    async def run(directory: Path, script: str = "", *, size: Size | None = None, **more: Any) -> StageRun:
        entrypoint = ["sh", "-c", script] if script else []
        stage = Stage.model_validate({"image": NAME, "networking": False, "entrypoint": entrypoint, **more})
        async with connected(directory, tmp_path / "work", **({"size": size} if size else {})) as containers:
            await containers.ensure_images([NAME])
            return await containers.run(stage, mounts=[], labels=replace(labels, execution_id=token_hex(6)))

    return run


def lines(run: StageRun) -> list[str]:
    return LINE.findall(run.output)


class TestLayers:
    async def test_files_that_a_later_layer_removes_are_gone(self, image: Image, run: Run) -> None:
        made = image(
            layer(("d/kept", "1"), ("d/gone", "2"), ("e/gone", "3"), ("f", "old")),
            layer(("d/.wh.gone", ""), ("e/.wh..wh..opq", ""), ("e/new", "4"), (".wh.nothing", ""), ("f", "new")),
        )
        found = await run(made, "find d e f -type f | sort; cat f; echo; ls -a nothing")
        assert lines(found)[:4] == ["d/kept", "e/new", "f", "new"]
        assert found.exit_code != 0

    async def test_a_removed_directory_may_return_as_a_file_and_vice_versa(self, image: Image, run: Run) -> None:
        made = image(
            layer(("a/b", "1"), ("c", "2")), layer((".wh.a", "")), layer(("a", "3"), (".wh.c", "")), layer(("c/d", "4"))
        )
        assert lines(await run(made, "cat a; echo; cat c/d; echo")) == ["3", "4"]

    async def test_modes_and_links_are_kept(self, image: Image, run: Run) -> None:
        made = image(layer(("secret", 0o700), ("link", "-> /secret/../bin/busybox")))
        assert lines(await run(made, "stat -c %a secret; readlink link; stat -c %a /bin")) == [
            "700",
            "/secret/../bin/busybox",
            "755",
        ]

    async def test_no_link_leads_out_of_an_image(self, image: Image, run: Run, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        made = image(layer(("out", f"-> {outside}"), ("out/file", "x"), ("../up", "y")))
        with contextlib.suppress(ContainerError):
            await run(made, "true")
        assert list(outside.iterdir()) == []
        assert not (tmp_path / "up").exists()

    async def test_compressed_layers(self, image: Image, run: Run) -> None:
        assert lines(await run(image(layer(("file", "content"), gzipped=True)), "cat file; echo")) == ["content"]

    async def test_a_layer_with_changed_content_is_refused(self, image: Image, run: Run) -> None:
        made = image(layer(("file", "content")))
        for blob in (made / "blobs" / "sha256").iterdir():
            if b"ustar" in (data := blob.read_bytes()) and len(data) < 20000:
                blob.write_bytes(data.replace(b"content", b"changed"))
        with pytest.raises(ContainerError, match=f"{NAME}: a layer has the digest") as raised:
            await run(made, "cat file")
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, False)

    async def test_an_image_of_another_architecture_is_refused_and_both_are_named(self, image: Image, run: Run) -> None:
        with pytest.raises(ContainerError, match="made for linux/s390x, and this grader's host is linux/a") as raised:
            await run(image(architecture="s390x"), "true")
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, False)

    async def test_an_index_without_this_machine_names_the_architectures(self, image: Image, run: Run) -> None:
        made = image()
        index = json.loads((made / "index.json").read_text())
        (entry,) = index["manifests"]
        platforms = [{"platform": {"architecture": each}, "digest": entry["digest"]} for each in ("s390x", "ppc64le")]
        content = json.dumps({"manifests": platforms}).encode()
        digest = hashlib.sha256(content).hexdigest()
        (made / "blobs" / "sha256" / digest).write_bytes(content)
        entry["digest"] = f"sha256:{digest}"
        (made / "index.json").write_text(json.dumps(index))
        with pytest.raises(
            ContainerError, match="made for ppc64le, s390x, and this grader's host is linux/a"
        ) as raised:
            await run(made, "true")
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, False)

    async def test_more_layers_than_paths_fit_into_a_page(self, image: Image, run: Run) -> None:
        made = image(*(layer((f"f{number}", "x")) for number in range(60)))
        assert lines(await run(made, "ls / | grep -c '^f[0-9]'")) == ["60"]


class TestConfig:
    PASSWD = "root:x:0:0::/root:/bin/sh\nstudent:x:1000:100::/home/student:/bin/sh\n"
    GROUP = "root:x:0:\nusers:x:100:\nlab:x:200:student,other\n"

    async def test_the_config_of_an_image_is_applied(self, image: Image, run: Run) -> None:
        made = image(
            layer(("etc/passwd", self.PASSWD), ("etc/group", self.GROUP)),
            User="student",
            Env=["A=image", "B=image", "PATH=/bin"],
            WorkingDir="/made/for/it",
            Entrypoint=["sh", "-c", "id -u; id -g; id -G; pwd; echo $A $B $HOME $0 $1"],
            Cmd=["zero", "one"],
        )
        found = await run(made, env={"B": "stage"})
        assert lines(found) == ["1000", "100", "100 200", "/made/for/it", "image stage /home/student zero one"]

    async def test_an_entrypoint_of_the_stage_drops_the_images_arguments(self, image: Image, run: Run) -> None:
        made = image(Entrypoint=["false"], Cmd=["zero"])
        assert lines(await run(made, "echo $0 $#")) == ["sh 0"]

    async def test_arguments_alone_are_a_command(self, image: Image, run: Run) -> None:
        assert lines(await run(image(Cmd=["echo", "hello"]))) == ["hello"]

    @pytest.mark.parametrize(("user", "ids"), [("7", "7 0"), ("7:8", "7 8"), ("student:lab", "1000 200"), ("", "0 0")])
    async def test_users(self, image: Image, run: Run, user: str, ids: str) -> None:
        made = image(layer(("etc/passwd", self.PASSWD), ("etc/group", self.GROUP)), User=user)
        assert lines(await run(made, "echo $(id -u) $(id -g)")) == [ids]

    async def test_a_user_that_the_image_does_not_have(self, image: Image, run: Run) -> None:
        with pytest.raises(ContainerError, match="unable to find user nobody") as raised:
            await run(image(User="nobody"), "true")
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.START, False)

    async def test_a_passwd_file_that_is_a_link_to_the_hosts(self, image: Image, run: Run) -> None:
        with pytest.raises(ContainerError, match="unable to find user daemon"):
            await run(image(layer(("etc/passwd", "-> /proc/1/root/etc/passwd")), User="daemon"), "true")


class TestStages:
    async def test_the_root_directory_is_of_limited_size(self, image: Image, run: Run) -> None:
        found = await run(image(), "dd if=/dev/zero of=/big bs=1M count=100", size=Size(8 * 2**20, 1000))
        assert found.exit_code != 0
        assert "No space left" in found.output

    async def test_a_stage_does_not_see_the_files_of_the_one_before(self, image: Image, run: Run) -> None:
        made = image()
        await run(made, "touch /file; rm /bin/cat")
        assert (await run(made, "test ! -e /file && test -e /bin/cat")).exit_code == 0

    async def test_an_untrusted_stage_can_open_its_output_again(self, image: Image, run: Run) -> None:
        found = await run(image(), "echo again >/dev/stdout; echo error >/proc/self/fd/2", untrusted=True)
        assert sorted(lines(found)) == ["again", "error"]

    async def test_a_private_umask_of_the_grader_changes_nothing(self, image: Image, run: Run) -> None:
        before = os.umask(0o077)  # as its unit of systemd has it
        try:
            made = image(layer(("d/file", "content")))
            found = await run(made, "stat -c %a / /d; cat /etc/hostname /etc/hosts /d/file; echo", untrusted=True)
        finally:
            os.umask(before)
        printed = lines(found)
        assert found.exit_code == 0
        assert printed[:2] == ["755", "755"]
        assert any("localhost" in line for line in printed)
        assert "content" in printed

    async def test_an_untrusted_stage_has_the_strict_profile(self, image: Image, run: Run) -> None:
        script = "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; touch /x 2>&1; touch /sys/fs/cgroup/x 2>&1; id -u"
        printed = lines(await run(image(), script, untrusted=True))
        assert [line.split()[-1] for line in printed[:7]] == ["0" * 16] * 5 + ["1", "2"]
        assert all("Read-only" in line for line in printed[7:9])
        assert printed[9] == "65534"

    async def test_a_stage_with_a_network_is_refused_without_an_engine(self, image: Image, run: Run) -> None:
        with pytest.raises(ContainerError, match="a network, which --runtime oci leaves to an engine") as raised:
            await run(image(), "true", networking=True)
        assert (raised.value.phase, raised.value.retryable) == (FaultPhase.CREATE, False)

    async def test_a_program_may_die_of_a_closed_pipe(self, image: Image, run: Run) -> None:
        (ignored,) = lines(await run(image(), "grep SigIgn /proc/self/status | cut -f 2"))
        assert not int(ignored, 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)

    async def test_usage(self, image: Image, run: Run) -> None:
        script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; head -c 20000000 /dev/zero | tail -c 1 >/dev/null"
        usage = (await run(image(), script)).usage
        assert usage.image.startswith("sha256:")
        assert 0.02 < usage.cpu_seconds < 20
        assert 10**6 < usage.peak_memory < 10**9
        assert usage.start_seconds > 0

    async def test_our_filter_allows_no_call_that_an_engine_refuses(
        self, api: docker.APIClient, busybox_image: str
    ) -> None:
        host = api.create_host_config(cap_drop=["ALL"], security_opt=["no-new-privileges:true"])
        made = api.create_container(busybox_image, entrypoint=["sleep", "1000"], host_config=host)["Id"]
        try:
            api.start(made)
            (spec,) = (path for path in Path("/run").rglob("config.json") if path.parent.name == made)
            filters = json.loads(spec.read_text())["linux"]["seccomp"]["syscalls"]
        finally:
            api.remove_container(made, force=True)
        theirs = {name for each in filters if each["action"] == "SCMP_ACT_ALLOW" for name in each["names"]}
        conditional = {name for each in filters if each.get("args") for name in each["names"]}
        ours = {rule.name for rule in RULES if not rule.error}
        assert ours <= theirs
        assert conditional <= {rule.name for rule in RULES if rule.arguments} | (theirs - ours)


class TestStore:
    def test_two_stores_unpack_the_same_image_once(self, image: Image, tmp_path: Path) -> None:
        made = Layout(image(layer(("file", "x"))))
        stores = [Store(tmp_path / "cache"), Store(tmp_path / "cache")]
        image_id = made.find(NAME, MACHINE)
        assert image_id
        opened = [store.add(image_id, lambda _: made.open(NAME, MACHINE)) for store in stores]
        assert opened[0].layers == opened[1].layers
        assert len(list((tmp_path / "cache" / "layers").iterdir())) == 2
        for each in opened:
            each.close()

    def test_unused_images_are_removed_and_used_images_stay(self, image: Image, tmp_path: Path) -> None:
        made, store = Layout(image(layer(("file", "x")))), Store(tmp_path / "cache")
        image_id = made.find(NAME, MACHINE)
        assert image_id
        opened = store.add(image_id, lambda _: made.open(NAME, MACHINE))
        assert Store(tmp_path / "cache").collect(unused_for=-1) == 0
        assert all(directory.is_dir() for directory in opened.layers)
        opened.close()
        assert store.collect(unused_for=3600) == 0
        assert store.collect(unused_for=-1) == 1
        assert store.get(image_id) is None
        assert [list((tmp_path / "cache" / name).iterdir()) for name in ("images", "layers", "incoming")] == [
            [],
            [],
            [],
        ]

    def test_leftovers_of_an_interrupted_unpacking_do_no_harm(self, image: Image, tmp_path: Path) -> None:
        made, store = Layout(image()), Store(tmp_path / "cache")
        image_id = made.find(NAME, MACHINE)
        assert image_id
        with made.open(NAME, MACHINE) as contents:
            (tmp_path / "cache" / "incoming" / contents.diff_ids[0] / "half").mkdir(parents=True)
        store.add(image_id, lambda _: made.open(NAME, MACHINE)).close()
        assert not list((tmp_path / "cache" / "incoming").iterdir())

    def test_a_directory_without_a_layout_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(LayerError, match=r"index\.json"):
            Layout(tmp_path).find(NAME, MACHINE)


class TestHost:
    async def test_a_missing_runtime_is_reported(self, image: Image, tmp_path: Path) -> None:
        with pytest.raises(ContainerError, match="there is no crane: the package crun has it"):
            async with connected(image(), tmp_path / "work", program="crane"):
                pass

    async def test_a_program_other_than_crun_is_refused(self, image: Image, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.write_text("#!/bin/sh\necho runc version 1.1.5\n")
        other.chmod(0o755)
        with pytest.raises(ContainerError, match=r"is not crun, built with seccomp: it says runc version 1\.1\.5"):
            async with connected(image(), tmp_path / "work", program=str(other)):
                pass


GRADER = """
import asyncio, sys
from pathlib import Path
from broadway.domain.assignment import Stage
from broadway.grader.oci.containers import OciContainers, OciOptions
from broadway.grader.oci.places import LAYOUT, Place
from broadway.grader.ports import Labels, Limits
from broadway.grader.sandbox.process_identity import own_identity

SCRIPT = "sleep 1000 & sleep 1000"

async def main(layout, work, name):
    options = OciOptions(place=Place(LAYOUT, Path(layout)))
    async with OciContainers.connect(slots=2, limits=Limits(), work_dir=Path(work), options=options) as containers:
        stage = Stage(image="image:1", networking=False, entrypoint=["sh", "-c", SCRIPT], timeout=900)
        labels = Labels(name, own_identity(), "job", name, 0, "d1")
        await containers.run(stage, mounts=[], labels=labels)

asyncio.run(main(*sys.argv[1:]))
"""


def traces(name: str) -> list[str]:
    """Return the directories, groups, mounts and processes of a container."""
    directories: Sequence[Path] = [*STATE.glob(f"*{name}*"), *STATE.parent.glob(f"runtime/*{name}*")]
    groups = [*ROOT.glob(f"*/{OURS}/*{name}*"), *ROOT.glob(f"{OURS}/*{name}*")]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]
    processes = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if name in path.read_text():
                processes.append(path)
    return [*map(str, directories), *map(str, groups), *mounts, *map(str, processes)]


async def test_a_killed_graders_container_is_removed_by_another(image: Image, tmp_path: Path) -> None:
    made, name = image(), f"killed-{token_hex(4)}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", GRADER, made, tmp_path / "work", name)
    container = STATE.parent / "runtime" / f"broadway-{name}-0" / "status"
    await until(container.exists)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert traces(name)
    async with connected(made, tmp_path / "work") as containers:
        whose = owner(STATE / f"broadway-{name}-0")
        assert whose is not None
        assert (whose.grader_id, whose.deployment) == (name, "d1")
        begun = time.monotonic()
        assert await containers.remove_orphans(lambda each: each == whose and has_ended(each.identity) is True) == 1
        if IS_WHOLE:
            assert time.monotonic() - begun < 10
    await until(lambda: not traces(name))


async def test_the_busybox_image_of_an_engine_is_unpacked(
    docker_host: str, busybox_image: str, tmp_path: Path, labels: Labels
) -> None:
    async with OciContainers.connect(
        slots=2, limits=Limits(), docker_host=docker_host, work_dir=tmp_path / "work"
    ) as containers:
        await containers.ensure_images([busybox_image])
        stage = Stage(image=BUSYBOX, networking=False, entrypoint=["echo", "hello"])
        assert lines(await containers.run(stage, mounts=[], labels=labels)) == ["hello"]
