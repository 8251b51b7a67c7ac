#!/bin/sh
# What deploy_cpu.sh and deploy_gpu.sh do: finds a Python and runs the package deploy with it.
# deploy/start.sh cpu|gpu [options] [functions...]; PYTHON names the Python to use.
root=$(dirname "$(dirname "$(readlink -f "$0")")")

suits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; }
fail() { printf '%s\n' "$@" >&2; exit 2; }

if [ -n "${PYTHON:-}" ]; then
  suits "$PYTHON" || fail "PYTHON: expected Python 3.9 or newer, got $PYTHON ($("$PYTHON" -V 2>&1 | head -n 1))"
else
  for PYTHON in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 ''; do
    if suits "$PYTHON"; then break; fi
  done
  [ -n "$PYTHON" ] || fail "Python 3.9 or newer is needed, but was not found on the path: sudo apt-get install python3" \
    "  where it is elsewhere: PYTHON=/path/to/python3.12 $root/deploy_$1.sh ..."
fi

# The package of this folder is the one that runs, whatever the working directory and PYTHONPATH hold; and nothing is written
# beside it, as root could do.
exec "$PYTHON" -B -c 'import os, sys
sys.path[:] = [sys.argv.pop(1)] + [path for path in sys.path if path not in ("", os.getcwd())]
import runpy
runpy.run_module("deploy", run_name="__main__", alter_sys=True)' "$root" "$@"
