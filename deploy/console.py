"""What a deployment prints."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import TextIO

_BOLD, _RED, _GREEN, _YELLOW, _PLAIN = "\033[1m", "\033[31m", "\033[32m", "\033[33m", "\033[0m"


class DeploymentError(Exception):
    """An error that ends the run, or the deployment of one function; it names the remedy."""

    def __init__(self, cause: str, remedy: str = "", *, status: int = 1):
        """Stores cause and remedy.

        Args:
            cause: What is wrong, in one sentence.
            remedy: What to do, a command where there is one.
            status: The exit status of the program: 2 for wrong arguments, 130 after an interruption, else 1.
        """
        super().__init__(cause)
        self.cause, self.remedy, self.status = cause, remedy, status


class Console:
    """Prints messages for the user; several threads may use it."""

    def __init__(self, script: str, *, dry_run: bool = False):
        """Prints nothing.

        Args:
            script: The name of the program in messages, such as deploy_cpu.sh.
            dry_run: Whether nothing is changed, and commands are printed instead.
        """
        self.script, self.dry_run = script, dry_run
        self.missing = 0
        """How many missing things have been reported."""
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()

    def line(self, text: str = "", *, end: str = "\n") -> None:
        """Prints a line, or several.

        Args:
            text: The line.
            end: What follows it.
        """
        with self._lock:
            try:
                _print(text, sys.stdout, end=end)
            except OSError:  # the terminal is gone: what is under way still has to be ended in order
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process

    def heading(self, text: str) -> None:
        """Begins a section.

        Args:
            text: Its title.
        """
        self.line(f"\n{self._in(_BOLD, text)}")

    def good(self, text: str) -> None:
        """Reports a check that passed.

        Args:
            text: What was found.
        """
        self.line(f"  {self._in(_GREEN, 'ok')}      {text}")

    def note(self, text: str, remedy: str = "") -> None:
        """Reports something that the user should know, but that does not end the run.

        Args:
            text: What was found.
            remedy: What to do, if anything.
        """
        self.line(f"  {self._in(_YELLOW, 'note')}    {text}")
        self.remedy(remedy)

    def bad(self, text: str, remedy: str = "") -> None:
        """Reports what is missing: a problem that ends the run, together with the others found at the same time.

        Args:
            text: What is missing.
            remedy: How to get it.
        """
        self.missing += 1
        self.line(f"  {self._in(_RED, 'MISSING')} {text}")
        self.remedy(remedy)

    def failed(self, text: str) -> str:
        """A failure as text, with the word FAILED in red where the terminal has colours.

        Args:
            text: The cause.
        """
        return f"{self._in(_RED, 'FAILED')}: {text}"

    def remedy(self, text: str) -> None:
        """Prints a remedy below the message that it belongs to.

        Args:
            text: The remedy; "" prints nothing.
        """
        if text:
            self.line(f"          {text}")

    def command(self, text: str) -> None:
        """Prints a command that a dry run does not run.

        Args:
            text: The command, in a form that can be pasted into a shell.
        """
        self.line(f"+ {text}")

    def error(self, error: DeploymentError) -> None:
        """Prints the error that ends the program to stderr.

        Args:
            error: The error.
        """
        try:
            _print(f"{self.script}: {error.cause}", sys.stderr)
            if error.remedy:
                _print(f"  {error.remedy}", sys.stderr)
        except OSError:  # nobody reads stderr any more
            pass

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text


def _print(text: str, file: TextIO, *, end: str = "\n") -> None:
    try:
        print(text, file=file, end=end, flush=True)
    except UnicodeEncodeError:  # a log may hold what the terminal's encoding lacks
        print(text.encode("ascii", "backslashreplace").decode(), file=file, end=end, flush=True)


def quoted(words: Iterable[str]) -> str:
    """The words of a command in a form that can be pasted into a shell.

    Args:
        words: The program and its arguments.
    """
    return " ".join(shlex.quote(word) for word in words)


def human_size(size_bytes: int) -> str:
    """A size in words, such as 812 MB or 1.4 GB.

    Args:
        size_bytes: The size.
    """
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def count(number: int, one: str, many: str = "") -> str:
    """A number with its noun, such as "1 function" or "3 functions".

    Args:
        number: The number.
        one: The noun for one thing.
        many: The noun for several; "" adds an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, with columns as wide as their widest cell.

    Args:
        rows: The rows, all of one length.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
