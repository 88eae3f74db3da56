"""Hosted jobs, hooks and documents call make targets, and those are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


MAKEFILE = read("Makefile").replace("\\\n", "")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z_]+) *[?:]?=", MAKEFILE, re.MULTILINE))
PHONY = set(MAKEFILE.partition(".PHONY:")[2].partition("\n")[0].split()) - {"FORCE"}

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "crates").rglob("*.md")),
]

QUOTED = re.compile(r"`(make [^`\n]+)`")
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINE = re.compile(r"^(make\b.*?)(?: {2,}.*| </dev/null)?$", re.MULTILINE)


def check(command):
    """Checks that a command is make with targets, and perhaps variables, that the Makefile has."""
    program, *words = shlex.split(command)
    variables = {word.partition("=")[0] for word in words if "=" in word}
    targets = {word for word in words if "=" not in word}
    assert program == "make" and targets, f"{command!r} calls no target of make"
    assert targets <= TARGETS and variables <= VARIABLES, f"{command!r} names what the Makefile has not"


def runs(path):
    """Returns what the steps of a workflow run; more than one line comes as a bar, which is no command."""
    return re.findall(r"^ *(?:- )?run: *(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def named(paths):
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


def test_every_target_is_explained():
    assert set(re.findall(r"^([a-z][a-z-]*):.*## ", MAKEFILE, re.MULTILINE)) == TARGETS == PHONY
    rows = set(re.findall(r"^\| `make ([a-z-]+)`", read("CONTRIBUTING.md"), re.MULTILINE))
    assert TARGETS - rows == {"help", "test-socket"}, "of CONTRIBUTING.md; one is a part of test-all"


@pytest.mark.parametrize("path", named(WORKFLOWS))
def test_a_workflow_runs_make_targets_and_nothing_else(path):
    assert runs(path)
    for command in runs(path):
        check(command)


def test_the_workflows_run_what_a_change_and_a_night_need():
    called = {word for path in WORKFLOWS for command in runs(path) for word in command.split()}
    assert called >= {"test", "lint", "deny", "msrv", "test-all", "miri", "tsan", "fuzz", "loom"}


def test_the_hook_and_the_local_check_call_make_targets():
    (entry,) = re.findall(r"^ *entry: *(.*)$", read(".pre-commit-config.yaml"), re.MULTILINE)
    check(entry)
    commands = LINE.findall(read(".ci/run"))
    assert commands
    for command in commands:
        check(command)


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_a_document_names_targets_that_exist(path):
    text = path.read_text(encoding="utf-8")
    fenced = [line for block in FENCED.findall(text) for line in LINE.findall(block)]
    for command in QUOTED.findall(text) + fenced:
        check(command)


@pytest.mark.parametrize("command", ["make tset", "make test DEEP=1", "make REPEAT=3", "|", "cargo test"])
def test_a_command_that_does_not_fit_is_found(command):
    with pytest.raises(AssertionError):
        check(command)
