"""Makes a function's choices when its image is built: `python -m common.serving.choose /opt/nuclio`.

The workers that start from the image on a machine of the same kind need not measure which engine is faster.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.shared_choice import shared_choices, write_choices
from common.serving import kinds


def choose(directory: Path) -> str:
    """Loads a function once, and writes what it chose into its directory.

    Args:
        directory: The function's, as its image holds it.

    Returns:
        What was chosen, in words. A function that can't start chooses nothing: it may get its weights later.
    """
    try:
        with shared_choices(1) as made:
            kinds.load(FunctionConfig.load(directory))
    except StartupError as error:
        return f"nothing chosen: {error}"
    if not made:
        return "nothing to choose"
    write_choices(directory, made)
    return f"chosen: {', '.join(made.values())}"


if __name__ == "__main__":
    print(choose(Path(sys.argv[1])))
