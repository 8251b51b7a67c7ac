"""Nuclio's dashboard and the functions behind it, asked as CVAT asks them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from common.config import FunctionConfig
from tools.check import samples
from tools.check.reply_rules import check_reply
from tools.wrapper import Reply

PROJECT = "cvat"
_TIMEOUT_S = 130


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one request to a function."""

    seconds: float = 0.0
    problem: str = ""
    """"" when CVAT would have taken the answer."""
    status: int = 0
    """Of the answer; 0 without one."""


class Dashboard:
    """The dashboard of Nuclio, or the part of it that `make serve` has, and the functions behind it."""

    def __init__(self, address: str, namespace: str):
        """Sends nothing.

        Args:
            address: such as http://localhost:8070.
            namespace: of the functions in Nuclio.
        """
        self.address, self.namespace = address.rstrip("/"), namespace
        # Neither the dashboard nor a function is behind the proxy of the environment.
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

    def find(self) -> tuple[str, bool]:
        """Looks whether something answers at the address.

        Returns:
            What it is, in words with its version, and whether it is `make serve`.

        Raises:
            httpx.HTTPError: when nothing answers.
        """
        reply = self._client.get(f"{self.address}/api/versions", timeout=5)
        if reply.status_code == 404 and "functions" in _json_object(self._client.get(f"{self.address}/health")):
            return "make serve", True
        version = _json_object(reply).get("dashboard")
        label = version.get("label") if isinstance(version, dict) else None
        return f"Nuclio's dashboard {label or ''}".strip(), False

    def functions(self, project: str | None = PROJECT) -> dict[str, Any]:
        """The functions as Nuclio describes them, by name.

        Args:
            project: the project that they belong to; None for all projects.

        Raises:
            httpx.HTTPError: when the dashboard does not answer.
            ValueError: when its answer is not an object.
        """
        headers = {"x-nuclio-function-namespace": self.namespace}
        if project is not None:
            headers["x-nuclio-project-name"] = project
        reply = self._client.get(f"{self.address}/api/functions", headers=headers, timeout=30)
        reply.raise_for_status()
        content = reply.json()
        if not isinstance(content, dict):
            raise ValueError(f"expected an object of functions, got {type(content).__name__}")
        return content

    def call(self, config: FunctionConfig, address: str | None = None) -> Trial:
        """Sends a sample image to a function and checks the answer.

        Args:
            config: the function's.
            address: of the function; None for a request through the dashboard.
        """
        request = _request(config)
        headers = {"Content-Type": "application/json"}
        if address is None:
            address = f"{self.address}/api/function_invocations"
            headers |= {
                "x-nuclio-project-name": PROJECT,
                "x-nuclio-function-namespace": self.namespace,
                "x-nuclio-function-name": config.name,
                "x-nuclio-path": "/",
                "x-nuclio-invoke-via": "domain-name",
                "X-Nuclio-Invoke-Timeout": "120s",
            }
        begin = time.perf_counter()
        try:
            got = self._client.post(address, content=json.dumps(request), headers=headers)
        except httpx.HTTPError as error:
            return Trial(time.perf_counter() - begin, f"no answer: {error or type(error).__name__}")
        seconds = time.perf_counter() - begin
        reply = Reply(got.status_code, got.content, got.headers.get("content-type", ""), dict(got.headers))
        wrong = [f for f in check_reply(reply, config, request) if f.severity == "error"]
        if got.status_code // 100 != 2:
            return Trial(seconds, f"it answers {got.status_code}: {got.text[:500]}", got.status_code)
        problem = f"{wrong[0].field}: expected {wrong[0].expected}, got {wrong[0].got}" if wrong else ""
        return Trial(seconds, problem, got.status_code)


def config_of(function: Mapping[str, Any]) -> FunctionConfig:
    """The configuration of a deployed function.

    Args:
        function: as Nuclio describes it.

    Raises:
        StartupError: when a part of it is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        # JSON is YAML: read by the same rules as a function.yaml.
        content = {"metadata": function.get("metadata"), "spec": function.get("spec")}
        (Path(folder) / "function.yaml").write_text(json.dumps(content), encoding="utf-8")
        return FunctionConfig.load(folder)


def _request(config: FunctionConfig) -> dict[str, Any]:
    if config.kind != "tracker":
        body: dict[str, Any] = samples.good_requests(config)[0].body
        return body
    shape = next(iter(samples.tracked_shapes(config).values()))
    return {"image": samples.frame(0), "shapes": [shape], "states": []}


def _json_object(reply: httpx.Response) -> dict[str, Any]:
    try:
        content = reply.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
