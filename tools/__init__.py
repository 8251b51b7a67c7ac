"""What people run: `python -m tools.<name>`, or a make target."""
