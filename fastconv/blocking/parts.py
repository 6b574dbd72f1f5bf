"""How work is cut into parts: arithmetic that all blockings share."""
from __future__ import annotations

from typing import Any

TASKS = 8                                    # one image is cut into at least so many tasks where its work is worth it,
LAYER_TASKS = 16                             # and by a prepared layer, whose tasks pack no weights: the last ones even out the threads
MANY_TASKS = 4 * TASKS                       # of which one more or less hardly matters
TASK_FLOPS = 4e6                             # the least work that a task is cut down to
MOST_WORKSPACE = 64 * 1024 * 1024            # bytes of a thread
BAND_BYTES = 32 * 1024                       # the least part of a plane that a task of col2im or of a pooling's gradient takes


def round_up(n: int, multiple: int) -> int:
    """The next whole multiple."""
    return -(-n // multiple) * multiple


def even(n: int, most: int, multiple: int = 1) -> int:
    """The size of equal parts of `n`, none above `most`, each a whole multiple."""
    if n <= most:
        return round_up(max(1, n), multiple)
    most = max(multiple, most // multiple * multiple)
    return round_up(-(-n // -(-n // most)), multiple)


def wanted_tasks(prepared: bool) -> int:
    """How many tasks one image's work should make."""
    return LAYER_TASKS if prepared else TASKS


def split(tasks: int, flops: float, wanted: int = TASKS) -> int:
    """Into how many more parts to cut each of `tasks` tasks, so that there are as many as wanted and one image has work for every core."""
    return max(1, min(-(-wanted // max(1, tasks)), int(flops / max(1, tasks) / TASK_FLOPS)))


def parts_of(n: int, most: int, multiple: int, tasks: int, flops: float, wanted: int = TASKS) -> int:
    """Into how many parts of whole multiples, at most `most` large, to cut `n`, which makes so many times more of `tasks` tasks.

    At least as many as `split` says; of up to twice as many, those with which 2, 4 and 8 threads are equally busy: of nine tasks
    one of two threads does five.
    """
    units = max(1, -(-n // multiple))
    least = max(1 if n <= most else -(-units // max(1, most // multiple)), min(split(tasks, flops, wanted), units))
    if tasks == 0 or tasks * least >= MANY_TASKS:
        return least

    def idle(parts: int) -> float:           # how much longer than its share the busiest thread takes
        return sum(-(-tasks * parts // threads) * threads for threads in (2, 4, 8)) / (tasks * parts)

    return min(range(least, max(least, min(units, 2 * least, int(1.5 * flops / tasks / TASK_FLOPS))) + 1), key=idle)


def bands_of(planes: int, rows: int, row_bytes: int) -> int:
    """Into how many bands of rows to cut each of `planes` planes, for the operations that own rows of their result."""
    return max(1, min(rows, -(-TASKS // max(1, planes)), rows * row_bytes // BAND_BYTES))


def has_room(stage: Any) -> bool:
    """Whether a thread's workspace holds the blocks of a stage: not those of some hundred thousand channels, or of a very wide image."""
    return bool(stage.workspace <= MOST_WORKSPACE)
