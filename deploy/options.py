"""The options of deploy_cpu.sh and deploy_gpu.sh."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, NoReturn

from deploy.console import DeploymentError

_ENVIRONMENT_PATTERN = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([^']*)", re.DOTALL)
_CPU_PATTERN = re.compile(r"[0-9]+(\.[0-9]+)?|[0-9]+m")
_MEMORY_PATTERN = re.compile(r"[0-9]+(\.[0-9]+)?([KMGT]i?|k)?")
_NO_VALUE = "expected one argument"


@dataclass
class Options:
    """The command line. What is None was not given: a function then keeps what it was deployed with, or gets the default."""

    device: str
    """"cpu" or "gpu": which of the two scripts runs."""
    action: str = "deploy"
    """"deploy", "list", "remove", "bundle" or "base"."""
    functions: list[str] = field(default_factory=list)
    """The functions as they were named."""
    dry_run: bool = False
    build: bool = True
    """Whether images are built; False deploys those that are here."""
    verify: bool = True
    roll_back: bool = True
    """Whether the old version comes back when the new one fails."""
    forget: bool = False
    """Whether what functions were deployed with is ignored."""
    jobs: int = 1
    bundle: Path | None = None
    """The bundle to deploy from."""
    bundle_out: Path | None = None
    """The bundle to make."""
    base_only: str = ""
    """The framework whose base image alone is built."""
    dashboard: str = ""
    platform: str = "local"
    namespace: str = "nuclio"
    first_port: int = 28000
    environment: dict[str, str] | None = None
    weights: Path | None = None
    network: str | None = None
    user: str | None = None
    """UID:GID."""
    python: str | None = None
    """The image that base images start from."""
    cpu: str | None = None
    """CPUs that each function may use, as Kubernetes writes them."""
    memory: str | None = None
    """Memory that each function may use, as Kubernetes writes it."""
    registry: str | None = None
    run_registry: str | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    target_cpu: int | None = None
    node_selector: dict[str, str] | None = None
    gpus: int | None = None

    @property
    def script(self) -> str:
        """The name of the script."""
        return f"deploy_{self.device}.sh"

    @property
    def on_kubernetes(self) -> bool:
        """Whether functions go into a cluster."""
        return self.platform == "kube"


def parse(device: str, arguments: list[str]) -> Options:
    """Reads the command line.

    Args:
        device: "cpu" or "gpu".
        arguments: The arguments of the script.

    Raises:
        DeploymentError: An argument is wrong; status 2.
        SystemExit: The help was asked for and printed.
    """
    parser = _Parser(device)
    given = parser.parse_intermixed_args(arguments)
    options = Options(device=device)
    for name, value in vars(given).items():
        if value is not None:
            setattr(options, name, value)
    options.python = options.python or os.environ.get("PYTHON_IMAGE") or None
    if options.bundle_out:
        options.action = "bundle"
    elif options.base_only:
        options.action = "base"
    _check(options)
    return options


def _check(options: Options) -> None:
    """Refuses options that do not go together."""
    for_kubernetes = {
        "registries": options.registry or options.run_registry,
        "replicas": options.min_replicas or options.max_replicas or options.target_cpu,
        "node selectors": options.node_selector,
    }
    if options.on_kubernetes and options.bundle:
        _refuse(
            "--offline is for Docker on this machine",
            "for a cluster: docker load the bundle's images, push them to its registry",
        )
    if not options.on_kubernetes and any(for_kubernetes.values()):
        _refuse("registries, replicas and node selectors are for --platform kube")
    low, high = options.min_replicas, options.max_replicas
    if low is not None and high is not None and low > high:
        _refuse(f"--min-replicas {low} is more than --max-replicas {high}")
    if options.action == "bundle" and (options.bundle or options.weights or not options.build or options.on_kubernetes):
        _refuse("--bundle can't be combined with --offline, --weights, --no-build or --platform kube")
    if options.weights and options.bundle:
        _refuse("--weights and --offline: a bundle's images hold their weights; give one of the two")
    if options.base_only and (options.bundle or not options.build):
        _refuse("--base-only builds an image: it can't be combined with --offline or --no-build")


def _refuse(cause: str, remedy: str = "") -> NoReturn:
    raise DeploymentError(cause, remedy, status=2)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the words of this project, and ends with status 2."""

    def __init__(self, device: str):
        super().__init__(prog=f"deploy_{device}.sh", add_help=False, allow_abbrev=False)
        self._device = device
        add = self.add_argument
        add("functions", nargs="*")
        add("-h", "--help", action=_Help)
        add("--list", dest="action", action="store_const", const="list")
        add("--remove", dest="action", action="store_const", const="remove")
        add("--dry-run", action="store_const", const=True)
        add("--no-verify", dest="verify", action="store_const", const=False)
        add("--no-build", dest="build", action="store_const", const=False)
        add("--no-rollback", dest="roll_back", action="store_const", const=False)
        add("--forget", action="store_const", const=True)
        add("--env", dest="environment", action=_Environment)
        add("--node-selector", action=_NodeSelector)
        add("--weights", type=_folder)
        add("--offline", dest="bundle", type=_bundle)
        add("--bundle", dest="bundle_out", type=_new_file)
        add("--base-only", metavar="FRAMEWORK")
        add("--platform", type=_one_of("local", "kube"))
        add("--user", type=_matching(re.compile("[0-9]+:[0-9]+"), "UID:GID in numbers"))
        add("--cpu", type=_matching(_CPU_PATTERN, "a number of CPUs such as 2, 0.5 or 500m"))
        add("--memory", type=_matching(_MEMORY_PATTERN, "an amount of memory such as 4Gi or 512Mi"))
        for name, low, high in _NUMBERS:
            if name != "--gpus" or device == "gpu":
                add(name, type=_whole_number(low, high))
        for name in ("--network", "--python", "--namespace"):
            add(name)
        for name in ("--dashboard", "--registry", "--run-registry"):
            add(name, type=lambda text: text.rstrip("/"))

    def error(self, message: str) -> NoReturn:
        match = re.match(r"argument (?:\S+/)?([-\w]+): (.*)", message, re.DOTALL)
        if message.startswith("unrecognized arguments: "):
            option = message.split(": ", 1)[1].split()[0].split("=")[0]
            other = "; it is an option of deploy_gpu.sh" if option == "--gpus" else ""
            _refuse(f"{option}: there is no such option{other}", f"{self.prog} --help lists the options")
        if match and match[2] == _NO_VALUE:
            _refuse(f"{match[1]}: its value is missing", f"{self.prog} --help lists the options")
        if match and match[2].startswith("ignored explicit argument"):
            _refuse(f"{match[1]} takes no value", f"{self.prog} --help lists the options")
        cause, _, remedy = (match[2] if match else message).partition("\n")
        _refuse(f"{match[1]}: {cause}" if match else cause, remedy)

    def format_help(self) -> str:
        other = "gpu" if self._device == "cpu" else "cpu"
        gpus = _HELP_GPUS if self._device == "gpu" else ""
        return _HELP.format(script=self.prog, gpus=gpus, other_name=other.upper(), other=f"deploy_{other}.sh")


_NUMBERS = (
    ("--jobs", 1, 64),
    ("--first-port", 1024, 64535),
    ("--min-replicas", 0, 10000),
    ("--max-replicas", 1, 10000),
    ("--target-cpu", 1, 100),
    ("--gpus", 1, 64),
)


class _Help(argparse._HelpAction):
    def __init__(self, option_strings: list[str], dest: str, **_: object):
        super().__init__(option_strings, dest)


class _Pairs(argparse.Action):
    """NAME=VALUE, which may be given several times."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        name, value = self.split(str(values))
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), name: value})

    def split(self, text: str) -> tuple[str, str]:
        raise NotImplementedError


class _Environment(_Pairs):
    def split(self, text: str) -> tuple[str, str]:
        match = _ENVIRONMENT_PATTERN.fullmatch(text)
        if not match:
            raise argparse.ArgumentError(self, f"expected NAME=VALUE without a single quote, got {text}")
        return match[1], match[2]


class _NodeSelector(_Pairs):
    def split(self, text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise argparse.ArgumentError(self, f"expected KEY=VALUE, got {text}")
        return name, value


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return text

    return read


def _one_of(*values: str) -> Callable[[str], str]:
    return _matching(re.compile("|".join(values)), " or ".join(values))


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text}")
        return int(text)

    return read


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text).resolve()


def _bundle(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}\nmake it on a connected machine: make bundle")
    return Path(text).resolve()


def _new_file(text: str) -> Path:
    folder = Path(text).parent
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder}")
    return folder.resolve() / Path(text).name


_HELP_GPUS = """\
  --gpus N         GPUs for each replica (default: 1; on Docker a function sees all of them)
"""
_HELP = """\
{script} [options] [functions...]

Builds functions, deploys them into Nuclio for CVAT, and sends each a sample image by the routes that CVAT uses. Ends
with a table of what is deployed, and for each function that failed with the cause, the remedy and the end of its log.
A function that is deployed already keeps the options that it was deployed with, unless others are given.

  functions        directories with a function.yaml, or folders that hold some; also below serverless/, such as
                   onnx/rapidocr. Default: the whole collection. Functions of your own are deployed the same way.

What to do
  --list           show what is deployed, and change nothing
  --remove         remove the functions named, or those of the collection; their images stay
  --bundle FILE    build them and pack a bundle for --offline, deploying nothing ('make bundle')
  --base-only FRAMEWORK
                   only build the base image of a framework: onnx, opencv or pytorch
  --dry-run        print every command that would change something, and run none
  -h, --help       this text

How
  --jobs N         functions to build and deploy at the same time (default: 1)
  --env NAME=VALUE an option of the functions, such as VARIANT=yolo11s; may be given several times
  --weights DIR    mount weights instead of putting them into the images: DIR/<function's name>/ holds the function's
                   files; with one function, DIR itself may
  --cpu N, --memory AMOUNT
                   what each function may use, such as --cpu 2 --memory 4Gi (default: resources in its function.yaml)
  --no-build       deploy existing images, in seconds each, for example after a restart of Docker. Without names:
                   all deployed functions, as they were deployed.
  --no-rollback    keep a function that does not start, instead of restoring its old version
  --forget         ignore the options that functions were deployed with before
  --offline FILE   deploy from a bundle made by 'make bundle'; no network is used
  --network NAME   the Docker network of CVAT (default: the one that Nuclio's dashboard is in, or cvat_cvat)
  --dashboard URL  Nuclio's dashboard (default: found by its container, or http://localhost:8070)
  --first-port N   the first of the 1000 host ports that functions get (default: 28000). A function keeps its port.
  --user UID:GID   who the functions run as (default: 1000:1000)
  --python IMAGE   the image that base images start from (default: the one that the existing base image was built
                   from, or python:3.11-slim)
  --no-verify      deploy without sending the sample image

Kubernetes
  --platform kube  deploy into the cluster of the current kubectl context
  --namespace NS   of Nuclio there (default: nuclio)
  --registry R     where images are pushed to, and the cluster pulls from (needed for the first deployment)
  --run-registry R where the cluster pulls from, if it sees the registry under another name
  --min-replicas N, --max-replicas N, --target-cpu PERCENT
                   autoscaling
  --node-selector KEY=VALUE
                   may be given several times
{gpus}
From the environment: NUCTL (the nuctl to use), PYTHON_IMAGE (as --python), CVAT_FUNCTIONS_REDIS_HOST and _PORT
(default: CVAT's own store, where it runs), PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST (for building base
images), TORCH_INDEX_URL (an index with CPU builds of torch; default: PyTorch's own, where it can be reached).
Logs: out/deploy/<function>.log, or the folder that DEPLOY_LOGS names. For the {other_name}: {other}. More: docs/deploy.md.
"""
