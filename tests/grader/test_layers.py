"""Unpacking the layers of images from anywhere: entries that lead out, that are no files, and that cost too much."""

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from images import layer

from broadway.grader.oci.compression import uncompressed, zstd
from broadway.grader.oci.entries import LayerError
from broadway.grader.oci.layers import Room, unpack
from broadway.grader.oci.sources import MAX_LAYERS, Contents, Layout
from broadway.grader.sandbox import tree

ROOM = 2**24, 1000
Change = Callable[[tarfile.TarInfo], None]


@pytest.fixture
def into(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "layer"
    made.mkdir()
    yield made
    tree.remove_all(made)  # which is deeper than others can remove


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


def with_attributes(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return a header with attributes, for the next entry or for all later ones."""
    return entry("attributes", kind, data=records)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n"
    length = next(number for number in range(len(body), len(body) + 9) if len(f"{number}{body}") == number)
    return f"{length}{body}".encode()


def sparse(size: int, pairs: str = "0,0") -> bytes:
    return with_attributes(record("GNU.sparse.map", pairs) + record("GNU.sparse.size", str(size)))


def test_a_sparse_file_counts_with_all_its_holes(into: Path) -> None:
    with pytest.raises(LayerError, match="--images-max-size"):
        unpacked(archive(sparse(2**40), entry("holes")), into)


def test_no_entry_gives_room_back(into: Path) -> None:
    bomb = entry("zeros", data=bytes(2**25))
    with pytest.raises(LayerError, match="negative"):
        unpacked(archive(sparse(-(2**40)), entry("d", tarfile.DIRTYPE), bomb), into)


def test_directories_without_entries_count_as_files(into: Path) -> None:
    deep = [with_attributes(record("path", f"d{number}/" + "d/" * 60 + "file")) + entry("x") for number in range(20)]
    with pytest.raises(LayerError, match="--images-max-files"):
        unpacked(archive(*deep), into)
    assert len(list(into.rglob("*"))) <= ROOM[1]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([with_attributes(record("path", "d/" * 1900 + ".wh.x")), entry("x")], "--images-max-files"),
        ([with_attributes(record("path", "d/" * 400_000)), entry("x")], "name is too long"),
        ([with_attributes(b"")] * 2000 + [entry("x")], "recursion"),
        ([with_attributes(record("a", "b" * 300_000))] * 4 + [entry("x")], "headers of an entry are too large"),
        ([entry("x", tarfile.GNUTYPE_LONGNAME, data=bytes(300_000))] * 4 + [entry("x")], "headers of an entry"),
        ([with_attributes(record("SCHILY.xattr.user.a", "b" * 5000)), entry("x")], "too large attributes"),
        ([with_attributes(b"2 " * 1000 + b"=\n"), entry("x")], "malformed"),
        ([with_attributes(b"9 =abcd\n" + b"\0"), entry("x")], "malformed"),
        ([with_attributes(b"99 a=b\n"), entry("x")], "malformed"),
        ([with_attributes(b"5 abc"), entry("x")], "malformed"),
        ([with_attributes(record("comment", "1" * 200)), entry("x")], "number"),
        (
            [with_attributes(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")), entry("x")],
            "sparse file whose map",
        ),
    ],
    ids=["deep", "long", "chain", "attributes", "names", "large", "records-within-records", "no-key", "cut-off",
         "no-end", "digits", "map-in-data"],
)  # fmt: skip
def test_headers_cost_a_bounded_amount(entries: list[bytes], reason: str, into: Path) -> None:
    with pytest.raises(LayerError, match=reason):
        unpacked(archive(*entries), into)


def test_attributes_of_all_entries_are_ignored(into: Path) -> None:
    of_all = with_attributes(record("SCHILY.xattr.user.of_all", "x" * 1000), tarfile.XGLTYPE)
    assert unpacked(archive(of_all, entry("a"), of_all, entry("b")), into) == {"a", "b"}
    assert os.listxattr(into / "a") == os.listxattr(into / "b") == []


def test_attributes_of_users_on_a_link_are_left_out(into: Path) -> None:
    attribute = with_attributes(record("SCHILY.xattr.user.x", "y"))
    data = archive(attribute, entry("link", tarfile.SYMTYPE, link="file"), attribute, entry("file"))
    assert unpacked(data, into) == {"link", "file"}
    assert os.getxattr(into / "file", "user.x") == b"y"


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
