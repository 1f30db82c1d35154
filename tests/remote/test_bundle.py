"""What a bundle holds, where it comes from, and that it is kept: the same bytes for the same contents."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest

from torpor.errors import HostFailed, MissingDependency
from torpor.remote import bundle, closure, contents, gpuextra, platforms, wheels
from torpor.remote.platforms import Platform, least_glibc, runs

OTHER = Platform((3, 10) if sys.version_info[:2] != (3, 10) else (3, 12), "x86_64", (2, 31))


def here() -> Platform:
    found = platforms.here()
    assert found is not None
    return found


def test_every_package_that_a_host_imports_is_in_it() -> None:
    wanted = closure.others() - sys.stdlib_module_names - {"compression"}  # which is of the standard library from 3.14 on
    assert "cryptography" in wanted
    assert wanted - {part.name.partition(".")[0] for part in (*contents.PARTS, contents.INSTEAD)} == set()


def test_only_what_a_host_runs_is_in_it() -> None:
    rooms = {name.split(".")[1] for name in closure.modules() if "." in name}
    assert rooms & {"bench", "cli", "control", "machines", "testing", "verify"} == set()
    assert {name for name in closure.modules() if name.startswith("torpor.ssh.")} <= {"torpor.ssh.base"}  # names of errors alone
    assert {"torpor.remote.serve", "torpor.codecs.planes", "torpor.storage.transport_http", "torpor.gpu.child"} <= set(closure.modules())


def test_where_the_host_is_as_here_no_network_is_needed(bundles: Path) -> None:
    found = contents.contents(here(), bundles)
    assert found["torpor/native/_kernels.so"]
    assert found["__main__.py"] == found["torpor/remote/entry.py"]
    assert "numpy/__init__.py" not in found  # with the kernels nothing asks for it
    assert not [name for name in found if name.endswith(".pyi") or "__pycache__" in name or "dist-info" in name]
    assert not list(bundles.glob("wheels-*"))


def test_the_same_contents_are_the_same_bytes(tmp_path: Path) -> None:
    first = bundle.pack({"b/c": b"1", "a": b"2"})
    assert bundle.pack({"a": b"2", "b/c": b"1"}) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert [(entry.name, entry.mtime, entry.uid, entry.uname, entry.mode) for entry in archive] == [
            ("a", 0, 0, "", 0o644),
            ("b/c", 0, 0, "", 0o644),
        ]
    names = {bundle.name_of(one) for one in ({"a": b"2"}, {"a": b"3"}, {"b": b"2"}, {"a": b"", "b": b"2"})}
    assert len(names) == 4


def test_it_is_made_once_and_made_anew_when_it_went_bad(tmp_path: Path) -> None:
    made = []

    def make() -> contents.Contents:
        made.append(1)
        return {"file": os.urandom(100)}

    first = bundle.kept("key", make, tmp_path)
    assert bundle.kept("key", make, tmp_path) == first
    assert len(made) == 1
    first.path(tmp_path).write_bytes(b"something else")
    second = bundle.kept("key", make, tmp_path)
    assert second != first
    assert not first.path(tmp_path).exists()
    second.path(tmp_path).unlink()
    (tmp_path / "made-key.json").write_text("{")
    bundle.kept("key", make, tmp_path)
    assert len(made) == 3
    old = tmp_path / f"old{bundle.SUFFIX}"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    bundle.kept("other", make, tmp_path)
    assert not old.exists()
    assert {path.stat().st_mode & 0o077 for path in [tmp_path]} == {0}


def test_of_many_who_want_it_at_once_one_makes_it(tmp_path: Path) -> None:
    """A run that wakes many machines has a thread for each."""
    made, start = [], threading.Barrier(8)

    def make() -> contents.Contents:
        made.append(1)
        return {"file": os.urandom(1 << 20)}

    def ask(_: int) -> bundle.Bundle:
        start.wait(20)
        return bundle.kept("key", make, tmp_path)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(made) == 1


TAGS: dict[str, tuple[list[str], tuple[int, int] | None]] = {
    "old enough": (["cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_28_x86_64"], (2, 17)),
    "newer": (["cp311-abi3-manylinux_2_34_x86_64"], (2, 34)),
    "by year": (["cp311-cp311-manylinux2014_x86_64"], (2, 17)),
    "anywhere": (["py3-none-any"], (2, 0)),
    "made on its machine": (["cp311-cp311-linux_x86_64"], None),
    "another processor": (["cp311-cp311-manylinux_2_17_aarch64"], None),
    "another libc": (["cp311-cp311-musllinux_1_2_x86_64"], None),
}


@pytest.mark.parametrize("kind", TAGS)
def test_tags(kind: str) -> None:
    tags, least = TAGS[kind]
    assert least_glibc(tags, "x86_64") == least


def test_the_kernels_run_where_their_c_library_is() -> None:
    kernels = contents.own(here())["torpor/native/_kernels.so"]
    assert runs(kernels, here())
    other = "aarch64" if here().architecture == "x86_64" else "x86_64"
    assert not runs(kernels, Platform(here().python, other, here().glibc))
    assert not runs(kernels, Platform(here().python, here().architecture, (2, 1)))
    assert not runs(b"MZ\x90\0" + kernels, here())


def wheel(folder: Path, name: str, tag: str, files: dict[str, str]) -> None:
    """A wheel as an index has it."""
    project, version = name.split("-")
    with zipfile.ZipFile(folder / f"{name}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        about = f"{name}.dist-info"
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n")
        archive.writestr(f"{about}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, in place of any index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_for_another_python_wheels_are_fetched(index: Path, tmp_path: Path) -> None:
    python = "cp{}{}".format(*OTHER.python)
    for part in contents.PARTS:
        project, version = part.name.replace("-", "_"), metadata.version(part.name)
        inside = part.keep[0].replace("*", "x.py") if part.keep != ("*",) else f"{project}.py"
        files = {inside: version, f"{project}-{version}.data/platlib/{part.name}_lib/{inside}": "", "tests/x.py": "", "unused/x.pyi": ""}
        wheel(index, f"{project}-{version}", f"{python}-{python}-manylinux_2_17_x86_64", files)
        wheel(index, f"{project}-{version}", f"{python}-{python}-manylinux_2_36_x86_64", {"too/new.py": ""})
        wheel(index, f"{project}-999", f"{python}-{python}-manylinux_2_17_x86_64", {"not/tested.py": ""})
    wheel(index, f"numpy-{metadata.version('numpy')}", f"{python}-{python}-manylinux_2_17_x86_64", {"numpy/__init__.py": ""})
    found = contents.contents(OTHER, tmp_path / "cache")
    packages = {name: data for name, data in found.items() if not name.startswith(("torpor/", "__main__"))}
    assert found["blake3.py"].decode() == metadata.version("blake3")
    assert "msgspec_lib/msgspec.py" in packages
    assert not [name for name in packages if name.startswith(("too/", "not/", "tests/", "unused/"))]
    assert ("typing_extensions.py" in packages) == (OTHER.python < (3, 11))
    for path in index.iterdir():
        path.unlink()
    assert contents.contents(OTHER, tmp_path / "cache") == found  # they were kept


def test_wheels_that_cannot_be_had_are_told(index: Path, tmp_path: Path) -> None:
    with pytest.raises(HostFailed, match=r"can't be fetched.*blake3"):
        wheels.fetch(["blake3"], OTHER, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_pip_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="no pip") as caught:
        wheels.fetch(["blake3"], OTHER, tmp_path / "cache")
    assert "ensurepip" in caught.value.remedy


def test_requirements_are_never_newer_than_what_is_here() -> None:
    assert wheels.requirement("blake3") == f"blake3>=1.0,<={metadata.version('blake3')}"
    assert wheels.requirement("cffi") == f"cffi<={metadata.version('cffi')}"
    assert wheels.requirement("no-such-package") == "no-such-package"


EXTRAS = {
    "": "", "470.256.02": "", "525.60.13": "gpu-cuda12", "535.154.05": "gpu-cuda12", "570.86.15": "gpu-cuda12", "580.65.06": "gpu-cuda13",
    "1000.1": "gpu-cuda13",
}  # fmt: skip


@pytest.mark.parametrize("driver", EXTRAS)
def test_the_extra_follows_the_driver(driver: str) -> None:
    assert gpuextra.extra(driver) == EXTRAS[driver]


def test_extras_are_torpors_own() -> None:
    for _, name in gpuextra.BRANCHES:
        (asked,) = gpuextra.requirements(name)
        assert asked.startswith(f"cupy-cuda{name[-2:]}x")


def test_a_gpu_that_cannot_be_helped_is_a_note(index: Path, tmp_path: Path) -> None:
    assert gpuextra.bundle_for("", here(), tmp_path / "cache") == ([], "The host shows no NVIDIA driver.")
    assert "older than CUDA 12" in gpuextra.bundle_for("470.1", here(), tmp_path / "cache")[1]
    found, why = gpuextra.bundle_for("580.65.06", here(), tmp_path / "cache")
    assert found == []
    assert "cupy-cuda13x" in why
