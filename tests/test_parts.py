"""How work is cut into tasks."""
import pytest

from fastconv.blocking.parts import MANY_TASKS, TASKS, parts_of

MUCH = 1e12


@pytest.mark.parametrize("n, most, multiple, tasks", [(3136, 384, 32, 1), (784, 768, 32, 1), (1024, 250, 32, 1), (2048, 1003, 32, 1), (224, 30, 1, 1),
                                                      (56, 56, 7, 3), (64, 64, 14, 8), (100, 7, 3, 5), (7, 7, 1, 1), (5, 1, 4, 1), (1, 1, 1, 1), (0, 4, 4, 1)])
def test_parts_are_small_enough_and_busy_threads_are_equally_busy(n, most, multiple, tasks):
    units, found = -(-n // multiple), parts_of(n, most, multiple, tasks, MUCH)
    assert found == 1 or found <= units
    if n > most:
        assert -(-units // found) * multiple <= max(most, multiple)
    if tasks * units >= 2 * TASKS:
        assert tasks * found >= TASKS
        for threads in (2, 4, 8):            # of nine equal tasks one of two threads does five
            assert tasks * found >= MANY_TASKS or -(-tasks * found // threads) * threads <= 1.21 * tasks * found


def test_little_work_and_no_work_is_not_cut():
    assert parts_of(1000, 1000, 1, 1, 1.0) == 1
    assert parts_of(1000, 1000, 1, 8, MUCH) == 1
    assert parts_of(1000, 1000, 1, 0, 0.0) == 1
