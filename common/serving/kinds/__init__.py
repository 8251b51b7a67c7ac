"""From a request body to the JSON text of a reply, one module for each kind of function.

Each kind is a class with the verb `answer(body, stages) -> str` and a ClassVar `kind`, its name in function.yaml. A new
one has its name in `common.config.KindName` and its class in `Kind` below; nothing else lists them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, get_args

from common.config import FunctionConfig, KindName
from common.errors import StartupError
from common.networks.loader import load_handler_class
from common.networks.runtime import limit_threads
from common.serving import options
from common.serving.kinds.detector import Detector
from common.serving.kinds.interactor import Interactor
from common.serving.kinds.reid import Reid
from common.serving.kinds.tracker import Tracker

K = TypeVar("K", Detector, Interactor, Tracker, Reid)
Kind = Detector | Interactor | Tracker | Reid
_CLASSES: dict[KindName, type[Kind]] = {kind.kind: kind for kind in get_args(Kind)}


def load(config: FunctionConfig, given: Mapping[str, Any] | None = None) -> Kind:
    """The function of a configuration, with its model loaded, in this process.

    Args:
        config: What function.yaml says; its `workers` share the machine's cores.
        given: Options by name, as values or texts; they take precedence over this process's environment.

    Returns:
        The object that answers its requests.

    Raises:
        StartupError: An option, the weights or the device keep it from starting.
    """
    limit_threads(config.workers)
    return make(config, load_handler_class(config.directory), os.environ, given)


def load_as(kind: type[K], config: FunctionConfig, given: Mapping[str, Any] | None = None) -> K:
    """What `load` returns, for callers that want one kind of function.

    Args:
        kind: The class of that kind.
        config: What function.yaml says.
        given: Options by name, as values or texts; they take precedence over this process's environment.

    Raises:
        StartupError: The function is of another kind, or can't start.
    """
    if config.kind != kind.kind:
        raise StartupError(f"{config.name}: expected a {kind.kind} function, got one of kind {config.kind}")
    made = load(config, given)
    assert isinstance(made, kind)  # as config.kind says
    return made


def option_names(config: FunctionConfig, handler_class: type[Any]) -> set[str]:
    """The options of a function, of its kind and its handler, in small letters.

    Args:
        config: What function.yaml says.
        handler_class: The function's `ModelHandler`.
    """
    return {*options.names(_CLASSES[config.kind]), *options.names(handler_class)}


def make(
    config: FunctionConfig,
    handler_class: type[Any],
    environment: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
) -> Kind:
    """The function of a configuration and a handler, with the options of both the handler and the kind.

    Args:
        config: What function.yaml says.
        handler_class: The function's `ModelHandler`.
        environment: Sets options; takes precedence over function.yaml. Nuclio tells a worker in NUCLIO_FUNCTION_NAME
            under which name the function was deployed: CVAT knows it by that one.
        given: Options by name, as values or texts; they take precedence over the environment.

    Returns:
        The object that answers its requests.

    Raises:
        StartupError: An option, the weights or the device keep it from starting.
    """
    settings = {**config.environment, **environment}
    config = replace(config, name=environment.get("NUCLIO_FUNCTION_NAME") or config.name)
    kind = _CLASSES[config.kind]
    kind_given, handler_given = options.divide(given or {}, kind, handler_class)
    kind_options = options.from_environment(kind, settings) | kind_given
    handler_options = options.from_environment(handler_class, settings) | handler_given
    # The kind checks its options before the model is loaded.
    return kind(config, lambda: handler_class(config, **handler_options), **kind_options)
