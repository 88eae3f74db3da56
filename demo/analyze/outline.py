"""The outline of a module: its functions with their complexity, its classes, its imports.

Cyclomatic complexity follows T. J. McCabe, "A Complexity Measure", IEEE Transactions on Software
Engineering SE-2(4), 1976: the number of predicates plus one, where each condition of a compound
predicate counts and an N-way case counts N - 1. In Python's terms a function has 1, and

====================================================  =====================================
construct                                             adds
====================================================  =====================================
`if`, `elif`, `x if c else y`                         1
`for`, `async for`, `while`                           1 (their `else`: 0)
`except`, `except*`                                   1 each (`try`, `else`, `finally`: 0)
`assert`                                              1
`and`, `or`                                           1 per operator
a comprehension                                       1 per `for`, 1 per `if`
`case` of a `match`                                   1, and 1 for its guard; `case _` and
                                                      `case name` match everything and add 0
`with`, `lambda`, `return`, `raise`, `a < b < c`      0
====================================================  =====================================

A nested function is counted on its own and adds nothing to the one around it. Code that runs in
the enclosing scope counts there: decorators, default values, annotations, the body of a class.
Branches inside a `lambda` count for the function it is written in. Code outside any function is not
counted.
"""

from __future__ import annotations

import ast
from typing import Any, Callable, NamedTuple

from analyze.facts import FunctionFacts


class Outline(NamedTuple):
    """What a module defines and imports; the fields are those of `FileFacts`."""

    functions: tuple[FunctionFacts, ...]
    classes: int
    imports: tuple[str, ...]


class _Scope:
    """A body that is still to be walked, and what its decisions count for."""

    __slots__ = ("function", "nodes", "prefix")

    def __init__(self, nodes: list[Any], prefix: str, function: _Function | None) -> None:
        self.nodes = nodes
        self.prefix = prefix
        self.function = function


class _Function:
    """A function whose body is still to be counted."""

    __slots__ = ("complexity", "line", "lines", "name")

    def __init__(self, name: str, node: Any) -> None:
        self.name = name
        self.line: int = node.lineno
        self.lines: int = node.end_lineno - node.lineno + 1
        self.complexity = 1


def _one(node: Any) -> int:
    return 1


def _operators(node: Any) -> int:
    return len(node.values) - 1


def _comprehension(node: Any) -> int:
    return 1 + len(node.ifs)


def _case(node: Any) -> int:
    # A name or `_` matches everything: a MatchAs without a pattern of its own.
    irrefutable = type(node.pattern).__name__ == "MatchAs" and node.pattern.pattern is None
    return (not irrefutable) + (node.guard is not None)


_DECISIONS: dict[type, Callable[[Any], int]] = {
    ast.If: _one,
    ast.IfExp: _one,
    ast.For: _one,
    ast.AsyncFor: _one,
    ast.While: _one,
    ast.ExceptHandler: _one,
    ast.Assert: _one,
    ast.BoolOp: _operators,
    ast.comprehension: _comprehension,
}
if hasattr(ast, "match_case"):  # Python 3.10
    _DECISIONS[ast.match_case] = _case

# Half of all nodes; nothing below them is counted.
_LEAVES = frozenset([ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del, ast.Pass])


def _push_children(node: Any, nodes: list[Any]) -> None:
    """Puts the children of `node` that may matter on the stack `nodes`."""
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            nodes.extend(item for item in value if isinstance(item, ast.AST) and type(item) not in _LEAVES)
        elif isinstance(value, ast.AST) and type(value) not in _LEAVES:
            nodes.append(value)


def outline_module(tree: ast.AST) -> Outline:
    """Counts what is in a parsed module.

    Walks with a stack of its own: no nesting of the source is too deep for it.

    Args:
        tree: What `ast.parse` returned.

    Returns:
        The functions by line, the number of classes, the imported top-level modules.
    """
    functions: list[_Function] = []
    classes = 0
    imports: set[str] = set()
    scopes = [_Scope([tree], "", None)]
    while scopes:
        scope = scopes.pop()
        nodes, decisions = scope.nodes, 0
        while nodes:
            node = nodes.pop()
            kind = type(node)
            count = _DECISIONS.get(kind)
            if count is not None:
                decisions += count(node)
            elif kind is ast.FunctionDef or kind is ast.AsyncFunctionDef:
                function = _Function(scope.prefix + node.name, node)
                functions.append(function)
                scopes.append(_Scope(list(node.body), function.name + ".<locals>.", function))
                nodes.extend([*node.decorator_list, node.args])
                nodes.extend(getattr(node, "type_params", ()))
                if node.returns is not None:
                    nodes.append(node.returns)
                continue
            elif kind is ast.ClassDef:
                classes += 1
                scopes.append(_Scope(list(node.body), f"{scope.prefix}{node.name}.", scope.function))
                nodes.extend([*node.decorator_list, *node.bases, *node.keywords])
                nodes.extend(getattr(node, "type_params", ()))
                continue
            elif kind is ast.Import:
                imports.update(alias.name.partition(".")[0] for alias in node.names)
                continue
            elif kind is ast.ImportFrom:
                if not node.level and node.module:
                    imports.add(node.module.partition(".")[0])
                continue
            _push_children(node, nodes)
        if scope.function is not None:
            scope.function.complexity += decisions
    functions.sort(key=lambda function: function.line)
    return Outline(
        tuple(FunctionFacts(f.name, f.line, f.lines, f.complexity) for f in functions),
        classes,
        tuple(sorted(imports)),
    )
