"""Annotates a task or a project of a CVAT server, or a folder of images, with a function of the collection or any other."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from getpass import getpass
from pathlib import Path

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.runtime import available_cores
from tools.annotate.annotate_folder import annotate_folder
from tools.annotate.console import say, stop_on_signal
from tools.annotate.errors import CannotRun
from tools.annotate.function import Function
from tools.annotate.label_mapping import read_mapping
from tools.annotate.run import FORMATS, Run, RunOptions
from tools.annotate.workers import WorkerPool
from tools.collection import ROOT, lacks, resolve

_EPILOG = """
examples:
  ./annotate --url https://app.example.org --task 5 --function onnx/rapidocr/text --dry-run
  ./annotate --url http://localhost:8080 --user admin --project 2 --endpoint http://gpu1:32001 --endpoint http://gpu2:32001
  ./annotate --images photos --output out/photos --function onnx/rapidocr/text --threshold 0.4

exit status: 0 all frames are annotated, 1 some are not (they are listed), 2 the run could not start or continue, 130 Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: of the command line; None for this process's own.

    Returns:
        The exit status.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    _check(parser, given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # retries are reported once, when they have failed
    try:
        status = _run(given)
    except (
        CannotRun,
        StartupError,
        ValueError,
        OSError,
    ) as error:  # OSError: a folder that can't be written, a full disk
        say(f"tools.annotate: {error}")
        status = 2
    except KeyboardInterrupt:
        status = 130
    if status and os.environ.get("RUN_BY_MAKE"):
        say(f"Exit status {status}; make's own is always 2, ./annotate keeps this one.")
    return status


def _run(given: argparse.Namespace) -> int:
    function = _function(given)
    options = RunOptions(
        frames=given.frames,
        given_labels=read_mapping(given.mapping, given.map),
        allow_unmatched=given.allow_unmatched,
        convert_masks=given.convert_masks,
        clear_existing=given.clear_existing,
        batch=1 if function.urls else given.batch,
        chunk=given.chunk,
        resume=given.resume,
        journals=given.journals,
        dry_run=given.dry_run,
        pictures=given.pictures,
        formats=given.formats,
    )
    size = _default_workers(function) if given.workers is None else given.workers
    pool = WorkerPool(size, function.timeout_s, threads=bool(function.urls))
    with stop_on_signal() as stop, closing(pool):
        run = Run(function, pool, options, stop)
        if not given.images:
            done = _annotate_tasks(given, run)
        elif function.kind == "detector":
            done = annotate_folder(given.images, given.output, run)
        else:
            raise CannotRun("--images: the function must be a detector")
    return 130 if stop.is_set() else 0 if done else 1


def _annotate_tasks(given: argparse.Namespace, run: Run) -> bool:
    # Imported here: CVAT's SDK is not needed for a folder, nor in the workers' processes.
    from tools.annotate.annotate_task import annotate_task
    from tools.annotate.cvat_client import CvatClient
    from tools.annotate.tracks import make_tracks

    cvat = CvatClient(
        given.url,
        token=given.token,
        user=_user(given.user) if given.user else None,
        organization=given.organization,
        insecure=given.insecure,
        log=logging.getLogger("cvat"),
    )
    annotate = make_tracks if run.function.kind == "reid" else annotate_task
    with closing(cvat):
        tasks = cvat.tasks_of_project(given.project) if given.project is not None else given.task
        done = True
        for number in tasks:
            if run.stop.is_set():
                break
            try:
                done &= annotate(cvat, cvat.task(number), run)
            except CannotRun as error:
                if len(tasks) == 1:
                    raise
                done = False
                say(f"task {number}: {str(error).removeprefix(f'task {number}: ')}")
        return done


def _function(given: argparse.Namespace) -> Function:
    config, kind = None, given.kind
    options = {}
    for text in given.option:
        name, separator, value = text.partition("=")
        if not separator:
            raise CannotRun(f"--option: expected NAME=VALUE, got {text!r}")
        options[name.lower()] = value
    if given.function:
        config = FunctionConfig.load(resolve(given.function))
        kind = config.kind
        # Options may say where the weights are.
        settings = {**os.environ, **{name.upper(): value for name, value in options.items()}}
        missing = [] if given.endpoint else lacks(config.directory, settings)
        if missing:
            raise CannotRun(f"{given.function} can't run here: {'; '.join(missing)}")
    if kind not in ("detector", "reid"):
        raise CannotRun(f"{given.function} is of kind {kind}, which needs a user's clicks; expected a detector or reid")
    return Function(
        kind=kind,
        config=config,
        options=options,
        urls=tuple(given.endpoint),
        threshold=given.threshold,
        max_distance=given.max_distance,
        timeout_s=given.timeout,
    )


def _default_workers(function: Function) -> int:
    if function.urls:
        return 2 * len(function.urls)
    # Each has a copy of the model, and a share of the cores.
    return max(1, min(4, int(available_cores())))


def _user(text: str) -> tuple[str, str]:
    name, separator, password = text.partition(":")
    if not separator:
        password = os.environ.get("PASS") or getpass(f"Password of {name}: ")
    return name, password


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if not given.function and not given.endpoint:
        parser.error("expected --function or --endpoint")
    if given.option and given.endpoint:
        parser.error("--option is for functions that run here; a function at an --endpoint has its own")
    if given.images and not given.output:
        parser.error("--images needs --output, a folder for the annotations")
    if given.images and (given.mapping or given.map or given.clear_existing):
        parser.error("--mapping, --map and --clear-existing are for tasks")
    if not given.images:
        given.token = given.token or os.environ.get("CVAT_ACCESS_TOKEN")
        if not given.token and not given.user:
            parser.error("set CVAT_ACCESS_TOKEN to a personal access token of CVAT, or give --user")


def _number(kind: type[int] | type[float], lowest: float, highest: float = math.inf) -> Callable[[str], float]:
    """An argument's type: a whole number (int) or any (float) in a range, ends included."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (lowest <= value <= highest and value < math.inf):
            noun = "whole number" if kind is int else "number"
            limits = f"from {lowest:g} to {highest:g}" if highest < math.inf else f"of {lowest:g} or more"
            raise argparse.ArgumentTypeError(f"expected a {noun} {limits}, got {text!r}")
        return value

    return read


def _address(text: str) -> str:
    """An argument's type: the address of a function."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"expected an address such as http://gpu1:32001, got {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./annotate",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("what to annotate").add_mutually_exclusive_group(required=True).add_argument
    add("--task", type=_number(int, 1), nargs="+", metavar="N", help="tasks of the server, by number")
    add("--project", type=_number(int, 1), metavar="N", help="all tasks of a project")
    add("--images", type=Path, metavar="FOLDER", help="a folder of images on this machine, without a server")

    add = parser.add_argument_group("the server").add_argument
    add("--url", default="http://localhost:8080", help="default: %(default)s")
    add("--token", help="personal access token; safer in the variable CVAT_ACCESS_TOKEN")
    add(
        "--user",
        metavar="NAME[:PASSWORD]",
        help="instead of a token; asks for the password, or reads the variable PASS",
    )
    add("--organization", metavar="SLUG", help="the organization that the task belongs to")
    add("--insecure", action="store_true", help="don't check the server's certificate")

    add = parser.add_argument_group("the function").add_argument
    add("--function", metavar="NAME", help="a function of the collection, or a directory; runs here")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of that function; repeatable")
    add(
        "--endpoint",
        action="append",
        default=[],
        type=_address,
        metavar="URL",
        help="a function that runs elsewhere, under Nuclio or not; repeat it to share the load",
    )
    add("--kind", choices=("detector", "reid"), default="detector", help="of an --endpoint without --function")
    add("--threshold", type=_number(float, 0, 1), metavar="T", help="0 to 1; default: the function's own")
    add("--max-distance", type=_number(float, 0), metavar="PIXELS", help="for reid; default: the function's own")
    add(
        "--timeout",
        type=_number(float, 0.001),
        default=120,
        metavar="S",
        help="seconds for a frame; default: %(default)s",
    )

    add = parser.add_argument_group("labels").add_argument
    add("--mapping", type=Path, metavar="FILE", help="JSON or YAML, function's label: task's label")
    add("--map", action="append", default=[], metavar="FUNCTION=TASK", help="one label; empty to leave it out")
    add("--allow-unmatched", action="store_true", help="leave out labels that the task does not have")
    add("--convert-masks", action="store_true", help="store masks as polygons")

    add = parser.add_argument_group("the run").add_argument
    add("--frames", metavar="RANGES", help="such as 0-99,150,200-; default: all")
    add("--clear-existing", action="store_true", help="remove the annotations that the frames have; a copy is kept")
    add(
        "--workers",
        type=_number(int, 0),
        metavar="N",
        help="processes with a copy of the model each, 0 to run it in this process; for an --endpoint, concurrent calls",
    )
    add("--batch", type=_number(int, 1), default=4, metavar="N", help="frames in a batch; default: %(default)s")
    add(
        "--chunk", type=_number(int, 1), default=100, metavar="N", help="most frames in an upload; default: %(default)s"
    )
    add("--resume", action="store_true", help="continue an interrupted run, or retry frames that failed")
    add("--journals", type=Path, default=ROOT / "out/annotate", metavar="FOLDER", help="default: %(default)s")
    add("--dry-run", action="store_true", help="show the mapping and a few pictures, change nothing")
    add(
        "--pictures",
        type=_number(int, 0),
        metavar="N",
        help="in a dry run (default: 4), or overlays of a folder (default: all)",
    )

    add = parser.add_argument_group("with --images").add_argument
    add("--output", type=Path, metavar="FOLDER", help="for annotations and overlay pictures")
    add("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="default: all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
