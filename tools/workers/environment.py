"""The environment variables of a worker process: those that Nuclio would set, and where modules are found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config import FunctionConfig
from tools.collection import ROOT


def worker_environment(
    config: FunctionConfig, settings: Mapping[str, str], *, instance: str, import_path: Sequence[Path] = ()
) -> dict[str, str]:
    """This process's own variables, with those of the function over them.

    Args:
        config: the function; its function.yaml's variables are set.
        settings: more variables, which take precedence over the function.yaml's.
        instance: the name of the tool, where Nuclio puts the name of the container.
        import_path: folders that come before this project on the import path.
    """
    variables = {**config.environment, **settings}
    path = [*map(str, import_path), str(ROOT), variables.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "NUCLIO_FUNCTION_NAME": config.name,
        "NUCLIO_FUNCTION_DESCRIPTION": config.description,
        "NUCLIO_FUNCTION_INSTANCE": instance,
        **variables,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
    }
