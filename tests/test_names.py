"""The check of names: which types it compares, and what it says of the list of exceptions."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "names.py"
spec = importlib.util.spec_from_file_location("the_names", SCRIPT)
names = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = names
spec.loader.exec_module(names)

TAKEN = "pub(crate) struct Entry<M> {\n    message: M,\n}\n"


@pytest.fixture
def complaints(tmp_path):
    """What is said of a checkout with these texts, each by its path."""

    def check(texts, **shared):
        for where, text in {"crates/one/src/entry.rs": TAKEN, **texts}.items():
            path = tmp_path / where
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return names.complaints(tmp_path, shared)

    return check


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("crates/one/src/other.rs", "struct Entry(u64);"),
        ("crates/two/src/other.rs", "pub enum Entry {\n    In,\n}"),
        ("crates/two/src/deep/other.rs", "pub(super) unsafe trait Entry {}"),
        ("crates/two/src/other.rs", "type Entry = (u64, u64);"),
        ("python/pytoweb/_other.py", "class Entry:\n    pass"),
    ],
)
def test_two_types_of_one_name_are_told_with_their_files(complaints, where, text):
    (said,) = complaints({where: text})
    assert said == f"Entry is defined in crates/one/src/entry.rs, {where}: rename one"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("crates/one/src/entry.rs", "#[cfg(unix)]\nstruct Entry;\n#[cfg(windows)]\nstruct Entry;\n"),
        ("crates/one/src/other.rs", "impl Handler for Job {\n    type Entry = u64;\n}"),
        ("crates/one/src/other.rs", "use crate::entry::Entry;\nstruct EntryOf(Entry);"),
        ("crates/one/src/entry/tests.rs", "struct Entry;"),
        ("crates/one/src/models/entries.rs", "struct Entry;"),
        ("crates/one/tests/entries.rs", "struct Entry;"),
        ("python/pytoweb/testing/_entries.py", "class Entry:\n    pass"),
    ],
)
def test_what_is_no_other_type_of_the_tree_is_let_be(complaints, where, text):
    assert complaints({where: text}) == []


def test_a_listed_name_may_be_that_of_several_types_and_of_no_fewer(complaints):
    other = {"crates/two/src/entry.rs": TAKEN}
    assert complaints(other, reason="Entry") == []
    (said,) = complaints(other, reason="Entry", another="Gone")
    assert said == "Gone is defined once, or nowhere: take it out of SHARED"


def test_the_tree_has_one_type_for_a_name():
    assert names.complaints(names.ROOT, names.SHARED) == []
