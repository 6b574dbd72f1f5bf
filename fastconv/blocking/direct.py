"""Blocks of the direct engine: which way its vectors lie, how a convolution is cut into tasks, and the tables of offsets they read.

Everything here depends on shapes, dtype and instruction set alone.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels import direct, direct_phases, pack
from ..kernels.tiles import ROWS, ROWS_HALF, TILES, VECTOR_BYTES, VECTORS
from .parts import MOST_WORKSPACE, TASK_FLOPS, TASKS, even, parts_of, round_up, split, wanted_tasks
from .shape import Shape

CHAIN = 512                                  # terms of one chain of a sum
TOTAL_BYTES = 192 * 1024                     # sums that a task keeps, filters along the vectors: they stay in L2 beside a chunk of weights
SUMS_BYTES = 224 * 1024                      # the same, pixels along the vectors, of a gradient that is spread at the end
WINDOW_BYTES = 192 * 1024                    # the window of a task
NEAR_BYTES = 384 * 1024                      # of an image read as one row, copied near: long runs of many planes, and L2
WHOLE_BYTES = 512 * 1024                     # a window of all channels, where several blocks of filters read it one after the other
MANY_READS = 16                              # of a pixel, once by each panel of filters (measured)
FEW_USES = 2                                 # blocks of pixels up to which each task packs its weights by itself: they stay in L2
MOST_PIXELS = 256                            # of a task, where there are more weights than pixels
JOINED_PIXELS = 512                          # of a batch whose images are done together: a weight is fetched once for all of them
LEAST_PIXELS = 7 * ROWS                      # a task of fewer pixels spends its time fetching weights

Plane = tuple[int, int]


class Stage(NamedTuple):
    """One run of the engine: a kernel and its tasks, and how the weights are packed for it."""

    kernel: Any
    job: np.ndarray
    table: np.ndarray
    tasks: int
    pack: Any                                # None: the tasks take the weights as they are
    pack_job: np.ndarray
    pack_table: np.ndarray
    pack_tasks: int
    packed: int                              # elements of the packed weights
    workspace: int                           # bytes one thread keeps
    share: float                             # of the multiply-adds computed that the result needs, overheads counted as multiply-adds

    @property
    def across(self) -> str:
        """What lies along the vectors."""
        return str(self.kernel.__name__)


class Axis(NamedTuple):
    """One axis of a correlation: the taps of each phase as (source offset, number of the tap)."""

    grid: int                                # pixels of the destination in each phase, those behind its end included
    phases: list[list[tuple[int, int]]]
    step: int
    low: int                                 # the least source offset
    extent: int                              # the source's elements from the least offset to the largest
    kernel: int

    @staticmethod
    def forward(size: int, kernel: int, stride: int, before: int, dilation: int) -> Axis:
        """The axis of a forward pass with so many outputs."""
        taps = [(k * dilation - before, k) for k in range(kernel)]
        return Axis(size, [taps], stride, -before, (kernel - 1) * dilation + 1, kernel)

    @staticmethod
    def to_input(size: int, kernel: int, stride: int, before: int, dilation: int) -> Axis:
        """The axis of a gradient to an input of this size: output * stride - before + k * dilation = input, solved for the output."""
        phases = [[((a + before - k * dilation) // stride, k) for k in range(kernel) if (a + before - k * dilation) % stride == 0]
                  for a in range(stride)]
        offsets = [offset for taps in phases for offset, _ in taps]
        return Axis(-(-size // stride), phases, 1, min(offsets), max(offsets) - min(offsets) + 1, kernel)

    def inside(self, source: int) -> bool:
        """Does every tap of every grid pixel lie inside a source of this size?"""
        return self.low >= 0 and (self.grid - 1) * self.step + self.low + self.extent <= source

    def near(self) -> Axis:
        """The axis in a window that holds what taps read: one tap alone reads no element between its pixels."""
        return self._replace(step=1) if self.extent == 1 else self

    def reach(self, pixels: int) -> int:
        """The source's elements that so many neighbouring grid pixels read."""
        return (pixels - 1) * self.step + self.extent


def lanes(size: int) -> int:
    """Elements of so many bytes in one vector."""
    return VECTOR_BYTES // size


def why(s: Shape, stage: Stage) -> str:
    """What speaks for a stage."""
    return f"{stage.across} along the vectors; {100 * stage.share:.0f} % of the multiply-adds' time is expected to go into the result"


def describe(stage: Stage) -> str:
    """The blocks of a forward pass, in words."""
    job = dict(zip(direct.JOB, stage.job.tolist()))
    where = "read in place" if job["in_place"] else "from a window"
    images = f"{job['images']} images x " if job["images"] > 1 else ""
    return (f"{images}{job['channels']} channels x {job['filters']} filters x {job['rows']} rows of {job['columns']}, {where}; {stage.tasks} tasks; "
            f"{stage.packed:,} packed weights")


def forward(s: Shape, relu: bool = False, prepared: bool = False) -> Stage:
    """The stage of a forward pass, in the cheaper of two ways. prepared: the weights are packed beforehand, whatever it costs."""
    h, w = Axis.forward(s.OH, s.KH, s.SH, s.PT, s.DH), Axis.forward(s.OW, s.KW, s.SW, s.PL, s.DW)
    arguments = s.N, s.G, s.C // s.G, s.F // s.G, (s.H, s.W), (s.OH, s.OW), h, w, s.size, True, s.flags(s.N * s.F * s.OH * s.OW, relu)
    way = max((_filters, _pixels), key=lambda way: way(*arguments).share)        # a layer's is that of a plain call, whose bits it gives
    return way(*arguments, prepared)


def to_input(s: Shape) -> Stage:
    """The stage of the gradient to the input, in the cheapest of four ways."""
    s = s._replace(H=max(1, s.H), W=max(1, s.W))         # of an empty image nothing runs, but its plan has blocks, too
    h, w = Axis.to_input(s.H, s.KH, s.SH, s.PT, s.DH), Axis.to_input(s.W, s.KW, s.SW, s.PL, s.DW)
    arguments = s.N, s.G, s.F // s.G, s.C // s.G, (s.OH, s.OW), (s.H, s.W), h, w, s.size, False, s.flags(s.N * s.C * s.H * s.W)
    stages = [_filters(*arguments), _columns(s)]
    spread = s.KH == s.KW == 1 and s.SW == 2 and s.PT == s.PL == 0 and (s.OH, s.OW) == (h.grid, w.grid)
    if len(h.phases) * len(w.phases) == 1 or spread:
        stages.append(_pixels(*arguments))
    if s.SH == s.SW == 2:
        stages.append(_phases(s))
    return max(stages, key=lambda stage: stage.share)


def _columns(s: Shape) -> Stage:
    lanes = VECTOR_BYTES // s.size
    width = VECTORS * lanes
    F, C, taps, P = s.F // s.G, s.C // s.G, s.KH * s.KW, s.OH * s.OW
    rows = C * taps
    panel = ROWS_HALF if tile_rows(rows, ROWS_HALF) < tile_rows(rows) else ROWS
    chunk = even(F, CHAIN)
    row_bytes = (rows + chunk) * s.OW * s.size
    block = even(s.OH, max(1, COLUMNS_BYTES // row_bytes))
    bands = max(1, min(s.H // (4 * max(s.SH, s.KH)) or 1, split(s.N * s.G, s.flops)))
    group = tile_rows(rows, panel) * F
    job = _job(s.N, s.C, s.H, s.W, s.F, s.OH, s.OW, s.KH, s.KW, s.SH, s.SW, s.PT, s.PL, s.DH, s.DW, s.G, bands, block, chunk, panel, group)
    taps = 5 * P / lanes if s.SW in (1, 2, 4) else 2 * P + s.OH * ROW_COST         # vector operations to add one row of columns to dx
    vectors = bands * -(-s.OH // (bands * block)) * round_up(min(block, -(-s.OH // bands)) * s.OW, width) / lanes
    cost = (F + TILE_COST) * tile_rows(rows, panel) * vectors + 4 * F * vectors + rows * taps + s.H * TAP_COST * (rows + s.KH + C)
    room = block * row_bytes + 2 * width * (rows + chunk) * s.size
    # One weight for each row: "channels" are rows here, each of one tap.
    return Stage(direct.columns, job, np.zeros(1, np.int64), s.N * s.G * bands, pack.pack_rows_turned, _job(rows, F, 1, group, 1, panel),
                 _job(direct.PHASE, 1, 0, 0), s.G * -(-rows // panel), s.G * group, room,
                 0.0 if room > MOST_BYTES else UNALIGNED * rows * F * P / lanes / max(1.0, cost))


TAP_COST = 20.0                              # vector operations to find what each tap and each channel adds to a row of dx
COLUMNS_BYTES = 256 * 1024                   # columns that a task keeps until they are added, and the dout that they are made of
MOST_BYTES = 16 * 1024 * 1024                # of a task's columns, or of the window of all phases, up to which they serve


def _phases(s: Shape) -> Stage:
    h, w = Axis.to_input(s.H, s.KH, s.SH, s.PT, s.DH), Axis.to_input(s.W, s.KW, s.SW, s.PL, s.DW)
    lanes = VECTOR_BYTES // s.size
    width = direct_phases.TILE_VECTORS * lanes
    C, F, T = s.C // s.G, s.F // s.G, s.KH * s.KW
    panels = -(-C // direct_phases.CHANNELS)
    down, along = _by_parity(h), _by_parity(w)
    classes = [(a, b) for a in down for b in along]
    entries = [(c, i * s.KW + j) for a, b in classes for row in a for column in b for i in row[1:] for j in column[1:] for c in range(direct_phases.CHANNELS)]
    flops = 2.0 * s.N * s.G * F * C * T * s.OH * s.OW

    def room(rows: int, columns: int) -> int:
        return F * (rows + h.extent - 1) * (round_up(columns, width) + w.extent - 1) * s.size

    rows, columns = h.grid, w.grid
    while columns > 4 * width and room(1, columns) > WINDOW_BYTES:
        columns = round_up(columns // 2, width)
    while rows > 1 and room(rows, columns) > WINDOW_BYTES:
        rows -= 1
    blocks = s.N * s.G * -(-w.grid // columns)
    rows = even(h.grid, max(1, min(rows, -(-h.grid // split(blocks, flops)))))
    row_blocks, column_blocks = -(-h.grid // rows), -(-w.grid // columns)
    block = even(panels, max(1, -(-panels // split(blocks * row_blocks, flops))))
    segment = round_up(columns, width) + w.extent - 1
    shifts = [(row[0] - h.low) * segment + column[0] - w.low for a, b in classes for row in a for column in b]
    table = np.array([len(a) * len(b) for a, b in classes] + shifts, np.int64)
    job = _job(s.N, s.G, C, F, s.H, s.W, s.OH, s.OW, h.low, w.low, h.extent, w.extent, rows, columns, block, CHAIN, len(entries))
    rest = w.grid % width
    vectors = w.grid // width * direct_phases.TILE_VECTORS + (0 if rest == 0 else 1 if rest <= lanes else direct_phases.TILE_VECTORS)
    loaded = -(-panels // block) * row_blocks * column_blocks * F * (rows + h.extent - 1) * (ROW_COST + segment / lanes)
    cost = panels * h.grid * vectors * (F * (len(entries) + FILTER_COST) + PHASES_COST) + loaded
    return Stage(direct_phases.phases, job, table, s.N * s.G * row_blocks * column_blocks * -(-panels // block), direct_phases.pack_phases,
                 _job(C, F, T, panels, len(entries)), np.array(entries, np.int64).ravel(), s.G * panels, s.G * panels * F * len(entries),
                 room(rows, columns), 0.0 if room(rows, columns) > MOST_BYTES else UNALIGNED * C * T * s.OH * s.OW * F / lanes / cost)


PHASES_COST, FILTER_COST = 30.0, 2.0         # vector operations to start and to store a tile of all phases, and for each filter, for each vector of pixels


def _by_parity(axis: Axis) -> list[list[tuple[int, ...]]]:
    """The shifts of the source that serve phase 0, phase 1 and both: (shift, the tap of each phase)."""
    even, odd = (dict(phase) for phase in axis.phases)
    return [[(shift, even[shift]) for shift in even if shift not in odd], [(shift, odd[shift]) for shift in odd if shift not in even],
            [(shift, even[shift], odd[shift]) for shift in even if shift in odd]]


def _filters(N: int, G: int, C: int, F: int, source: Plane, target: Plane, h: Axis, w: Axis, size: int, forward: bool, flags: int,
             prepared: bool = False) -> Stage:
    lanes = VECTOR_BYTES // size
    width = VECTORS * lanes
    taps = [(a, b) for a in h.phases for b in w.phases]
    phases, all_taps, most_taps = len(taps), sum(len(a) * len(b) for a, b in taps), max(len(a) * len(b) for a, b in taps)
    reached = sum(1 for a, b in taps if a and b)             # phases that have sums
    thin = w.extent == 1 and w.step == 2 and F >= MANY_READS * width         # half of each line is read: worth a window where it is read often
    in_place = h.inside(source[0]) and w.inside(source[1]) and not thin
    (H, W), (OH, OW) = source, target
    if in_place and most_taps == phases == h.step == w.step == 1 and source == target:
        H, W, OH, OW = H * W, 1, OH * OW, 1  # one column of pixels: blocks of any size
        h, w = h._replace(grid=OH), w._replace(grid=1)
    near_h, near_w = (h, w) if in_place else (h.near(), w.near())
    chunk = even(C, max(1, CHAIN // most_taps))
    flops, wanted = 2.0 * N * G * C * F * h.grid * w.grid * all_taps, wanted_tasks(prepared)
    padded, images = padded_filters(F, width, lanes), 1
    if in_place and h.step == w.step == 1 and N * h.grid * w.grid <= JOINED_PIXELS:
        shares = -(-F // width) if flops >= TASKS * TASK_FLOPS else 1        # of the filters, at most, where that leaves tasks for all threads
        images = even(N, max(1, N * G * shares // TASKS))
    groups = -(-N // images)                 # of images

    def blocks(rows: int, filters: int) -> int:
        return groups * G * -(-h.grid // rows) * -(-F // filters)

    def fewer_filters(rows: int, filters: int) -> int:
        return round_up(-(-F // parts_of(F, filters, width, blocks(rows, F), flops, wanted)), width)

    most_rows = h.grid
    if not in_place:
        most_rows = max(1, min(most_rows, ((WHOLE_BYTES if thin else WINDOW_BYTES) // (chunk * near_w.reach(w.grid) * size) - h.extent) // near_h.step + 1))
    if images > 1:
        rows = h.grid
        filters = fewer_filters(rows, even(F, max(width, TOTAL_BYTES // (reached * size * images * rows * w.grid)), width))
    elif thin or padded * all_taps > h.grid * w.grid:        # more weights than pixels: each is fetched for as many pixels as there are
        rows = max(1, min(most_rows, MOST_PIXELS // w.grid))
        loadable = (WHOLE_BYTES // (C * near_w.reach(w.grid) * size) - h.extent) // near_h.step + 1
        if not in_place and loadable * w.grid >= LEAST_PIXELS:
            rows = min(rows, loadable)       # so that one window serves every block of filters
        filters = fewer_filters(rows, even(F, max(width, TOTAL_BYTES // (reached * size * rows * w.grid)), width))
        rows = _fit(max(min(rows, -(-LEAST_PIXELS // w.grid)), -(-rows // split(blocks(rows, filters), flops, wanted))), w.grid, h.grid)
    else:
        filters = even(F, max(width, TOTAL_BYTES // (reached * size * w.grid)), width)
        rows = max(1, min(most_rows, -(-LEAST_PIXELS // w.grid)), min(most_rows, TOTAL_BYTES // (reached * size * filters) // w.grid))
        parts = split(blocks(rows, filters), flops, wanted)
        if parts > 1:
            rows = max(min(rows, -(-LEAST_PIXELS // w.grid)), -(-h.grid // (parts * -(-h.grid // rows))))
        rows = _fit(rows, w.grid, h.grid)
        filters = fewer_filters(rows, filters)
    row_blocks, f_blocks, pixels = -(-h.grid // rows), -(-F // filters), rows * w.grid
    pitch = W if in_place else near_w.reach(w.grid)
    whole = not in_place and f_blocks > 1 and C * near_h.reach(rows) * pitch * size <= WHOLE_BYTES
    raw = 0
    if not prepared and groups * row_blocks <= FEW_USES:
        raw = 0 if all_taps > CHAIN else direct.TRANSPOSED if forward else direct.COPIED if all_taps == 1 else direct.TURNED
    header, offsets, numbers, at, begin = [], [], [], 0, direct.PHASE * phases
    for a, b in taps:
        header += [begin + len(offsets), len(a) * len(b), at]
        offsets += [(i - h.low) * pitch + j - w.low for i, _ in a for j, _ in b]
        numbers += [i * w.kernel + j for _, i in a for _, j in b]
        at += len(a) * len(b) * C * padded
    grid = np.arange(images)[:, None, None] * (G * C * H * W) + np.arange(rows)[:, None] * (near_h.step * pitch) + np.arange(w.grid) * near_w.step
    table = np.concatenate([np.array(header + offsets, np.int64), grid.ravel(), np.array(numbers, np.int64)])
    job = _job(N, G, C, F, H, W, OH, OW, h.grid, w.grid, len(h.phases), len(w.phases), h.step, w.step, h.low, w.low, h.extent, w.extent, in_place,
               rows, w.grid, filters, chunk, CHAIN, flags, at, begin + len(offsets), 0, whole, raw, row_blocks, 1, images)
    # The cost of one group of one image, in vector multiply-adds: tiles, turning the result around, loading windows.
    window = 0 if in_place else near_h.reach(rows) * pitch
    cost = (all_taps * C * (h.grid // rows * tile_rows(images * pixels) / images + tile_rows(h.grid % rows * w.grid)) * padded / lanes
            + (2 * TURN_COST if OH * OW * size % PAGE == 0 else TURN_COST) * lanes * reached * row_blocks * -(-pixels // lanes) * padded / lanes
            + (0 if in_place else row_blocks * f_blocks * C * near_h.reach(rows) * (ROW_COST + pitch / lanes)))
    double = size == 8 and not forward and len(w.phases) <= 2 and all_taps == 1 and (images > 1 or not raw) and images * h.grid * w.grid >= LEAST_PIXELS
    cost *= GATHERED if not in_place else IN_PLACE_DOUBLE if double else IN_PLACE
    cost += 0 if raw or forward else PACK_COST * all_taps * C * padded / lanes / max(1, N)
    room = (reached * (images * pixels + ROWS + lanes) * filters + (C if whole else chunk) * window + (chunk * all_taps * width * direct.TOGETHER if raw else 0)
            + (phases * pixels * lanes if phases > 1 else 0))
    packing = None if raw else pack.pack_filters if forward else pack.pack_channels
    return Stage(direct.filters, job, table, groups * G * row_blocks * f_blocks, packing, *_packing(C, F, h.kernel * w.kernel, at, forward, header, numbers),
                 G * -(-F // width), G * at, room * size,
                 0.0 if room * size > MOST_WORKSPACE else all_taps * C * h.grid * w.grid * F / lanes / cost)


TURN_COST = 10.0                             # vector operations to turn one vector of pixels around, and to store it; twice that where planes alias
# Reading pixels one by one: small tiles hide it less. In place no prefetcher follows so many streams, and float64 has twice as many lines to wait for:
# the gradient to the input of one tap and stride rather copies planes of 7x7 and 14x14 near (measured at batch 8).
IN_PLACE, IN_PLACE_DOUBLE, GATHERED = (1.04, 1.2, 1.0) if TILES.registers >= 32 else (1.4, 1.4, 1.05)
ROW_COST = 6.0                               # to find a row of a window and its edges


def _pixels(N: int, G: int, C: int, F: int, source: Plane, target: Plane, h: Axis, w: Axis, size: int, forward: bool, flags: int,
            prepared: bool = False) -> Stage:
    lanes = VECTOR_BYTES // size
    width = VECTORS * lanes
    a, b = h.phases[0], w.phases[0]
    taps, apart = len(a) * len(b), len(h.phases) * len(w.phases) > 1
    (H, W), (OH, OW) = source, (h.grid, w.grid)
    in_place = h.inside(H) and w.inside(W) and taps == h.step == w.step == 1 and source == (OH, OW)
    images = 1
    if in_place:                             # one long row
        H, W, OH, OW = 1, H * W, 1, OH * OW
        h, w = h._replace(grid=1), w._replace(grid=OW)
        images = max(1, N) if lanes <= OW <= MOST_JOINED else 1
    groups, across = -(-N // images), images * OW
    panel = ROWS_HALF if tile_rows(F, ROWS_HALF) < tile_rows(F) else ROWS
    chunk, filters = even(C, max(1, CHAIN // taps)), round_up(F, panel)
    flops, wanted = 2.0 * N * G * C * F * OH * OW * taps, wanted_tasks(prepared)

    near_h, kept = h.near(), w.near().step

    def segment_of(columns: int) -> int:
        return round_up(columns, width) + (w.extent - 1) // w.step

    def room(rows: int, columns: int) -> int:
        return (-(-columns // width) * (chunk * width + lanes) if in_place else chunk * near_h.reach(rows) * segment_of(columns) * kept) * size

    rows, columns = 1, round_up(across, width)
    while columns > 8 * width and room(1, columns) > WINDOW_BYTES:
        columns = round_up(columns // 2, width)
    if in_place:
        most, tiles = max(1, NEAR_BYTES // (chunk * size * width)), -(-across // width)
        column_blocks = parts_of(across, most * width, width, groups * G, flops, wanted)
        column_blocks = max(-(-tiles // most), min(column_blocks, tiles // FEW_TILES))
    else:
        while rows < OH and room(rows + 1, columns) <= WINDOW_BYTES:
            rows += 1
        column_blocks = -(-OW // columns)
    columns = round_up(-(-round_up(across, width) // column_blocks), width)
    row_blocks = parts_of(OH, rows, 1, groups * G * column_blocks, flops, wanted)
    rows = -(-OH // row_blocks)
    filters = round_up(-(-F // parts_of(F, F, panel, groups * G * column_blocks * row_blocks, flops, wanted)), panel)
    if apart:                                # the sums wait until they are whole
        filters = min(filters, even(F, max(panel, SUMS_BYTES // (columns * size)), panel))
    f_blocks = -(-F // filters)
    segment = segment_of(columns)
    offsets = [0] if in_place else [(i - h.low) * segment * kept + (j - w.low) % w.step * segment + (j - w.low) // w.step for i, _ in a for j, _ in b]
    header, numbers = [direct.PHASE, taps, 0], [i * w.kernel + j for _, i in a for _, j in b]
    group = tile_rows(F, panel) * C * taps
    job = _job(N, G, C, F, H, W, OH, OW, *target, len(h.phases), len(w.phases), h.step, w.step, h.low, w.low, h.extent, w.extent, in_place, rows, columns,
               filters, chunk, CHAIN, flags, group, 0, panel, False, False, row_blocks, column_blocks, images)
    vectors = (across // width * VECTORS + (0 if across % width == 0 else ALONE if across % width <= lanes else VECTORS)) / images
    loaded = (C * column_blocks * f_blocks * (ROW_COST + COPY_COST * columns / lanes) / images if in_place
              else row_blocks * column_blocks * f_blocks * C * h.reach(rows) * w.step * (ROW_COST + segment / lanes))
    tile_cost = TILE_COST + (SPREAD_COST if apart else 0)
    cost = (taps * C + tile_cost) * tile_rows(F, panel) * OH * vectors + loaded + (0 if forward else PACK_COST * taps * C * F / lanes / max(1, N))
    return Stage(direct.pixels, job, np.array(header + offsets, np.int64), groups * G * row_blocks * column_blocks * f_blocks,
                 pack.pack_rows if forward else pack.pack_rows_turned, *_packing(C, F, h.kernel * w.kernel, group, forward, header, numbers, panel),
                 G * -(-F // panel), G * group, room(rows, columns) + (filters * columns * size if apart else 0),
                 UNALIGNED * taps * C * OH * OW * F / lanes / cost)


PAGE = 4096                                  # in a page: planes a multiple of this apart need that room twice
UNALIGNED = 0.97 if TILES.registers >= 32 else 0.92           # vectors of pixels cross cache lines, which small tiles hide less
ALONE = 1.1 if TILES.registers >= 32 else 1.5                 # vectors' time of a tile of one vector: fewer chains, and a broadcast for each
FEW_TILES = 3                                # of a block of pixels: of fewer each panel of weights comes too fast from afar
MOST_JOINED = 400                            # pixels of a plane
PACK_COST = 24.0                             # vector operations to pack one vector of weights, which come from afar. Not of a forward
                                             # pass, where a prepared layer goes the same way
COPY_COST = 2.0                              # vector operations to copy one vector near
TILE_COST = 3.0                              # vector operations to start and to store one vector of a tile
SPREAD_COST = 20.0                           # and to spread it over the lines of a strided gradient


def _job(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


def _packing(C: int, F: int, taps: int, group: int, forward: bool, header: list[int], numbers: list[int],
             panel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The job and the table of the packing kernels, in terms of the weights' own channels and filters."""
    channels, filters = (C, F) if forward else (F, C)
    return _job(channels, filters, taps, group, len(header) // direct.PHASE, panel), _job(*header, *numbers)


def tile_rows(rows: int, panel: int = ROWS) -> int:
    """Rows that tiles compute for so many: whole tiles of a panel's height, and a smaller one for what is left over."""
    tail = rows % panel
    return rows - tail + next((height for height in sorted(TILES.rows) if height >= tail), 0) if tail else rows


def padded_filters(F: int, width: int, lanes: int) -> int:
    """Filters in panels along the vectors: whole ones, and one of a single vector for a short rest."""
    rest = F % width
    return F - rest + (0 if rest == 0 else lanes if rest <= lanes else width)


def _fit(rows: int, across: int, most: int) -> int:
    """As many rows of `across` pixels as said, or somewhat fewer, whichever fill tiles best over all `most` rows, in blocks of one size."""
    def cost(n: int) -> int:
        whole, rest = divmod(most, n)
        return whole * tile_rows(n * across) + tile_rows(rest * across) + (-most % n) * across

    return min(range(max(1, 2 * rows // 3), rows + 1), key=lambda n: (cost(n), -n))
