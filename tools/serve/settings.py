"""What `--env` sets: for which functions, and whether they know the options."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.loader import load_handler_class
from common.serving import kinds
from serverless.collection import ROOT, resolve

_SETTING = re.compile(r"(?:(?P<function>[^=]+):)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.DOTALL)
# Read by the runtime and the libraries of functions, whatever their handlers know.
_RUNTIME_OPTIONS = {
    *("THREADS", "MAX_IMAGE_PIXELS", "VARIANT", "MODEL_PATH", "DEVICE", "ENGINE"),
    *("CVAT_FUNCTIONS_REDIS_HOST", "CVAT_FUNCTIONS_REDIS_PORT", "CVAT_FUNCTIONS_REDIS_PASSWORD"),
    *("PATH", "HOME", "TMPDIR", "LANG", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
}
_LIBRARY_OPTION = re.compile(
    r"PYTHON[A-Z]+|(BLIS|CUBLAS|CUDA|CUDNN|GOMP|HF|KMP|LC|LD|MALLOC|MKL|NCCL|NUCLIO|NUMEXPR|NVIDIA|OMP|ONEDNN|OPENBLAS"
    r"|OPENCV|OPENVINO|ORT|OV|PYTORCH|SSL|TBB|TORCH|TRANSFORMERS|XDG|YOLO)_[A-Z0-9_]+"
)


@dataclass(frozen=True)
class Settings:
    """Variables for the workers, over those of their function.yaml."""

    for_all: Mapping[str, str]
    """By name, for every function."""
    by_function: Mapping[Path, Mapping[str, str]]
    """By the function's directory; they take precedence over those for all."""

    def of(self, directory: Path) -> dict[str, str]:
        """The variables of one function.

        Args:
            directory: the function's.
        """
        return {**self.for_all, **self.by_function.get(directory, {})}


def parse_settings(texts: Sequence[str], functions: Sequence[FunctionConfig]) -> Settings:
    """What the texts of `--env` set.

    Args:
        texts: NAME=VALUE or FUNCTION:NAME=VALUE, where FUNCTION is a name, a directory or a path below serverless/.
        functions: those that are to be served.

    Raises:
        StartupError: A text is something else, or no function is called so, or knows the option; says what is nearest.
    """
    for_all: dict[str, str] = {}
    by_function: dict[Path, dict[str, str]] = {}
    known = {config.directory: _known_options(config) for config in functions} if texts else {}
    for text in texts:
        match = _SETTING.fullmatch(text)
        if match is None:
            raise StartupError(f"--env: expected NAME=VALUE or FUNCTION:NAME=VALUE, got {text!r}")
        function, name, value = match.group("function", "name", "value")
        if function is None:
            _check_known(name, known.values(), "no function here")
            for_all[name] = value
        else:
            config = _find(function, functions)
            _check_known(name, [known[config.directory]], config.name)
            by_function.setdefault(config.directory, {})[name] = value
    return Settings(for_all, by_function)


def _find(function: str, functions: Sequence[FunctionConfig]) -> FunctionConfig:
    """The function that is meant by its name, its directory or its path below serverless/."""
    for config in functions:
        if config.name == function:
            return config
    try:
        directory = resolve(function)
    except ValueError:
        directory = None
    for config in functions:
        if config.directory == directory:
            return config
    names = [config.name for config in functions]
    paths = [str(config.directory.relative_to(ROOT)) for config in functions if config.directory.is_relative_to(ROOT)]
    paths += [path.removeprefix("serverless/") for path in paths]
    nearest = difflib.get_close_matches(function, names + paths, n=1)
    meant = f"; did you mean {nearest[0]}?" if nearest else f": expected one of {', '.join(names[:10])}"
    raise StartupError(f"--env: {function} is not among the functions to be served{meant}")


def _check_known(name: str, known: Iterable[set[str] | None], who: str) -> None:
    sets = list(known)
    options = {option for each in sets if each is not None for option in each} | _RUNTIME_OPTIONS
    if name in options or _LIBRARY_OPTION.fullmatch(name):
        return
    nearest = difflib.get_close_matches(name.upper(), sorted(options), n=1)
    # Of a function that can't be imported here it is not known what it knows.
    if None in sets and not nearest:
        return
    verb = "knows" if who.startswith("no ") else "does not know"
    raise StartupError(f"--env: {who} {verb} the option {name}" + (f"; did you mean {nearest[0]}?" if nearest else ""))


def _known_options(config: FunctionConfig) -> set[str] | None:
    """The variables that a function reads; None when it can't be imported."""
    known = set(config.environment)
    # One that is not written with `common` names them somewhere in its own files, and so may one that is.
    for path in config.directory.rglob("*.py"):
        known |= set(re.findall(r"""["']([A-Z][A-Z0-9_]+)["']""", path.read_text(encoding="utf-8", errors="replace")))
    if not (config.directory / "model_handler.py").is_file():
        return known
    try:
        return known | {name.upper() for name in kinds.option_names(config, load_handler_class(config.directory))}
    except StartupError:  # a model_handler.py of another kind, such as those of CVAT's own functions
        return known
    except Exception:
        return None
