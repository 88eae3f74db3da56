"""The map of the modules: which imports are arrows, and what is said of circles."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "map.py"
spec = importlib.util.spec_from_file_location("the_map", SCRIPT)
drawing = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = drawing
spec.loader.exec_module(drawing)


@pytest.fixture
def tree(tmp_path):
    """Makes a checkout of one crate and a package out of texts."""

    def make(**files):
        (tmp_path / "crates" / "one" / "src").mkdir(parents=True)
        (tmp_path / "crates" / "one" / "Cargo.toml").write_text("[package]\n")
        (tmp_path / "python" / "pytoweb").mkdir(parents=True)
        (tmp_path / drawing.DOCUMENT).write_text(f"before\n{drawing.BEGIN}\n{drawing.END}\nafter\n")
        for name, text in {"lib_rs": "", "__init___py": "", **files}.items():
            stem, _, kind = name.rpartition("_")
            parent = tmp_path / ("crates/one/src" if kind == "rs" else "python/pytoweb")
            path = parent / (stem.replace("__in__", "/") + "." + kind)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def arrows(root, folder):
    (found,) = (one for one in drawing.read_all(root) if one.name == folder)
    return {f"{source} -> {target}{' lazy' * one.lazy}" for (source, target), one in found.arrows.items()}


@pytest.mark.parametrize(
    "text",
    [
        "use crate::b::Thing;",
        "use crate::{c, b::{self, Thing}};",
        "use super::b;",
        "fn f() { crate::b::thing(); }",
        "impl<'a> Thing<'a> { fn f(&self) -> char { '\"' } }\nuse crate::b::Thing; // \"",
        "use crate::Thing;",
        "#[cfg(test)]\nmod tests { fn f() { if true {} } }\nuse crate::b::Thing;",
        "#[cfg(not(test))]\nuse crate::b::Thing;",
    ],
)
def test_a_path_in_rust_is_an_arrow(tree, text):
    root = tree(lib_rs="mod a;\npub use b::Thing;", a_rs=text, b_rs="", c_rs="")
    assert "a -> b" in arrows(root, "crates/one")


@pytest.mark.parametrize(
    "text",
    [
        "// use crate::b;",
        "/* use crate::b; */",
        'const A: &str = "use crate::b;";',
        'const A: &str = r#"use "crate::b;"#;',
        "#[cfg(all(test, not(other)))]\nuse crate::b;",
        "#[cfg(test)]\n#[allow(unused)]\nfn f() { crate::b::g(); }",
        "pub(in crate::b) fn f() {}",
        "use self::b::Thing;",
    ],
)
def test_what_is_no_import_in_rust_is_no_arrow(tree, text):
    root = tree(a_rs=text, b_rs="")
    assert arrows(root, "crates/one") == set()


def test_a_module_for_tests_is_left_out_with_its_children(tree):
    text = '#[cfg(all(test, other))]\n#[path = "a/models.rs"]\nmod models;'
    root = tree(a_rs=text, a__in__models_rs="use crate::b;", b_rs="")
    assert arrows(root, "crates/one") == set()


def test_neighbours_in_a_folder_are_told_apart_and_their_parent_is_none(tree):
    root = tree(
        a_rs="mod x;\nmod y;\npub use y::Thing;\npub struct Own;",
        a__in__x_rs="use super::{Own, Thing};\nuse crate::b;",
        a__in__y_rs="",
        b_rs="",
    )
    assert arrows(root, "crates/one/a") == {"x -> y"}
    assert arrows(root, "crates/one") == {"a -> b"}


def test_imports_in_python_are_arrows_and_those_in_functions_are_lazy(tree):
    root = tree(
        a_py="from . import b\nfrom pytoweb.c import thing\nimport pytoweb.d\n",
        b_py="def f():\n    from .c import thing\n    return thing\n",
        c_py="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import thing\n",
        d_py="import os\n",
    )
    assert arrows(root, "python/pytoweb") == {"a -> b", "a -> c", "a -> d", "b -> c lazy"}


CIRCLE = {"a_rs": "use crate::b;", "b_rs": "use crate::c;", "c_rs": "use crate::a;", "d_rs": "use crate::a;"}


def test_a_circle_is_a_complaint_that_says_where(tree):
    (said,) = drawing.complaints(drawing.read_all(tree(**CIRCLE)), {})
    assert said.startswith("crates/one: a circle: a b c\n")
    assert "b -> c  crates/one/src/b.rs:1" in said


def test_a_known_circle_is_none(tree):
    assert drawing.complaints(drawing.read_all(tree(**CIRCLE)), {"crates/one": ["a b c"]}) == []


@pytest.mark.parametrize(
    ("listed", "said"),
    [("a b c d", "only this is left: a b c"), ("a d", "it is gone")],
)
def test_the_list_of_known_circles_may_only_get_shorter(tree, listed, said):
    complaints = drawing.complaints(drawing.read_all(tree(**CIRCLE)), {"crates/one": [listed]})
    assert any("make the list of known circles shorter" in one and said in one for one in complaints)


def test_layers_import_from_lower_ones_alone(tree):
    root = tree(a_rs="use crate::b;\nuse crate::d;", b_rs="use crate::c;", c_rs="", d_rs="use crate::c;")
    (folder,) = (one for one in drawing.read_all(root) if one.name == "crates/one")
    assert drawing.layers(folder) == [[["a"]], [["b"], ["d"]], [["c"]]]


def run(root, *arguments):
    command = [sys.executable, SCRIPT, "--root", root, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_map_that_is_not_the_codes_fails_until_it_is_written(tree, monkeypatch):
    root = tree(a_rs="use crate::b;", b_rs="")
    assert "is not that of the code" in run(root).stderr
    run(root, "--write")
    document = (root / drawing.DOCUMENT).read_text()
    assert document.startswith("before\n") and document.endswith("\nafter\n")
    assert "    a\n    b\n" in document
    assert "is not that of the code" not in run(root).stderr
