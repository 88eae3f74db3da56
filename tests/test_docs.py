"""The documents: every Python block of the guide and the README runs, and every example.

A block that begins with a comment such as ``# app.py`` is that file: it is written, and imported where its
name allows it, as the program of the page would import it. ``test_frameworks.py`` runs what a page cannot run
by itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

WAIT = 50.0
"""Seconds for one page or one example."""

ROOT = Path(__file__).resolve().parent.parent
# The Rust pages are run by rustdoc, that of Jupyter as a notebook.
ELSEWHERE = ("rust.md", "rust-observability.md", "jupyter.md")
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs" / "guide").rglob("*.md")) if page.name not in ELSEWHERE),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TAKES_ARGUMENTS = re.compile(r"\b(argparse|sys\.argv)\b")

RUNNER = """
import importlib, pathlib, re, sys

page = pathlib.Path(sys.argv[1])
sys.path.insert(0, "")
text = page.read_text(encoding="utf-8")
names = {"__name__": "__main__", "__file__": str(page)}
for block in re.finditer(sys.argv[2], text, re.DOTALL | re.MULTILINE):
    file = re.match(r"# ([\\w.]+)\\.py\\n", block.group(1))
    if file:
        pathlib.Path(file.group(1) + ".py").write_text(block.group(1), encoding="utf-8")
        if file.group(1).isidentifier():
            module = importlib.import_module(file.group(1))
            names.update((name, value) for name, value in vars(module).items() if not name.startswith("__"))
        continue
    # Empty lines in front keep the line numbers of the page in every traceback.
    before = text.count("\\n", 0, block.start(1))
    exec(compile("\\n" * before + block.group(1), str(page), "exec"), names)
print("ran to the end")
"""


def named(paths):
    """Returns pytest parameters that are called by the file name."""
    return [pytest.param(path, id=path.name) for path in paths]


def finish(arguments, directory):
    """Runs an interpreter to its end; returns its stdout. Its failure is the failure of the test."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=WAIT,
            cwd=directory,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"no end within {WAIT} s; stdout {late.stdout!r}, stderr {late.stderr!r}")
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_are_pages_and_examples_with_python():
    assert len(PAGES) > 1, "the guide is missing"
    assert EXAMPLES, "the examples are missing"
    assert all(BLOCK.search(page.read_text(encoding="utf-8")) for page in PAGES)


@pytest.mark.parametrize("page", named(PAGES))
def test_the_blocks_of_a_page_run_in_order(page, tmp_path):
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER, encoding="utf-8")
    assert "ran to the end" in finish([str(runner), str(page), BLOCK.pattern], tmp_path)


@pytest.mark.parametrize("example", named(EXAMPLES))
def test_an_example_runs(example, tmp_path):
    # Those that take an argument take a folder of Python files.
    takes_folder = TAKES_ARGUMENTS.search(example.read_text(encoding="utf-8"))
    finish([str(example), *([str(example.parent)] if takes_folder else [])], tmp_path)


@pytest.mark.parametrize("example", named(EXAMPLES))
def test_an_example_is_short(example):
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda page: page.name
)
def test_links_to_files_lead_to_one(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    paths = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [path for path in paths if not (page.parent / path).exists()] == []
