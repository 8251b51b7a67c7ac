"""A step of a workflow as a program: its arguments, the commands that it runs, its exit status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from deploy.commands import last_words
from deploy.console import Console, DeploymentError, quoted


def run(name: str, step: Callable[[Sequence[str]], None], parameters: str) -> None:
    """Runs the step and ends the program.

    Args:
        name: The name of the module.
        step: The step; it gets the arguments of the command line.
        parameters: The names of the arguments, optional ones in brackets, such as "REGISTRY TAG" or "[VERSION]".

    Raises:
        SystemExit: Always; with 0 when all went well.
    """
    console, arguments, names = Console(name), sys.argv[1:], parameters.split()
    least = sum(not each.startswith("[") for each in names)
    if not least <= len(arguments) <= len(names):
        console.error(DeploymentError(f"expected {parameters}", f"python3 -m deploy.ci.{name} {parameters}"))
        sys.exit(2)
    try:
        step(arguments)
    except DeploymentError as error:
        console.error(error)
        sys.exit(error.status)
    sys.exit(0)


def succeeds(*words: str) -> bool:
    """Runs a command, without its output.

    Args:
        words: The program and its arguments.

    Returns:
        Whether it has succeeded.
    """
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def must(*words: str) -> str:
    """Runs a command that must succeed.

    Args:
        words: The program and its arguments.

    Returns:
        Its stdout.

    Raises:
        DeploymentError: It has failed.
    """
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        said = last_words(done.stderr) or last_words(done.stdout) or f"status {done.returncode}"
        raise DeploymentError(f"{quoted(words[:3])} has failed: {said}")
    return done.stdout
