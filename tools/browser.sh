#!/bin/sh
# Prints the path of a Chromium: the one given, or the first one on PATH. Says what to install where there is none.
#
#   tools/browser.sh [PROGRAM]
set -eu

for name in ${1:-chromium chromium-browser google-chrome google-chrome-stable chrome chrome-headless-shell}; do
    if found=$(command -v "$name"); then
        echo "$found"
        exit 0
    fi
done
echo "browser: ${1:-no Chromium or Chrome on PATH}${1:+ is no program}: install one (Debian, Ubuntu: apt-get install" \
    "chromium), or name it: make test-browser BROWSER=/path/to/chromium" >&2
exit 1
