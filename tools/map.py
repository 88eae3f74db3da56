#!/usr/bin/env python3
"""Draws the map of the code from the code's own imports, and checks that they run one way.

A module imports from another one where it names it: `use crate::...` and paths in Rust, `import` and `from`
in Python, also inside a function. Where the paths of two modules part, the two names there are neighbours in
one folder, and the import is an arrow between those. A parent and its own children may name each other: they
are one room. Tests and models are left out.

    tools/map.py            checks: no new circle, no known one that is gone, and the map is that of the code
    tools/map.py --write    writes the map into ARCHITECTURE.md
    tools/map.py --arrows   prints every arrow between neighbours, with a place in the code that draws it
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

# The circles that are known, by folder, as its modules. The list may only get shorter: a circle that is not
# in it is an error, and so is one in it that has become smaller or is gone.
KNOWN_CIRCLES: dict[str, list[str]] = {}

DOCUMENT = "ARCHITECTURE.md"
BEGIN = "<!-- The map: `make map` writes it from the code. -->"
END = "<!-- The end of the map. -->"
WIDTH = 118

Module = tuple  # the names of its path, from the root of its crate or package on: () is the root itself


class Import(NamedTuple):
    """One import: where it stands, and which module it names."""

    source: Module
    target: Module
    place: str
    lazy: bool


class Tree(NamedTuple):
    """The modules of one crate or package, and their imports."""

    name: str
    modules: set[Module]
    imports: list[Import]


def blank(text: str) -> str:
    """Returns as many spaces, with the line ends kept."""
    return re.sub(r"[^\n]", " ", text)


# Comments, strings and characters, of which none may be taken for code. A lifetime is no character.
NOT_CODE = re.compile(
    r"""
    //[^\n]* | /\*.*?\*/
    | \bb?r(?P<hashes>\#*)".*?"(?P=hashes) | "(?:[^"\\]|\\.)*"
    | '(?:[^'\\\n]|\\[^\n]+?)'
    """,
    re.DOTALL | re.VERBOSE,
)
ATTRIBUTE = re.compile(r"#\[cfg\(")
VISIBLE_IN = re.compile(r"\bpub\s*\(in\s[^)]*\)")
USE = re.compile(r"\buse\s+([^;]+);")
PATH = re.compile(r"\b(?:crate|super)(?:\s*::\s*\w+)+")
FILE_MODULE = re.compile(r"\bmod\s+(\w+)\s*;")


def end_of(text: str, start: int, brackets: str) -> int:
    """Returns the index behind the bracket that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        if text[index] == brackets[0]:
            depth += 1
        elif text[index] == brackets[1]:
            depth -= 1
            if depth == 0:
                return index + 1
    return len(text)


def without_tests(text: str) -> tuple[str, set[str]]:
    """Blanks the items for tests alone. Returns the names of modules among them that are files."""
    files = set()
    at = 0
    while True:
        found = ATTRIBUTE.search(text, at)
        if not found:
            return text, files
        end = end_of(text, found.end() - 1, "()")
        condition = text[found.end() - 1 : end]
        at = end
        if not re.search(r"\btest\b", condition) or re.search(r"\bany\(|\bnot\(\s*test\b", condition):
            continue
        # The item: past its other attributes, to the end of its block or to the semicolon.
        item = end_of(text, found.start() + 1, "[]")
        while (more := re.compile(r"\s*#\[").match(text, item)) is not None:
            item = end_of(text, more.end() - 1, "[]")
        stop = re.compile(r";|\{").search(text, item)
        if stop is None:
            return text, files
        is_use = re.compile(r"\s*(?:pub\b[^;]*?)?\buse\b").match(text, item)
        if text[stop.start()] == "{" and not is_use:
            end = end_of(text, stop.start(), "{}")
        else:
            end = text.index(";", item) + 1
        files.update(FILE_MODULE.findall(text[item:end]))
        text = text[: found.start()] + blank(text[found.start() : end]) + text[end:]
        at = end


def branches(tree: str) -> list[list[str]]:
    """Splits what a `use` names into paths; an `as` counts as the last name of its path."""
    head, brace, rest = tree.partition("{")
    if not brace:
        path, _, alias = tree.partition(" as ")
        names = [name.strip() for name in path.split("::") if name.strip()]
        return [[*names, "as", alias.strip()] if alias else names]
    inside = rest.rpartition("}")[0]
    parts, depth, part = [], 0, ""
    for char in inside:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += char
    prefix = [name.strip() for name in head.split("::") if name.strip()]
    return [prefix + branch for one in [*parts, part] if one.strip() for branch in branches(one)]


def absolute(path: list[str], module: Module) -> list[str] | None:
    """Returns a path from the root of the crate, or `None` if it leads elsewhere or to a child."""
    if path[0] == "crate":
        return path[1:]
    if path[0] == "self":
        return [*module, *path[1:]]
    ups = 0
    while ups < len(path) and path[ups] == "super":
        ups += 1
    if not ups:
        return None
    return [*module[: len(module) - ups], *path[ups:]]


class RustSource(NamedTuple):
    """A file of Rust without its tests, and what it names."""

    file: Path
    paths: list[tuple[list[str], int]]
    exports: dict[str, list[str]]


def read_rust(file: Path, module: Module) -> tuple[RustSource, set[str]]:
    """Reads one file. Returns also the names of its modules that are for tests."""
    text = NOT_CODE.sub(lambda found: blank(found.group()), file.read_text(encoding="utf-8"))
    text, tests = without_tests(text)
    text = VISIBLE_IN.sub(lambda found: blank(found.group()), text)
    paths, exports = [], {}
    for found in USE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        for branch in branches(" ".join(found.group(1).split())):
            alias = branch[-1]
            if "as" in branch:
                branch = branch[: branch.index("as")]
            if branch[-1] == "self":
                branch = branch[:-1]
                alias = branch[-1] if alias == "self" else alias
            path = absolute(branch, module)
            # A path without `crate` may begin with a child.
            exports[alias] = [*module, *branch] if path is None else path
            if path is not None:
                paths.append((path, line))
    text = USE.sub(lambda found: blank(found.group()), text)
    for found in PATH.finditer(text):
        path = absolute(re.split(r"\s*::\s*", found.group()), module)
        if path is not None:
            paths.append((path, text.count("\n", 0, found.start()) + 1))
    return RustSource(file, paths, exports), tests


def rust_tree(crate: Path, root: Path) -> Tree:
    """Reads the modules of a crate. A file is the module of its path, whatever attribute says so."""
    sources: dict[Module, RustSource] = {}
    tests: set[Module] = set()
    src = crate / "src"
    # A parent before its children, so that those of a module for tests are known as such.
    for file in sorted(src.rglob("*.rs"), key=lambda file: (len(file.parts), file)):
        names = file.relative_to(src).with_suffix("").parts
        module: Module = () if names == ("lib",) else names
        if any(module[:depth] in tests for depth in range(1, len(module) + 1)):
            continue
        sources[module], of_tests = read_rust(file, module)
        tests.update((*module, name) for name in of_tests)
    sources = {
        module: source
        for module, source in sources.items()
        if not any(module[:depth] in tests for depth in range(1, len(module) + 1))
    }

    def resolve(path: list[str], source: Module, depth: int = 0) -> Module:
        """Follows what a parent passes on, for those inside it: to them it hides no arrow."""
        length = max(size for size in range(len(path) + 1) if size == 0 or tuple(path[:size]) in sources)
        module, rest = tuple(path[:length]), path[length:]
        passed_on = sources[module].exports.get(rest[0]) if rest and module in sources else None
        if passed_on is None or depth == 8 or source[: len(module)] != module:
            return module
        return resolve([*passed_on, *rest[1:]], source, depth + 1)

    imports = [
        Import(module, resolve(path, module), f"{source.file.relative_to(root)}:{line}", lazy=False)
        for module, source in sources.items()
        for path, line in source.paths
    ]
    return Tree(str(crate.relative_to(root)), set(sources), imports)


def python_tree(package: Path, root: Path) -> Tree:
    """Reads the modules of a package. Those for the type checker alone are no imports."""
    files: dict[Module, Path] = {}
    for file in sorted(package.rglob("*.py")):
        names = file.relative_to(package).with_suffix("").parts
        files[names[:-1] if names[-1] == "__init__" else names] = file
    trees = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in files.items()}
    named = {
        module: list(python_imports(tree, module, files, package.name)) for module, tree in trees.items()
    }

    def resolve(path: tuple[str, ...], source: Module, depth: int = 0) -> Module:
        """As for Rust: a package hides no arrow of those inside it."""
        length = max(size for size in range(len(path) + 1) if path[:size] in files)
        module, rest = path[:length], path[length:]
        if rest and depth < 8 and source[: len(module)] == module:
            for other, name, _, _ in named[module]:
                if name == rest[0]:
                    return resolve((*other, *rest[1:]), source, depth + 1)
        return module

    imports = [
        Import(module, resolve(path, module), f"{files[module].relative_to(root)}:{line}", lazy)
        for module, paths in named.items()
        for path, _, line, lazy in paths
    ]
    return Tree(str(package.relative_to(root)), set(files), imports)


def python_imports(tree: ast.AST, module: Module, files: dict[Module, Path], package: str):
    """Yields the imports of its own package: path, local name, line, and whether inside a function."""
    is_package = files[module].name == "__init__.py"

    def visit(node: ast.AST, lazy: bool):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                yield from visit(child, lazy)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                names = tuple(alias.name.split("."))
                if names[0] == package:
                    yield names[1:], alias.asname or "", node.lineno, lazy
        elif isinstance(node, ast.ImportFrom):
            names = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                parent = module if is_package else module[:-1]
                base = parent[: len(parent) - (node.level - 1)]
            elif names[:1] == (package,):
                base, names = (), names[1:]
            else:
                return
            for alias in node.names:
                yield (*base, *names, alias.name), alias.asname or alias.name, node.lineno, lazy
        else:
            inside = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(tree, False)


class Folder(NamedTuple):
    """The neighbours in one folder, and the arrows between them, each with an import that draws it."""

    name: str
    members: set[str]
    arrows: dict[tuple[str, str], Import]


def folders(tree: Tree) -> list[Folder]:
    """Sorts the imports of a tree into arrows between neighbours."""
    members: dict[Module, set[str]] = {}
    for module in tree.modules:
        if module:
            members.setdefault(module[:-1], set()).add(module[-1])
    arrows: dict[Module, dict[tuple[str, str], Import]] = {}
    for one in tree.imports:
        shared = 0
        while one.source[shared : shared + 1] == one.target[shared : shared + 1] != ():
            shared += 1
        if len(one.source) > shared and len(one.target) > shared:
            drawn = arrows.setdefault(one.source[:shared], {})
            arrow = (one.source[shared], one.target[shared])
            # An arrow is lazy where all its imports are.
            if arrow not in drawn or (drawn[arrow].lazy and not one.lazy):
                drawn[arrow] = one
    return [
        Folder("/".join([tree.name, *module]), names, arrows.get(module, {}))
        for module, names in sorted(members.items())
    ]


def circles(folder: Folder) -> list[list[str]]:
    """Returns the strongly connected components, after Tarjan, those that import from no other first."""
    following: dict[str, list[str]] = {name: [] for name in sorted(folder.members)}
    for source, target in sorted(folder.arrows):
        following[source].append(target)
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in following[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == name:
                    break
            found.append(sorted(component))

    for name in following:
        if name not in order:
            visit(name)
    return found


def layers(folder: Folder) -> list[list[list[str]]]:
    """Returns the layers, the highest first: but for its circles, each imports from lower ones."""
    components = circles(folder)
    layer_of: dict[str, int] = {}
    drawn: dict[int, list[list[str]]] = {}
    for component in components:
        below = [
            layer_of[target]
            for source, target in folder.arrows
            if source in component and target not in component
        ]
        height = max(below, default=-1) + 1
        layer_of.update(dict.fromkeys(component, height))
        drawn.setdefault(height, []).append(component)
    return [sorted(drawn[height]) for height in sorted(drawn, reverse=True)]


def draw(folder: Folder) -> list[str]:
    """Draws the layers of one folder, the modules of a circle in brackets; and which arrows are lazy."""

    def wrapped(words: str) -> list[str]:
        return textwrap.wrap(
            words,
            WIDTH,
            initial_indent=" " * 4,
            subsequent_indent=" " * 6,
            break_long_words=False,
            break_on_hyphens=False,
        )

    lines = [folder.name]
    for layer in layers(folder):
        lines += wrapped(" ".join(one[0] if len(one) == 1 else f"({' '.join(one)})" for one in layer))
    lazy: dict[str, list[str]] = {}
    for (source, target), one in sorted(folder.arrows.items()):
        if one.lazy:
            lazy.setdefault(source, []).append(target)
    if lazy:
        arrows = (f"{source} -> {' '.join(targets)}" for source, targets in lazy.items())
        lines += wrapped("in functions alone: " + ", ".join(arrows))
    return lines


def crates_of(root: Path) -> Folder:
    """Reads which crates depend on which, from their Cargo.toml; those that only tests need are left out."""
    members, arrows = set(), {}
    for manifest in sorted((root / "crates").glob("*/Cargo.toml")):
        crate, section = manifest.parent.name, ""
        members.add(crate)
        for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("["):
                section = line.strip("[] ")
            named = re.match(r"pytoweb-(\w+)", line)
            if named and section.endswith("dependencies") and not section.endswith("dev-dependencies"):
                place = f"{manifest.relative_to(root)}:{number}"
                arrows[crate, named.group(1)] = Import((crate,), (named.group(1),), place, lazy=False)
    return Folder("crates", members, arrows)


def read_all(root: Path) -> list[Folder]:
    """Reads all folders: the crates, the modules of each, and those of the package."""
    found = [crates_of(root)]
    for manifest in sorted((root / "crates").glob("*/Cargo.toml")):
        found += folders(rust_tree(manifest.parent, root))
    found += folders(python_tree(root / "python" / "pytoweb", root))
    return found


def picture(found: list[Folder]) -> str:
    """Draws the crates, and each tree's own layers: the folders inside are checked and not drawn."""
    drawn = [folder for folder in found if folder.name.count("/") < 2 and len(folder.members) > 1]
    blocks = ["\n".join(draw(folder)) for folder in drawn]
    return "\n".join([BEGIN, "```text", "\n\n".join(blocks), "```", END])


def complaints(found: list[Folder], known: dict[str, list[str]]) -> list[str]:
    """Compares the circles with those that are known."""
    wrong = []
    expected = {(name, frozenset(circle.split())) for name, listed in known.items() for circle in listed}
    seen = set()
    for folder in found:
        for component in circles(folder):
            if len(component) == 1:
                continue
            circle = (folder.name, frozenset(component))
            larger = [one for one in expected if one[0] == folder.name and one[1] >= circle[1]]
            if circle in expected:
                seen.add(circle)
                continue
            if larger:
                # Said below, of the one that is listed.
                continue
            inside = [
                f"    {source} -> {target}{' (lazy)' if one.lazy else ''}  {one.place}"
                for (source, target), one in sorted(folder.arrows.items())
                if source in component and target in component
            ]
            wrong.append(f"{folder.name}: a circle: {' '.join(component)}\n" + "\n".join(inside))
    for name, modules in sorted((name, sorted(modules)) for name, modules in expected - seen):
        parts = [
            " ".join(component)
            for folder in found
            if folder.name == name
            for component in circles(folder)
            if len(component) > 1 and set(component) <= set(modules)
        ]
        left = f"only this is left: {'; '.join(parts)}" if parts else "it is gone"
        wrong.append(f"{name}: make the list of known circles shorter, {' '.join(modules)}: {left}")
    return wrong


def main() -> int:
    """Checks, writes or prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write the map into {DOCUMENT}")
    parser.add_argument("--arrows", action="store_true", help="print every arrow")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parent.parent, help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    found = read_all(options.root)
    if options.arrows:
        for folder in found:
            for (source, target), one in sorted(folder.arrows.items()):
                print(f"{folder.name}: {source} -> {target}{' (lazy)' if one.lazy else ''}  {one.place}")
        return 0
    wrong = complaints(found, KNOWN_CIRCLES)
    document = options.root / DOCUMENT
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        print(f"map: {DOCUMENT} has no place for the map: {BEGIN} ... {END}", file=sys.stderr)
        return 1
    new = picture(found)
    if options.write:
        document.write_text(before + new + after, encoding="utf-8")
    elif BEGIN + old + END != new:
        wrong.append(f"the map in {DOCUMENT} is not that of the code: run `make map`, look at the difference")
    for one in wrong:
        print(f"map: {one}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
