"""One Python file of a class and of what it uses of this project, for where that is not installed.

Diffusers loads one file for each component of a folder. Copies written by hand would drift from
the code that trained the model; these are made of the same source, statement by statement.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from textwrap import indent
from typing import Any

from lct_pipeline import __version__

PACKAGE = "lct_pipeline"
HEADER = '''"""{title}

Made by `kedro run --pipeline=export` of the source of lct_pipeline {version}: do not edit.
SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations

{imports}'''


@dataclass
class _Module:
    """A module, and where the names at its top level come from.

    Attributes:
        docstring: What it says of itself.
        lines: Its source.
        defined: The statement that defines a name, in the order of the module.
        borrowed: The module of this project that a name is imported from.
        imported: The line that imports a name of another library.
    """

    docstring: str
    lines: list[str]
    defined: dict[str, ast.stmt] = field(default_factory=dict)
    borrowed: dict[str, str] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)


Taken = dict[str, str]  # the module of each name


def single_file(thing: Callable[..., Any]) -> str:
    """Return the source of a class or function with all that it uses of this project.

    What is not used is left out. Imports of other libraries stay as they are.

    Raises:
        ValueError: Two modules use one name for different things, or a function imports from the
            project inside: neither can be said in one file.
    """
    main = thing.__module__
    taken: Taken = {}
    _take(main, thing.__name__, taken)
    uses = {
        name: sorted({*_read(name).borrowed.values()} & {*taken.values()})
        for name in sorted({*taken.values()})
    }
    header = HEADER.format(
        title=_read(main).docstring.splitlines()[0],
        version=__version__,
        imports="\n".join(_imports(taken)),
    )
    parts = [header]
    for name in TopologicalSorter(uses).static_order():
        module = _read(name)
        if name != main:
            parts.append(indent(f"{name}\n{module.docstring}", "# "))
        mine = (s for known, s in module.defined.items() if taken.get(known) == name)
        parts += [_text(statement, module.lines) for statement in mine]
    return "\n\n\n".join(parts) + "\n"


@cache
def _read(name: str) -> _Module:
    source = inspect.getsource(import_module(name))
    tree = ast.parse(source)
    module = _Module(ast.get_docstring(tree) or "", source.splitlines())
    for statement in tree.body:
        _sort(statement, module)
    return module


def _sort(statement: ast.stmt, module: _Module) -> None:
    """File one statement at the top level under the names that it gives."""
    match statement:
        case ast.ImportFrom(module="__future__") | ast.Expr():
            return  # the header has the first; the docstring is kept apart
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=imports):
            for inner in imports:
                _sort(inner, module)
        case ast.ImportFrom(module=str(origin), names=names):
            for alias in names:
                known_as = alias.asname or alias.name
                if _of_project(statement):
                    module.borrowed[known_as] = origin
                else:
                    line = ast.unparse(ast.ImportFrom(origin, [alias], 0))
                    module.imported[known_as] = line
        case ast.Import(names=names):
            for alias in names:
                line = ast.unparse(ast.Import([alias]))
                module.imported[alias.asname or alias.name] = line
        case (
            ast.FunctionDef(name=name)
            | ast.ClassDef(name=name)
            | ast.Assign(targets=[ast.Name(id=name)])
            | ast.AnnAssign(target=ast.Name(id=name))
        ):
            module.defined[name] = statement
        case _:
            raise ValueError(f"line {statement.lineno}: no statement for a single file")


def _of_project(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE)


def _take(module: str, name: str, taken: Taken) -> None:
    """Add a name of a module, and all that its statement uses of the project."""
    if taken.get(name) == module:
        return
    if name in taken:
        raise ValueError(f"{name} is in {taken[name]} and in {module}")
    taken[name] = module
    source = _read(module)
    for used in sorted(_used(source.defined[name])):
        if used in source.defined:
            _take(module, used, taken)
        elif used in source.borrowed:
            _take(source.borrowed[used], used, taken)


def _used(statement: ast.stmt) -> set[str]:
    """Return the names that a statement uses."""
    nodes = list(ast.walk(statement))
    if any(_of_project(node) for node in nodes):
        raise ValueError(
            f"line {statement.lineno}: an import of the project inside a function"
        )
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _imports(taken: Taken) -> list[str]:
    """Return the imports of other libraries that are used, the plain ones first."""
    lines = set()
    for name, module in taken.items():
        source = _read(module)
        used = _used(source.defined[name])
        lines |= {source.imported[name] for name in used & source.imported.keys()}
    return sorted(lines, key=lambda line: (line.startswith("from"), line))


def _text(statement: ast.stmt, lines: list[str]) -> str:
    """Return the lines of a statement, with its decorators and the comments right above."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(d.lineno for d in decorators)]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : statement.end_lineno])
