"""Images made for other processors than the host's."""

from pathlib import Path

import pytest

from broadway.grader.sandbox.architectures import mismatch

# The entry of an emulator for arm64 in the kernel's list, as registered by qemu's packages.
ARM64 = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: {flags}
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


@pytest.fixture
def emulators(tmp_path: Path) -> Path:
    made = tmp_path / "binfmt_misc"
    made.mkdir()
    (made / "status").write_text("enabled\n")
    (made / "python3").write_text("enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic 6f0d0d0a\n")
    return made


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("linux/amd64", "amd64"),
        ("linux/amd64", "x86_64"),
        ("linux/arm64", "aarch64"),
        ("linux/386", "amd64"),
        ("linux/arm", "arm64"),
        ("/", "amd64"),
        ("linux/", "amd64"),
        ("linux/arm64", ""),
    ],
)
def test_an_image_that_fits_or_is_not_known(emulators: Path, image: str, host: str) -> None:
    assert mismatch(image, host, emulators=emulators) is None


@pytest.mark.parametrize(
    ("image", "host", "named"),
    [
        ("linux/arm64", "x86_64", ("linux/arm64", "linux/amd64")),
        ("linux/amd64", "aarch64", ("linux/amd64", "linux/arm64")),
        ("linux/amd64", "i686", ("linux/amd64", "linux/386")),
        ("linux/loong64", "amd64", ("linux/loong64", "linux/amd64")),
        ("windows/amd64", "amd64", ("windows/amd64", "linux/amd64")),
    ],
)
def test_the_reason_names_both_architectures(emulators: Path, image: str, host: str, named: tuple[str, str]) -> None:
    problem = mismatch(image, host, emulators=emulators)
    assert problem == f"it is made for {named[0]}, and this grader's host is {named[1]}"
    assert mismatch(image, host, emulators=None) == problem
    assert mismatch(image, host, emulators=emulators / "missing") == problem


@pytest.mark.parametrize(
    ("entry", "is_fit"),
    [
        (ARM64.format(flags="OCF"), True),
        (ARM64.format(flags="OC"), False),
        (ARM64.format(flags="F").replace("enabled", "disabled"), False),
        (ARM64.format(flags="F").replace("b700", "f300"), False),
        (ARM64.format(flags="F").replace("7f454c46", "nonsense"), False),
        ("enabled", False),
    ],
)
def test_an_emulator_that_works_in_containers_makes_an_image_fit(emulators: Path, entry: str, *, is_fit: bool) -> None:
    (emulators / "qemu-aarch64").write_text(entry)
    assert (mismatch("linux/arm64", "amd64", emulators=emulators) is None) is is_fit
    assert mismatch("windows/arm64", "amd64", emulators=emulators) is not None
