"""Unpacking the layers of images from anywhere: entries that lead out, that are no files, and that cost too much."""

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from images import layer

from broadway.grader.oci.compression import uncompressed, zstd
from broadway.grader.oci.layers import LayerError, Room, unpack
from broadway.grader.oci.sources import MAX_LAYERS, Contents, Layout

ROOM = 2**24, 1000
Change = Callable[[tarfile.TarInfo], None]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    made = tmp_path / "layer"
    made.mkdir()
    return made


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "", **more: object) -> bytes:
    """Return the blocks of an entry."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, len(data)
    for key, value in more.items():
        setattr(made, key, value)
    return made.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + bytes(1024)


def unpacked(data: bytes, into: Path, room: tuple[int, int] = ROOM) -> set[str]:
    with uncompressed(io.BytesIO(data)) as plain:
        unpack(plain, into, Room(*room))
    return {str(path.relative_to(into)) for path in into.rglob("*")}


def test_entries_that_lead_out_of_the_layer_stay_in_it(into: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    data = archive(
        entry("../../up", data=b"1"),
        entry(f"{tmp_path}/absolute", data=b"2"),
        entry("link", tarfile.SYMTYPE, link=str(outside)),
        entry("../../.wh.hidden"),
    )
    found = unpacked(data, into)
    assert {"up", "link", "hidden", f"{tmp_path}/absolute".lstrip("/")} <= found
    assert not list(outside.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"layer", "outside"}


@pytest.mark.parametrize(
    "entries",
    [
        [entry("link", tarfile.SYMTYPE, link="/outside"), entry("link/file", data=b"x")],
        [entry("hard", tarfile.LNKTYPE, link="/etc/passwd")],
        [entry("hard", tarfile.LNKTYPE, link="../../../etc/passwd")],
        [entry("file", data=b"x"), entry("file/below", data=b"x")],
        [entry("loop", tarfile.SYMTYPE, link="loop"), entry("loop/below", data=b"x")],
        [entry(".wh.")],
        [entry("d/.wh..")],
        [entry("d/.wh...")],
        [entry("n" * 90 + "/" + "n" * 300, data=b"x")],
        [entry("old", tarfile.GNUTYPE_SPARSE)],
        [entry("x", tarfile.XHDTYPE, size=2**30)],
        [entry("x", tarfile.XGLTYPE, size=2**30)],
        [entry("x", tarfile.GNUTYPE_LONGNAME, size=2**30)],
        [entry("x", tarfile.GNUTYPE_LONGLINK, size=-1)],
        [entry("d", tarfile.DIRTYPE, mtime=2**70)],
    ],
    ids=[
        "file below a link out",
        "hard link to a path of the host",
        "hard link upwards",
        "file below a file",
        "file below a loop",
        "hides nothing",
        "hides itself",
        "hides its parent",
        "name too long",
        "old sparse file",
        "huge attributes",
        "huge attributes of all",
        "huge name",
        "negative link",
        "time too late",
    ],
)
def test_an_entry_that_cannot_be_unpacked_is_the_images_fault(entries: list[bytes], into: Path) -> None:
    with pytest.raises(LayerError):
        unpacked(archive(*entries), into)


def test_devices_are_left_out(into: Path) -> None:
    data = archive(
        entry("sda", tarfile.BLKTYPE, devmajor=8), entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3), entry("file")
    )
    assert unpacked(data, into) == {"file"}


def test_a_hidden_file_becomes_the_overlays_mark(into: Path) -> None:
    unpacked(archive(entry("d/.wh.gone"), entry("e/.wh..wh..opq")), into)
    mark = os.lstat(into / "d" / "gone")
    assert stat.S_ISCHR(mark.st_mode)
    assert mark.st_rdev == 0
    assert os.getxattr(into / "e", "trusted.overlay.opaque") == b"y"


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, bytes], ids=["gzip", "zstd", "plain"])
def test_data_above_the_limit_is_not_unpacked(compress: Callable[[bytes], bytes], into: Path) -> None:
    bomb = compress(archive(entry("zeros", data=bytes(2**25))))
    with pytest.raises(LayerError, match="--images-max-size"):
        unpacked(bomb, into)
    assert sum(path.stat().st_size for path in into.rglob("*")) <= ROOM[0]


def test_files_above_the_limit_are_not_unpacked(into: Path) -> None:
    with pytest.raises(LayerError, match="--images-max-files"):
        unpacked(archive(*(entry(f"d{number}", tarfile.DIRTYPE) for number in range(1001))), into)
    assert len(list(into.iterdir())) <= ROOM[1]


def test_a_sparse_file_counts_with_all_its_holes(into: Path) -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    made = tarfile.TarInfo("holes")
    content = f"1\n{2**40}\n0\n".encode().ljust(512, b"\0")
    made.size, made.pax_headers = len(content), {**headers, "GNU.sparse.name": "holes"}
    with pytest.raises(LayerError, match="--images-max-size"):
        unpacked(archive(made.tobuf(tarfile.PAX_FORMAT) + content), into)


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("change", ["truncated", "damaged"])
def test_damaged_layers_are_refused(compress: Callable[[bytes], bytes], change: str, into: Path) -> None:
    data = compress(layer(("file", os.urandom(50_000)), ("other", os.urandom(50_000))))
    changed = data[:-1000] if change == "truncated" else data[:40_000] + bytes(1000) + data[41_000:]
    digests = []
    for each in (data, changed):
        place = into / str(len(digests))
        place.mkdir()
        try:
            with uncompressed(io.BytesIO(each)) as plain:
                digests.append(unpack(plain, place, Room(*ROOM)))
        except LayerError as error:
            digests.append(str(error))
    assert digests[0] != digests[1]  # a changed digest is refused by the store


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({}, 1),
        ({"rootfs": []}, 1),
        ({"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}, 2),
        ({"rootfs": {"diff_ids": ["../../up"]}}, 1),
        ({"rootfs": {"diff_ids": ["sha256:" + "0" * 64] * (MAX_LAYERS + 1)}}, MAX_LAYERS + 1),
    ],
)
def test_a_config_without_a_digest_for_each_layer_is_refused(config: dict[str, object], layers: int) -> None:
    def opened() -> None:
        raise AssertionError

    with pytest.raises(LayerError):
        _ = Contents(config, [opened] * layers).diff_ids  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ("[]", "is not a JSON object"),
        ("[" * 100_000, "index"),
        ('{"manifests": [{"digest": "sha256:../../up", "annotations": {"io.containerd.image.name": "n"}}]}', "digest"),
        ('{"manifests": [1, {"annotations": 2}, {"annotations": {"io.containerd.image.name": "n"}}]}', "digest"),
    ],
)
def test_a_layout_that_is_not_well_formed_is_refused(tmp_path: Path, index: str, text: str) -> None:
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(LayerError, match=text):
        Layout(tmp_path).find("n", "x86_64")
