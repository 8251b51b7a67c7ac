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
    """What came of one request. problem: "" when the answer was one that CVAT takes."""

    seconds: float = 0.0
    problem: str = ""


class Dashboard:
    """address: such as http://localhost:8070. namespace: of the functions in Nuclio."""

    def __init__(self, address: str, namespace: str):
        self.address, self.namespace = address.rstrip("/"), namespace
        # Neither the dashboard nor a function is behind the proxy of the environment.
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

    def version(self) -> str:
        """The dashboard's version, "" when it does not say. Raises httpx.HTTPError when it can't be reached."""
        reply = self._client.get(f"{self.address}/api/versions", timeout=5)
        try:
            return str(reply.json()["dashboard"]["label"])
        except (ValueError, KeyError, TypeError):
            return ""

    def functions(self, project: str | None = PROJECT) -> dict[str, Any]:
        """The functions of a project, or of all, as Nuclio has them. Raises httpx.HTTPError, or ValueError for nonsense."""
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
        """Sends a sample image to a function, to `address` or through the dashboard, and checks the answer."""
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
            return Trial(seconds, f"it answers {got.status_code}: {got.text[:200]}")
        return Trial(seconds, f"{wrong[0].field}: expected {wrong[0].expected}, got {wrong[0].got}" if wrong else "")


def config_of(function: Mapping[str, Any]) -> FunctionConfig:
    """The configuration of a deployed function. Raises StartupError that says what in it is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        # JSON is YAML, too: what Nuclio has is read by the same rules as a function.yaml.
        content = {"metadata": function.get("metadata"), "spec": function.get("spec")}
        (Path(folder) / "function.yaml").write_text(json.dumps(content), encoding="utf-8")
        return FunctionConfig.load(folder)


def _request(config: FunctionConfig) -> dict[str, Any]:
    if config.kind != "tracker":
        body: dict[str, Any] = samples.good_requests(config)[0].body
        return body
    shape = next(iter(samples.tracked_shapes(config).values()))
    return {"image": samples.frame(0), "shapes": [shape], "states": []}
