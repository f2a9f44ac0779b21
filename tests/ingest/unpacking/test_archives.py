"""Archives that students hand in: usual ones are unpacked; each kind of bad one is refused with its entry's name."""

import gzip
import hashlib
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from broadway.domain.files import PLAIN, PROGRAM, FileLimits, FileRefusedError
from broadway.ingest.unpacking.archives import entries

LIMITS = FileLimits(files=10, unpacked=100_000)

Files = dict[str, bytes]


def zipped(files: Files, *, method: int = zipfile.ZIP_DEFLATED, attributes: int = 0o100644 << 16) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.create_system, info.compress_type = attributes, 3, method
            archive.writestr(info, content)
    return data.getvalue()


def tarred(files: Files, *, mode: int = 0o644, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.type, info.linkname = len(content), mode, kind, target
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def unpack(archive: bytes, limits: FileLimits = LIMITS) -> dict[str, bytes]:
    return {each.path: b"".join(each.pieces) for each in entries(io.BytesIO(archive), limits)}


def refusal(archive: bytes, limits: FileLimits = LIMITS) -> str:
    with pytest.raises(FileRefusedError) as caught:
        unpack(archive, limits)
    return str(caught.value)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_come_out_as_they_went_in(pack: Callable[[Files], bytes]) -> None:
    files = {"main.c": b"int main;", "src/übung.c": bytes(range(256)) * 300, "empty": b""}

    assert unpack(pack(files)) == files


def test_programs_stay_programs_and_other_modes_are_lost() -> None:
    archives = [
        zipped({"run": b""}, attributes=0o104755 << 16),
        tarred({"run": b""}, mode=0o4711),
        zipped({"run": b""}, attributes=0o100666 << 16),
        tarred({"run": b""}, mode=0o000),
    ]

    modes = [next(entries(io.BytesIO(archive), LIMITS)).mode for archive in archives]

    assert modes == [PROGRAM, PROGRAM, PLAIN, PLAIN]


def test_directories_and_files_of_desktops_are_left_out() -> None:
    litter = {"d/": b"", "d/a": b"x", "__MACOSX/._a": b"x", "d/.DS_Store": b"x"}

    assert unpack(zipped(litter)) == {"d/a": b"x"}


def test_names_of_tar_may_begin_with_the_present_directory() -> None:
    assert unpack(tarred({"./a": b"1", "./d/b": b"2"})) == {"a": b"1", "d/b": b"2"}


def test_names_of_old_tools_are_read_in_their_code_page_or_as_utf_8() -> None:
    old = zipped({"xxbung.c": b""}).replace(b"xxbung.c", b"x\x81bung.c")
    unflagged = zipped({"xxxbung.c": b""}).replace(b"xxxbung.c", "xübung.c".encode())
    windows = zipped({"src|a.c": b""}).replace(b"src|a.c", b"src\\a.c")

    assert [*unpack(old), *unpack(unflagged), *unpack(windows)] == ["xübung.c", "xübung.c", "src/a.c"]


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../x", "../x: .. is not a name inside the submission"),
        ("report/../x", "report/../x: .. is not a name"),
        ("/etc/x", "/etc/x: an absolute path"),
        ("a\nb", "a\\nb: the name has control characters"),
    ],
    ids=ascii,
)
def test_names_outside_of_the_submission_are_refused(pack: Callable[[Files], bytes], name: str, problem: str) -> None:
    assert refusal(pack({"ok": b"", name: b"x"})).startswith(problem)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_that_would_overwrite_each_other_are_refused(pack: Callable[[Files], bytes]) -> None:
    assert refusal(pack({"A.c": b"", "a.c": b""})) == (
        "A.c and a.c differ only in case: some systems take them for one file"
    )


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_too_many_files_are_refused(pack: Callable[[Files], bytes]) -> None:
    most = {f"f{number}": b"" for number in range(LIMITS.files)}

    assert len(unpack(pack(most))) == LIMITS.files
    assert "a submission may have 10 files" in refusal(pack(most | {"one-more": b""}))
    assert "a submission may have 10 files" in refusal(pack({f"f{number}": b"" for number in range(1000)}))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_bombs_are_refused_before_they_are_large(pack: Callable[[Files], bytes]) -> None:
    assert "a submission may have 100000 bytes" in refusal(pack({"zeros": bytes(3_000_000)}))


def test_names_cut_at_nul_are_refused() -> None:
    assert "control characters" in refusal(zipped({"axb": b""}).replace(b"axb", b"a\0b"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_of_a_zip_are_refused(kind: int) -> None:
    assert refusal(zipped({"passwd": b"/etc/passwd"}, attributes=(kind | 0o777) << 16)).startswith(
        "passwd is a link or a device"
    )


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_links_and_devices_of_a_tar_are_refused(kind: bytes) -> None:
    assert refusal(tarred({"passwd": b""}, kind=kind, target="main.c")).startswith("passwd is a link or a device")


@pytest.mark.parametrize(
    ("size", "problem"),
    [(10, "a is broken: Bad CRC-32"), (2000, "a has 1000 bytes where the archive's directory says")],
)
def test_a_lying_size_is_refused(size: int, problem: str) -> None:
    archive = zipped({"a": b"x" * 1000})
    true, false = struct.pack("<L", 1000), struct.pack("<L", size)
    directory = archive.rindex(b"PK\x01\x02")
    size_in_directory = directory + 24
    assert archive[size_in_directory : size_in_directory + 4] == true

    lying = archive[:size_in_directory] + false + archive[size_in_directory + 4 :]

    assert refusal(lying).startswith(problem)


def test_encrypted_entries_are_refused() -> None:
    archive = bytearray(zipped({"secret": b"x"}))
    directory = archive.rindex(b"PK\x01\x02")
    archive[directory + 8] |= 1

    assert refusal(bytes(archive)) == "secret is encrypted; expected an archive without a password"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_uncommon_compression_is_refused(method: int) -> None:
    assert "a method other than deflate" in refusal(zipped({"a": b"x"}, method=method))


def test_headers_do_not_count_as_no_bytes() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 10_000_000

    assert "larger" in refusal(gzip.compress(header.tobuf() + b"1" * header.size))


@pytest.mark.parametrize(
    ("archive", "problem"),
    [
        (b"", "neither a zip nor a tar.gz"),
        (b"7z\xbc\xaf\x27\x1c", "neither a zip nor a tar.gz"),
        (b"PK\x03\x04 and no more", "broken"),
        (gzip.compress(b"hello"), "broken"),
        (b"\x1f\x8b", "broken"),
        (
            tarred({"a": b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(1600))})[:30_000],
            "broken",
        ),
        (zipped({"a": b"x" * 5000})[:-8], "broken"),
    ],
    ids=["empty", "7z", "not-a-zip", "not-a-tar", "not-gzip", "cut-tar", "cut-zip"],
)
def test_other_data_is_refused(archive: bytes, problem: str) -> None:
    assert problem in refusal(archive)


def test_damaged_content_is_refused() -> None:
    archive = zipped({"a": b"content" * 100}, method=zipfile.ZIP_STORED)

    assert "broken" in refusal(archive.replace(b"contentcontent", b"contentCONTENT", 1))
