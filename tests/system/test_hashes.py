"""`make install` takes no file that is not the one that was tested, wherever it comes from."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from labkit.installed import REPOSITORY, build, wheels


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This macbind."""
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def index(wheel: Path, tmp_path: Path) -> Path:
    """A directory of one's own with everything that macbind depends on."""
    place = tmp_path / "index"
    shutil.copytree(wheels(wheel), place)
    return place


def install(tree: Path, wheel: Path, index: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """`make install` as for a package, from that directory alone."""
    command = [
        *("make", "--silent", f"--directory={REPOSITORY}", "install", f"DESTDIR={tree}", f"WHEEL={wheel}"),
        *(f"PIP_ARGS=--no-index --find-links={index}", *more),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def change(index: Path, package: str) -> None:
    """Puts something into a package, under the same name and version."""
    (file,) = index.glob(f"{package}-*.whl")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{package}/evil.py", "import os")


def packages(tree: Path) -> Path:
    """Where the program's packages are."""
    return next((tree / "usr/local/lib/macbind/lib").glob("python3.*")) / "site-packages"


def test_what_was_tested_is_installed(tmp_path: Path, wheel: Path, index: Path) -> None:
    """With every hash right, everything is there, and nothing that macbind needs is missing."""
    done = install(tmp_path / "tree", wheel, index)
    assert done.returncode == 0, done.stderr
    python = tmp_path / "tree/usr/local/lib/macbind/bin/python"
    checked = subprocess.run(
        [python, "-Im", "pip", "check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.stdout.strip() == "No broken requirements found."
    assert (packages(tmp_path / "tree") / "psycopg_binary").exists()
    assert not (packages(tmp_path / "tree") / "pycdlib").exists()


def test_a_changed_package_is_refused(tmp_path: Path, wheel: Path, index: Path) -> None:
    """A package of the right name and version with other content ends the installation. Nothing of it is there."""
    change(index, "h11")
    done = install(tmp_path / "tree", wheel, index)
    assert done.returncode != 0
    assert "h11" in done.stderr
    assert "Nothing was installed; pip says why." in done.stderr
    assert not (packages(tmp_path / "tree") / "h11").exists()
    assert not (tmp_path / "tree/usr/local/bin/macbind").exists()


def test_an_upgrade_that_is_refused_leaves_what_runs(tmp_path: Path, wheel: Path, index: Path) -> None:
    """A changed package at an upgrade is refused before anything of the program is touched."""
    tree = tmp_path / "tree"
    assert install(tree, wheel, index).returncode == 0
    old = (packages(tree) / "uvicorn/__init__.py").read_bytes()
    shutil.rmtree(packages(tree) / "h11")
    shutil.rmtree(next(packages(tree).glob("h11-*.dist-info")))
    change(index, "h11")
    assert install(tree, wheel, index).returncode != 0
    assert (packages(tree) / "uvicorn/__init__.py").read_bytes() == old
    assert (packages(tree) / "macbind/__init__.py").exists()
    assert not (packages(tree) / "h11").exists()


def test_somebody_may_do_without(tmp_path: Path, wheel: Path, index: Path) -> None:
    """With HASHES=no the versions count alone, for a Python or a processor that the hashes do not cover."""
    change(index, "h11")
    done = install(tmp_path / "tree", wheel, index, "HASHES=no")
    assert done.returncode == 0, done.stderr
    assert (packages(tmp_path / "tree") / "h11/evil.py").exists()


def test_an_unknown_part_is_named(tmp_path: Path, wheel: Path, index: Path) -> None:
    """A part that there is not is named with those that there are."""
    done = install(tmp_path / "tree", wheel, index, "EXTRAS=mysql")
    assert done.returncode != 0
    assert "There is no optional part 'mysql': EXTRAS takes postgresql and libvirt." in done.stderr
