"""How work is cut into parts: arithmetic that all blockings share."""
from __future__ import annotations

TASKS = 8                                    # one image is cut into at least so many tasks where its work is worth it
TASK_FLOPS = 4e6                             # the least work that a task is cut down to
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


def split(tasks: int, flops: float) -> int:
    """Into how many more parts to cut each of `tasks` tasks, so that one image has work for every core."""
    return max(1, min(-(-TASKS // max(1, tasks)), int(flops / max(1, tasks) / TASK_FLOPS)))


def bands_of(planes: int, rows: int, row_bytes: int) -> int:
    """Into how many bands of rows to cut each of `planes` planes, for the operations that own rows of their result."""
    return max(1, min(rows, -(-TASKS // max(1, planes)), rows * row_bytes // BAND_BYTES))
