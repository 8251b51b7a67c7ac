"""From a request body to a reply's JSON text, one module for each kind of function.

`make` gives the object that does it for a function; all of them have the same verb, `answer(body, stages) -> str`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from common.config import FunctionConfig
from common.serving import options
from common.serving.kinds.detector import Detector
from common.serving.kinds.interactor import Interactor
from common.serving.kinds.reid import Reid
from common.serving.kinds.tracker import Tracker
from common.serving.stages import Stages

_KINDS: dict[str, type] = {"detector": Detector, "interactor": Interactor, "tracker": Tracker, "reid": Reid}


class Kind(Protocol):
    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        """The JSON text of the reply. Raises BadRequest or ModelError; fills in the times and facts of `stages`."""
        ...


def make(
    config: FunctionConfig,
    handler_class: type,
    environment: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
) -> Kind:
    """The function of `config`, its model loaded, with the options that `environment` sets for handler and kind.

    given: options by name, as values or texts; they go before the environment's.
    Nuclio tells a worker in NUCLIO_FUNCTION_NAME under which name the function was deployed: CVAT knows it by that one.
    """
    settings = {**config.environment, **environment}
    config = replace(config, name=environment.get("NUCLIO_FUNCTION_NAME") or config.name)
    kind = _KINDS[config.kind]
    kind_given, handler_given = options.divide(given or {}, kind, handler_class)
    kind_options = options.from_environment(kind, settings) | kind_given
    handler = handler_class(config, **options.from_environment(handler_class, settings) | handler_given)
    made: Kind = kind(config, handler, **kind_options)
    return made
