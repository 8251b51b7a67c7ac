"""What a function was deployed with: kept as an annotation of the function, so that deploying it again needs no flags."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields, replace

from deploy.console import quoted
from deploy.definition.function_file import Fields, at
from deploy.options import Options

ANNOTATION = "cvat-functions/deployment"
_SECRET = re.compile("TOKEN|SECRET|PASSWORD|CREDENTIAL|KEY", re.IGNORECASE)
_MERGED = ("environment", "node_selector")


@dataclass(frozen=True)
class Deployment:
    """The options of one function. The fields are those of `Options`; what was never given is None."""

    directory: str = ""
    """Where its function.yaml was."""
    device: str = "cpu"
    environment: dict[str, str] = field(default_factory=dict)
    weights: str | None = None
    """The folder with its weights that is mounted."""
    network: str | None = None
    user: str | None = None
    python: str | None = None
    cpu: str | None = None
    memory: str | None = None
    registry: str | None = None
    run_registry: str | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    target_cpu: int | None = None
    node_selector: dict[str, str] = field(default_factory=dict)
    gpus: int | None = None

    def with_options(self, options: Options) -> Deployment:
        """These options, with those of a command line in their place where they were given.

        Variables and node selectors are merged by name.

        Args:
            options: The command line.
        """
        changes: dict[str, object] = {"device": options.device}
        for name in (each.name for each in fields(self)):
            given = getattr(options, name, None)
            if name in ("directory", "device", "weights") or given is None:
                continue
            changes[name] = {**getattr(self, name), **given} if name in _MERGED else given
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def words(self) -> str:
        """The options as one would give them on the command line, without secrets; "" if none was given."""
        pairs = [("--env", self.environment), ("--node-selector", self.node_selector)]
        parts = [
            (option, f"{name}={_shown(name, value)}") for option, values in pairs for name, value in values.items()
        ]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("directory", "device", *_MERGED) and value is not None:
                parts.append((f"--{each.name.replace('_', '-')}", str(value)))
        return quoted(word for part in parts for word in part)

    def as_annotation(self) -> str:
        """The text of the annotation."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in (None, {}, "")})


def of_record(record: Fields) -> Deployment | None:
    """What a function was deployed with.

    Args:
        record: The function as Nuclio knows it, or its function.yaml.

    Returns:
        The options; None when there is no annotation, or one that this version does not understand.
    """
    try:
        content = json.loads(at(record, "metadata", "annotations", ANNOTATION) or "null")
        known = {each.name for each in fields(Deployment)}
        found = Deployment(**{name: value for name, value in content.items() if name in known})
    except (ValueError, TypeError, AttributeError):
        return None
    merged = [getattr(found, name) for name in _MERGED]
    return found if all(isinstance(each, dict) for each in merged) else None


def _shown(name: str, value: str) -> str:
    return "***" if value and _SECRET.search(name) else value
