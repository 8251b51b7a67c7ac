import time

import pytest

from common.serving.stages import Stages


def test_times_add_up_by_name_in_the_order_of_their_beginnings() -> None:
    stages = Stages()
    with stages.measure("decode"):
        time.sleep(0.02)
        with stages.measure("inner"):
            time.sleep(0.01)
    with stages.measure("encode"):
        pass
    with stages.measure("decode"):
        time.sleep(0.02)
    assert list(stages.milliseconds) == ["decode", "inner", "encode"]
    assert stages.milliseconds["decode"] >= 50
    assert 10 <= stages.milliseconds["inner"] < stages.milliseconds["decode"]
    assert 0 <= stages.milliseconds["encode"] < stages.milliseconds["decode"]


def test_a_stage_that_fails_is_measured_too() -> None:
    stages = Stages()
    with pytest.raises(ZeroDivisionError), stages.measure("decode"):
        1 / 0  # noqa: B018
    assert stages.milliseconds["decode"] > 0


def test_server_timing_header() -> None:
    stages = Stages()
    assert stages.server_timing() == ""
    stages.milliseconds |= {"decode": 3.14159, "inference": 20.0}
    assert stages.server_timing() == "decode;dur=3.14, inference;dur=20.00"
