"""The limits of a function's container, by its function.yaml and by a deployment."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.definition.resources import give_gpus, limit


def content(**resources: Any) -> dict[str, Any]:
    return {"spec": {"resources": resources}} if resources else {"spec": {}}


def test_limits_are_set_where_there_are_none() -> None:
    function = content()
    limit(function, {"memory": "2Gi", "cpu": "2"})
    assert function["spec"]["resources"] == {"limits": {"memory": "2Gi", "cpu": "2"}}


def test_without_limits_nothing_changes() -> None:
    function = content()
    limit(function, {})
    assert function == content()


def test_a_request_above_the_new_limit_is_lowered_and_no_other_is_raised() -> None:
    """On Kubernetes a request keeps memory free on a node: a higher limit is no reason for that."""
    function = content(requests={"memory": "1Gi", "cpu": 4}, limits={"memory": "3Gi"})
    limit(function, {"memory": "8Gi", "cpu": "500m"})
    assert function["spec"]["resources"]["requests"] == {"memory": "1Gi", "cpu": "500m"}
    assert function["spec"]["resources"]["limits"] == {"memory": "8Gi", "cpu": "500m"}


@pytest.mark.parametrize("request_", ["much", None, 3 * 2**30])
def test_what_is_no_quantity_is_left_to_nuclio(request_: Any) -> None:
    function = content(requests={"memory": request_})
    limit(function, {"memory": "2Gi"})
    assert function["spec"]["resources"]["requests"] == {"memory": "2Gi" if isinstance(request_, int) else request_}


@pytest.mark.parametrize(("on_a_cpu", "on_a_gpu"), [("2Gi", "6Gi"), ("1536Mi", "5632Mi"), (2**30, "5Gi")])
def test_on_a_gpu_there_is_room_for_cuda(on_a_cpu: Any, on_a_gpu: str) -> None:
    function = content(limits={"memory": on_a_cpu})
    give_gpus(function, 1)
    assert function["spec"]["resources"]["limits"] == {"memory": on_a_gpu, "nvidia.com/gpu": 1}


def test_the_limit_of_a_function_for_a_gpu_is_for_that() -> None:
    function = content(limits={"memory": "8Gi", "nvidia.com/gpu": 1})
    give_gpus(function, 2)
    assert function["spec"]["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 2}


def test_a_function_without_a_limit_gets_none() -> None:
    function = content()
    give_gpus(function, 1)
    assert function["spec"]["resources"]["limits"] == {"nvidia.com/gpu": 1}
