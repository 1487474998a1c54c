"""What others may build on: the public names, and the packages that an installation brings along."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import macbind
import macbind.machines
from macbind.core import errors

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "controller" / "macbind"
NAME_ON_PYPI = {
    "dns": "dnspython",
    "libvirt": "libvirt-python",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
}


def test_every_public_name_can_be_imported() -> None:
    """Each name of ``__all__`` is there, and ``dir`` after importing all shows no other public one."""
    for name in macbind.__all__:
        assert getattr(macbind, name) is not None
    for name in macbind.machines.__all__:
        assert getattr(macbind.machines, name) is not None


def test_every_error_is_public() -> None:
    """Whoever catches an error of the documentation can import it from the top."""
    classes = {
        name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)
    }
    assert classes <= set(macbind.__all__)


def test_the_types_of_public_names_are_known_to_checkers() -> None:
    """The imports that type checkers read name the same things as those made at run time."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    read = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("macbind.")
        for alias in node.names
    }
    made = {name: import_module(f"macbind.{home}").__name__ for name, home in macbind._HOME_OF.items()}
    assert read == made


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    done = subprocess.run(
        [sys.executable, "-c", "from macbind import Clinet"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "cannot import name 'Clinet'" in done.stderr


def _imported() -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"macbind"}


def test_every_import_is_declared_and_every_dependency_used() -> None:
    """An installation brings along exactly what the package imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["libvirt"], *extras["postgresql"]]
    names = {re.split(r"[<>=\[]", one)[0] for one in declared}
    imported = {NAME_ON_PYPI.get(one, one.replace("_", "-")) for one in _imported()}
    # SQLAlchemy imports the driver by the URL, uvicorn the parser by its name.
    assert names == imported | {"psycopg", "httptools"}
