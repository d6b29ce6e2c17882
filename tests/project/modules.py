"""The modules of the three packages, and what they import, read from their syntax."""

import ast
from functools import cache

from tests.fixtures.project import PROJECT

PACKAGES = ("model", "pipelines", "serving")
FILES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((PROJECT / package).rglob("*.py"))
}
"""Every module with its file."""


@cache
def parsed(path):
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def tree(module):
    return parsed(FILES[module])


def imports(nodes, module):
    """Return the modules that import statements name; `from model.networks import losses` names the module."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively in line {node.lineno}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return frozenset(found)


@cache
def all_imports(module):
    """Return every import of a module, those inside functions too."""
    return imports(ast.walk(tree(module)), module)


@cache
def import_time(module):
    """Return what is imported as soon as the module is: neither inside functions nor only for type checkers."""

    def reached(nodes):
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            yield node
            yield from reached(ast.iter_child_nodes(node))

    return imports(reached(tree(module).body), module)


def package(name):
    return name.partition(".")[0]


def own(names):
    return {name for name in names if package(name) in PACKAGES}


def closure(module):
    """Return all that is imported with a module, by way of this project's own modules."""
    found, waiting = set(), {module}
    while waiting:
        names = import_time(waiting.pop())
        waiting |= own(names) - found
        found |= names
    return found
