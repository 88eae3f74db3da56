"""`python demo [DIR]`, which is what `make run` starts: the folder need not be installed."""

from __future__ import annotations

import sys

from analyze.command import main

if __name__ == "__main__":
    sys.exit(main())
