"""Runs a stand-in: program.py docker|nuctl ARGUMENTS... (a module of its own, so that Python keeps it compiled)."""

import importlib
import sys

sys.exit(importlib.import_module(sys.argv[1]).main(sys.argv[2:]))
