from itertools import islice

from tools.workers.retries import pauses_s


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    assert list(islice(pauses_s(0.5, 3), 5)) == [0.5, 1, 2, 3, 3]


def test_pauses_are_spread_upwards() -> None:
    drawn = [next(pauses_s(1, spread=0.2)) for _ in range(50)]
    assert all(1 <= pause <= 1.2 for pause in drawn)
    assert len(set(drawn)) > 1
