"""What an installed pytoweb holds: what users import, and nothing of the demonstration, tests or tools."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
from pathlib import Path

import pytest

import pytoweb
from pytoweb import _report_page

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(pytoweb.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyi"))

OPTIONAL = {"cloudpickle", "opentelemetry", "prometheus_client", "rich", "typing_extensions"}
"""All that it imports of others: four where they are installed, one for type checkers alone."""

OUTSIDE = ("analyze", "cli", "console", "command")
"""Modules of the demonstration, which the package had once or might get by a slip."""


def imported(path):
    """Yields the top names of all modules that a file imports, wherever in it that is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


def is_of_others(name):
    """Whether a module is neither of the standard library nor of the package."""
    spec = importlib.util.find_spec(name)
    return spec is None or ("site-packages" in (spec.origin or "") and name != "pytoweb")


def test_the_package_has_no_module_of_the_demonstration():
    assert PACKAGE / "workers.py" in SOURCES
    assert not [path for path in SOURCES if path.stem in OUTSIDE or path.parent.name in OUTSIDE]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in SOURCES])
def test_a_module_imports_nothing_that_users_need_not_have(path):
    assert {name for name in imported(path) if is_of_others(name)} <= OPTIONAL


def test_the_installed_distribution_is_the_package_alone():
    distribution = importlib.metadata.distribution("pytoweb")
    # In a checkout a path file stands for the package.
    tops = {file.parts[0] for file in distribution.files or ()}
    assert {re.sub(r"^pytoweb-[\w.]+\.dist-info$", "dist-info", top) for top in tops} <= {
        "dist-info", "pytoweb", "pytoweb.pth",
    }  # fmt: skip
    assert "dist-info" in {top.rpartition(".")[2] for top in tops}
    # A command would need a module for it.
    groups = sorted(entry.group for entry in distribution.entry_points)
    assert groups == ["opentelemetry_instrumentor", "pytest11"]


def test_the_wheel_is_made_of_a_folder_that_holds_the_package_alone():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = settings.partition("[tool.maturin]\n")[2].partition("\n[")[0]
    assert 'python-source = "python"\n' in section
    assert not re.search(r"^(include|data|python-packages)\b", section, re.MULTILINE)
    found = {path.name for path in (ROOT / "python").iterdir()} - {"__pycache__"}
    assert found == {"pytoweb"}
    assert (ROOT / "demo" / "analyze" / "command.py").exists()


def test_the_files_of_the_report_are_in_the_package():
    found = {path.name for path in (PACKAGE / _report_page.FILES).iterdir()}
    assert found == {"page.html", "page.css", *_report_page.SCRIPTS}
