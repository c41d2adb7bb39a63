"""The code version of a step.  In: the modules that it starts from.  Out: one digest of all the source that decides its result.

The modules' imports inside kdtool are followed, those inside functions and those named in strings (job arrays, registries)
too, so that no list has to be kept by hand. C++ beside a module under the same name belongs to it. `kdtool.core` and
`kdtool.validate` are left out: they carry and judge results, they do not make them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kdtool.core.digest import combine

ROOT = Path(__file__).resolve().parents[2]
NOT_CODE = ("kdtool.core", "kdtool.validate")
NAME = re.compile(r"kdtool(?:\.\w+)+")
SUFFIXES = (".py", ".cc")


def code_digest(entries: Iterable[str]) -> str:
    """Digest of the entries (modules or packages) and all that they import; comments, layout and docstrings do not count."""
    waiting = [file for entry in entries for file in _files(entry)]
    found: dict[Path, str] = {}
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found[file], named = _read(file, file.stat().st_mtime_ns)
        waiting += [f for name in named if not name.startswith(NOT_CODE) for f in _files(name)]
    return combine(f"{file.relative_to(ROOT)} {found[file]}" for file in sorted(found))


@cache
def _read(file: Path, _time: int) -> tuple[str, set[str]]:
    """Digest of one file, and the modules that it names; parsed once, for asking about many steps in one process."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return combine([text]), set()
    tree = ast.parse(text, str(file))
    digest = _without_docstrings(tree)
    return digest, _named(tree)


def _files(name: str) -> list[Path]:
    """Source files of a module with the __init__ of its packages, or all files of a package; none for other names."""
    place = ROOT.joinpath(*name.split("."))
    if place.is_dir():
        return sorted(f for suffix in SUFFIXES for f in place.rglob(f"*{suffix}"))
    module = place.with_suffix(".py")
    if not module.exists():
        return []
    own = [f for suffix in SUFFIXES if (f := place.with_suffix(suffix)).exists()]
    return [*own, *(p / "__init__.py" for p in module.parents if p != ROOT and (p / "__init__.py").exists() and p.parent != ROOT)]


def _named(tree: ast.Module) -> set[str]:
    """Names of modules that the source imports or mentions; of 'from a import b' both a.b and, if that is none, a."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if NAME.fullmatch(alias.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and NAME.fullmatch(node.module):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {n for n in inner if _files(n)}
            names |= modules
            if len(modules) < len(inner):
                names.add(_module_itself(node.module))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(NAME.findall(node.value))
    return names


def _module_itself(name: str) -> str:
    """A package that is imported for a name defined in it counts by its __init__, not by all its modules."""
    return f"{name}.__init__" if ROOT.joinpath(*name.split(".")).is_dir() else name


def _without_docstrings(tree: ast.Module) -> str:
    """Take the docstrings out of the tree and give the digest of the rest."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and body and _is_text(body[0]):
            body.pop(0)
    return combine([ast.dump(tree)])


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
