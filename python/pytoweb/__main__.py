"""`python -m pytoweb`: the same as the command `pytoweb`."""

from __future__ import annotations

import sys

from pytoweb.cli import main

if __name__ == "__main__":
    sys.exit(main())
