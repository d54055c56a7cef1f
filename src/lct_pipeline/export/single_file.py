"""One Python file of a module and of what it uses of this project, for where that is not installed.

Diffusers loads one file for each component of a folder. Copies written by hand would drift from
the code that trained the model; these are made of the same source, statement by statement.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lct_pipeline import __version__

PACKAGE = "lct_pipeline"
HEADER = '''"""{title}

Made by `kedro run --pipeline=export` of the source of {package} {version}: do not edit.
SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations
'''


@dataclass
class _Module:
    """The statements of a module at its top level, and where its other names come from."""

    name: str
    docstring: str
    lines: list[str]
    statements: list[ast.stmt] = field(default_factory=list)
    defined: dict[str, ast.stmt] = field(default_factory=dict)
    borrowed: dict[str, tuple[str, str]] = field(default_factory=dict)  # of the project
    imported: dict[str, str] = field(default_factory=dict)  # the line of the import
    for_types: dict[str, str] = field(default_factory=dict)  # under TYPE_CHECKING


def single_file(module: str) -> str:
    """Return the source of a module of this project with all that it uses of others.

    What is not used is left out. Imports of other libraries stay as they are.

    Args:
        module: Full name; everything in it is taken.

    Raises:
        ValueError: Two modules use one name for different things, or a function imports from the
            project inside: neither can be said in one file.
    """
    parts = _needed(module)
    _check_names(parts)
    header = HEADER.format(
        title=_read(module).docstring.splitlines()[0],
        package=PACKAGE,
        version=__version__,
    )
    imports = _imports(parts)
    bodies = [
        _body(_read(name), kept, titled=name != module) for name, kept in parts.items()
    ]
    text = "\n".join([header, imports, *bodies])
    return re.sub("\n{4,}", "\n\n\n", text).rstrip() + "\n"


@cache
def _read(name: str) -> _Module:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text()
    tree = ast.parse(source)
    module = _Module(name, ast.get_docstring(tree) or "", source.splitlines())
    for statement in tree.body:
        _sort(statement, module)
    return module


def _sort(statement: ast.stmt, module: _Module) -> None:
    """File one statement at the top level under what it is."""
    match statement:
        case ast.ImportFrom(module="__future__") | ast.Expr():
            return  # the header has the first; the docstring is kept apart
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            for inner in statement.body:
                assert isinstance(inner, ast.Import | ast.ImportFrom)
                if not _of_project(inner):
                    module.for_types |= _lines_of(inner)
        case ast.ImportFrom() if _of_project(statement):
            for alias in statement.names:
                known_as = alias.asname or alias.name
                module.borrowed[known_as] = (str(statement.module), alias.name)
        case ast.Import() | ast.ImportFrom():
            module.imported |= _lines_of(statement)
        case _:
            module.statements.append(statement)
            module.defined |= dict.fromkeys(_names_defined(statement), statement)


def _of_project(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.ImportFrom)
        and str(statement.module).split(".")[0] == PACKAGE
    )


def _lines_of(statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Return the import of each name as a line of its own."""
    start = (
        f"from {statement.module} import"
        if isinstance(statement, ast.ImportFrom)
        else "import"
    )
    lines = {}
    for alias in statement.names:
        known_as = alias.asname or alias.name
        text = alias.name if known_as == alias.name else f"{alias.name} as {known_as}"
        lines[known_as.split(".")[0]] = f"{start} {text}"
    return lines


def _names_defined(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [node.id for node in targets if isinstance(node, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    raise ValueError(f"line {statement.lineno}: cannot be taken into a single file")


def _names_used(statement: ast.stmt) -> set[str]:
    nodes = list(ast.walk(statement))
    if any(_of_project(node) for node in nodes if isinstance(node, ast.stmt)):
        raise ValueError(
            f"line {statement.lineno}: an import of the project inside a function"
        )
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _needed(module: str) -> dict[str, list[ast.stmt]]:
    """Return the statements that are used of each module, modules after those that they use."""
    kept: dict[str, list[ast.stmt]] = {}
    order: list[str] = []

    def take(name: str, statement: ast.stmt) -> None:
        if statement in kept.setdefault(name, []):
            return
        kept[name].append(statement)
        source = _read(name)
        for used in sorted(_names_used(statement)):
            if used in source.defined:
                take(name, source.defined[used])
            elif used in source.borrowed:
                other, original = source.borrowed[used]
                take(other, _read(other).defined[original])

    def visit(name: str) -> None:
        for other in sorted({origin for origin, _ in _read(name).borrowed.values()}):
            if other in kept and other not in order:
                visit(other)
        if name not in order:
            order.append(name)

    for statement in _read(module).statements:
        take(module, statement)
    visit(module)
    return {name: kept[name] for name in order}


def _check_names(parts: dict[str, list[ast.stmt]]) -> None:
    origins: dict[str, str] = {}
    for module, statements in parts.items():
        source = _read(module)
        for known_as, (_, original) in source.borrowed.items():
            if known_as != original:
                raise ValueError(f"{module}: {original} is imported by another name")
        for name in (n for s in statements for n in _names_defined(s)):
            if origins.setdefault(name, module) != module:
                raise ValueError(f"{name} is in {origins[name]} and in {module}")


def _imports(parts: dict[str, list[ast.stmt]]) -> str:
    """Return the imports of other libraries that the statements use, the plain ones first."""
    lines, for_types = set(), set()
    for module, statements in parts.items():
        source = _read(module)
        used = {name for s in statements for name in _names_used(s)}
        lines |= {source.imported[name] for name in used & source.imported.keys()}
        for_types |= {source.for_types[name] for name in used & source.for_types.keys()}
    if for_types:
        lines.add("from typing import TYPE_CHECKING")
        guarded = ["if TYPE_CHECKING:", *(f"    {line}" for line in sorted(for_types))]
    else:
        guarded = []
    plain = sorted(lines, key=lambda line: (line.startswith("from"), line))
    return "\n".join([*plain, "", *guarded]) + "\n"


def _body(module: _Module, kept: list[ast.stmt], *, titled: bool) -> str:
    """Return the kept statements in the order of their module, below what that says of itself."""
    title = [f"# {module.name}", *module.docstring.splitlines()] if titled else []
    comment = "\n".join(re.sub("^(?!#)", "# ", line).rstrip() for line in title)
    texts = [_text(s, module.lines) for s in module.statements if s in kept]
    return "\n\n".join(["", comment, *texts]) if titled else "\n\n".join(["", *texts])


def _text(statement: ast.stmt, lines: list[str]) -> str:
    """Return the lines of a statement, with its decorators and the comments right above."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(d.lineno for d in decorators)]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    text = "\n".join(lines[first : statement.end_lineno])
    is_block = isinstance(statement, ast.FunctionDef | ast.ClassDef)
    return f"\n{text}\n" if is_block else text
