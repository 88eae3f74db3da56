"""What the pages of frameworks say, against the real thing, where a page cannot run it by itself."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from test_docs import BLOCK

WAIT = 30.0
"""Seconds for a server to answer or to end."""

POLL = 0.05
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "guide" / "frameworks"


def blocks(page):
    """The Python blocks of a page."""
    return [block.group(1) for block in BLOCK.finditer((FOLDER / page).read_text(encoding="utf-8"))]


def write_files(page, directory):
    """Writes the blocks of a page that are files, by their first line."""
    for block in blocks(page):
        name = re.match(r"# ([\w.]+\.py)\n", block)
        if name:
            (directory / name.group(1)).write_text(block, encoding="utf-8")


def free_port():
    """A port of the loopback that no program listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    """Status and text of a page, once the server is there."""
    end = time.monotonic() + WAIT
    while True:
        try:
            with urllib.request.urlopen(url, timeout=WAIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--preload"], ["--config", "gunicorn.conf.py"]], ids=str)
def test_gunicorn_serves_workers_of_its_processes(options, tmp_path, snippet_env):
    write_files("flask.md", tmp_path)
    if "--config" not in options:
        (tmp_path / "gunicorn.conf.py").unlink()
    port = free_port()
    log = tmp_path / "gunicorn.log"
    with log.open("w") as said:
        server = subprocess.Popen(
            # A worker that is told to end while it boots does not hear it, and is killed after this time.
            [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "2", "--graceful-timeout", "5",
             "--bind", f"127.0.0.1:{port}", *options, "shop:app"],
            cwd=tmp_path, env=snippet_env, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            for order in range(8):
                assert get(f"http://127.0.0.1:{port}/invoice/{order}") == (200, f'"invoice {order}"\n'), (
                    log.read_text()
                )
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(WAIT)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(WAIT)
    assert server.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text() and "Warning" not in log.read_text(), log.read_text()


@pytest.mark.slow
def test_a_notebook_runs_cell_by_cell(tmp_path, snippet_env):
    program = tmp_path / "notebook.py"
    program.write_text(
        "import sys, nbformat\n"
        "from nbclient import NotebookClient\n"
        "cells = [nbformat.v4.new_code_cell(cell) for cell in eval(sys.argv[1])]\n"
        "NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=40, kernel_name='python3').execute()\n"
        "print('ran to the end')\n"
    )
    done = subprocess.run(
        [sys.executable, str(program), repr(blocks("jupyter.md"))],
        cwd=tmp_path, env=snippet_env, capture_output=True, text=True, timeout=2 * WAIT, check=False,
    )  # fmt: skip
    assert "ran to the end" in done.stdout, done.stderr
