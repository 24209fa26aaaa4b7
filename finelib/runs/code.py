"""What a result's code is: the modules that it imports, parsed, so that comments and docstrings do not count."""

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "finelib"
# Pythons write the same code differently: since 3.12 with the type parameters of functions and classes, since 3.13
# without empty fields; the form of 3.11 is taken
AS_PYTHON_3_11 = {"show_empty": True} if sys.version_info >= (3, 13) else {}
NO_TYPE_PARAMETERS = ", type_params=[]"


def code_hash(*roots: str, without: Iterable[str] = ()) -> str:
    """Hash of the parsed code of some modules and of all of this package that they import.

    Args:
        roots: names, as "finelib.fine".
        without: modules whose own code counts, but not what they import.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(roots, without)):
        digest.update(f"{name}\0{_parsed(_path(name))[1]}".encode())
    return digest.hexdigest()


def closure(roots: Iterable[str], without: Iterable[str] = ()) -> set[str]:
    """The modules of this package that some modules import, directly or through others, and they themselves."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [] if name in without else imports(name)
    return found


def imports(name: str) -> list[str]:
    """The modules of this package that a module imports, wherever in it the import stands."""
    return _parsed(_path(name))[0]


@cache
def _path(name: str) -> Path | None:
    """The file of a module, None if there is no such module."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # its parent is a module, no package
        return None
    return Path(spec.origin) if spec and spec.origin else None


@cache
def _parsed(path: Path) -> tuple[list[str], str]:
    """The modules of this package that a file imports, and its code without docstrings, as text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = imported(tree)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            body[0] = ast.Pass()
    return found, ast.dump(tree, **AS_PYTHON_3_11).replace(NO_TYPE_PARAMETERS, "")


def imported(tree: ast.AST) -> list[str]:
    """The modules of this package that parsed code imports, without the package itself."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if _path(name) else node.module for name in inner]
    return [name for name in dict.fromkeys(found) if name != PACKAGE]


def data_files(modules: Iterable[str]) -> list[Path]:
    """The files that are no code in these modules' rooms: printed numbers, templates."""
    packages = {path.parent for name in modules if name.count(".") > 1 and (path := _path(name))}
    return sorted(path for package in packages for path in package.glob("*/*") if path.suffix not in (".py", ".pyc"))
