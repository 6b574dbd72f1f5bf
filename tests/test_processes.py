"""Threads, forked and spawned children, folders that cannot be written: answers stay right, bit for bit."""
import json
import multiprocessing
import os
from pathlib import Path

import numba
import numpy as np
import pytest
from cases import conv_cases, fold_cases, norm_cases, pool_cases
from isolated import run

import fastconv
from fastconv import runtime
from fastconv.kernels import jit

NO_JIT = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
TWO_CORES = pytest.mark.skipif(CORES < 2, reason="two threads are asked for")

# Every operation, forward and backward, on shapes that are worth two threads; `work()` gives all results in their order.
WORK = """
import numpy as np, fastconv
from fastconv import runtime
rng = np.random.default_rng(0)
x = rng.standard_normal((2, 8, 160, 161)).astype(np.float32)
weight = rng.standard_normal((16, 8, 3, 3)).astype(np.float32)
few = weight[:3]
C = np.arange(1, 9, dtype=np.float32)
rows = rng.standard_normal((3000, 70)).astype(np.float32)

def work():
    results = []
    for w, algorithm in ((weight, "im2col"), (few, "direct")):
        y = fastconv.conv2d(x, w, None, 1, 1, algorithm=algorithm)
        results += [y, *fastconv.conv2d_backward(y, x, w, w[:, 0, 0, 0], 1, 1, algorithm=algorithm)]
    y, indices = fastconv.max_pool2d(x, 3, 2, 1, return_indices=True)
    results += [y, indices, fastconv.max_pool2d(x, 2), fastconv.max_pool2d_backward(y, x, 3, 2, 1)]
    results += [fastconv.max_pool2d_backward(y, x, 3, 2, 1, indices=indices)]
    y = fastconv.avg_pool2d(x, 3, 2, 1)
    results += [y, fastconv.avg_pool2d_backward(y, x, 3, 2, 1)]
    cols = fastconv.im2col(x, 3)
    results += [cols, fastconv.im2col_backward(cols, x, 3)]
    results += [fastconv.col2im(cols, (160, 161), 3), fastconv.col2im_backward(x, cols, (160, 161), 3)]
    for image, c in ((x, C), (rows, rows[0] * 1)):
        results += [fastconv.batch_norm(image, None, None, c, c), *fastconv.batch_norm_backward(image, image, None, None, c, c)]
    return [r for r in results if r is not None]

def same(results, wanted):
    return len(results) == len(wanted) and all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(results, wanted))
"""

HELPERS = "__import__('fastconv.kernels.team').kernels.team._helpers"      # threads that were started

SMALLER = """
import numpy as np, fastconv
from fastconv import runtime
x = np.random.default_rng(0).standard_normal((2, 8, 160, 161)).astype(np.float32)
weight = np.random.default_rng(1).standard_normal((16, 8, 3, 3)).astype(np.float32)

def work():
    return [fastconv.conv2d(x, weight, padding=1), fastconv.max_pool2d(x, 2), fastconv.batch_norm(x, None, None)]

def same(results, wanted):
    return all(np.array_equal(a, b) for a, b in zip(results, wanted))

fastconv.set_num_threads(1)
wanted = work()
fastconv.set_num_threads(2)
"""

FORKED = """
import os, time

def forked():
    "True where a forked child gets the right answer, within a minute."
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if same(work(), wanted) else 2
        finally:
            os._exit(status)
    end = time.time() + 60
    while time.time() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False
"""

THREADS = """
import threading

def together(n=8, rounds=2):
    "n threads that all enter at once; the list that their verdicts go to."
    barrier, verdicts = threading.Barrier(n), []
    def enter():
        barrier.wait()
        for _ in range(rounds):
            verdicts.append(same(work(), wanted))
    threads = [threading.Thread(target=enter) for _ in range(n)]
    for thread in threads:
        thread.start()
    return threads, verdicts

def finished(threads, verdicts):
    for thread in threads:
        thread.join(60)
    return not any(t.is_alive() for t in threads) and len(verdicts) == 16 and all(verdicts)
"""


# ---------------------------------------------------------------- the number of threads
def test_bits_do_not_depend_on_the_number_of_threads():
    program = WORK + """
fastconv.set_num_threads(1)
wanted, used = work(), set()
from fastconv import conv, plan
threads_for = runtime.threads_for
runtime.threads_for = lambda flops: used.add(threads_for(flops)) or threads_for(flops)
for n in (2, 3, 7):
    fastconv.set_num_threads(n)
    plan.conv_plan.cache_clear()               # a plan made for other threads must be the same
    conv._plans.clear()
    assert same(work(), wanted), n
    assert same(work(), wanted), n
print(sorted(used), len(wanted))
"""
    used, results = run(program, NUMBA_NUM_THREADS="7").rsplit(" ", 1)
    assert {2, 3, 7} <= set(json.loads(used)) and int(results) > 25


def cases():
    """Small cases of every operation: not worth a second thread on their own."""
    for case in conv_cases()[::3]:
        for algorithm in ("direct", "im2col"):
            kwargs = {**case.kwargs, "algorithm": algorithm}
            yield fastconv.conv2d, case.arrays(np.float32), kwargs
            yield fastconv.conv2d_backward, (case.dout(np.float32), *case.arrays(np.float32)), kwargs
    for case in pool_cases()[::3]:
        yield fastconv.max_pool2d, case.arrays(np.float32), {**case.max_kwargs, "return_indices": True}
        yield fastconv.max_pool2d_backward, (case.dout(np.float32), *case.arrays(np.float32)), case.max_kwargs
        yield fastconv.avg_pool2d, case.arrays(np.float32), case.avg_kwargs
        yield fastconv.avg_pool2d_backward, (case.dout(np.float32), *case.arrays(np.float32)), case.avg_kwargs
    for case in norm_cases()[::3]:
        yield fastconv.batch_norm, case.arrays(np.float32), case.kwargs
        yield fastconv.batch_norm_backward, (case.dout(np.float32), *case.arrays(np.float32)), case.kwargs
    for case in fold_cases()[::3]:
        x, = case.arrays(np.float32)
        cols = fastconv.im2col(x, case.kernel_size, **case.kwargs)
        yield fastconv.im2col, (x, case.kernel_size), case.kwargs
        yield fastconv.col2im, (cols, case.output_size, case.kernel_size), case.kwargs


def test_several_threads_agree_with_one_on_small_cases(monkeypatch):
    for function, arrays, kwargs in cases():
        results = []
        for threads in (1, runtime.max_threads()):
            monkeypatch.setattr(runtime, "threads_for", lambda work, threads=threads: threads)
            result = function(*(a.copy() if isinstance(a, np.ndarray) else a for a in arrays), **kwargs)
            results.append(result if isinstance(result, tuple) else (result,))
        for one, many in zip(*results):
            assert (one is None and many is None) or one.tobytes() == many.tobytes(), (function, kwargs, [a.shape for a in arrays[:2]])


def test_settings_of_the_user_stay():
    program = WORK + """
import os, numba
environment, config = dict(os.environ), {name: getattr(numba.config, name) for name in dir(numba.config) if name.isupper()}
for threads in (1, 2, 3):
    numba.set_num_threads(threads)
    fastconv.set_num_threads(3)
    work()
    assert numba.get_num_threads() == threads
    fastconv.set_num_threads(1)
    work()
    assert numba.get_num_threads() == threads and fastconv.get_num_threads() == 1
try:
    fastconv.conv2d(x, weight, out=weight)
except ValueError:
    pass
assert numba.get_num_threads() == 3
assert dict(os.environ) == environment
assert {name: getattr(numba.config, name) for name in config} == config
"""
    run(program, NUMBA_NUM_THREADS="3")


def test_environment_variable(monkeypatch):
    most = runtime.max_threads()
    for text in ("0", "-1", "1.5", "two", str(most + 1), "9" * 30, "1 2", "0x1", "None"):
        monkeypatch.setattr(runtime, "_threads", None)
        monkeypatch.setenv("FASTCONV_NUM_THREADS", text)
        with pytest.raises(ValueError, match=r"FASTCONV_NUM_THREADS .*wanted: an integer from 1 to"):
            fastconv.get_num_threads()
    for text, threads in (("1", 1), (f" {most} ", most), ("", most), ("   ", most)):
        monkeypatch.setattr(runtime, "_threads", None)
        monkeypatch.setenv("FASTCONV_NUM_THREADS", text)
        assert fastconv.get_num_threads() == threads
    monkeypatch.delenv("FASTCONV_NUM_THREADS")
    monkeypatch.setattr(runtime, "_threads", None)
    assert fastconv.get_num_threads() == most
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "1")
    fastconv.set_num_threads(most)
    assert fastconv.get_num_threads() == most


def test_environment_variable_in_a_process():
    program = SMALLER.split("fastconv.set_num_threads(1)")[0]
    assert run(program + "work(); print(fastconv.get_num_threads(), HELPERS)".replace("HELPERS", HELPERS), FASTCONV_NUM_THREADS="1") == "1 0"
    run(program + """
try:
    work()
except ValueError as error:
    assert "FASTCONV_NUM_THREADS is 'many'" in str(error), error
else:
    raise AssertionError
fastconv.set_num_threads(1)
work()
""", FASTCONV_NUM_THREADS="many")


# ---------------------------------------------------------------- threads and processes
@NO_JIT
@TWO_CORES
def test_eight_threads_enter_at_once():
    assert run(SMALLER + THREADS + f"print(finished(*together()), {HELPERS})") == "True 1"


@TWO_CORES
def test_eight_threads_enter_before_anything_is_compiled_or_started():
    """The first calls of a process, all at once, against the answers of one thread afterwards."""
    program = SMALLER.split("fastconv.set_num_threads(1)")[0] + THREADS + """
wanted, results, work_alone = None, [], work
same = lambda result, _: results.append(result) or True
threads, verdicts = together(rounds=2)
assert finished(threads, verdicts)
fastconv.set_num_threads(1)
wanted = work_alone()
print(len(results), all(np.array_equal(a, b) for result in results for a, b in zip(result, wanted)))
"""
    assert run(program) == "16 True"


@NO_JIT
@FORK
@TWO_CORES
def test_forked_after_use():
    program = SMALLER + THREADS + FORKED + """
assert same(work(), wanted) and forked() and same(work(), wanted)
assert finished(*together())
assert forked() and same(work(), wanted)
print("right")
"""
    assert run(program) == "right"


@NO_JIT
@FORK
@TWO_CORES
def test_forked_while_threads_run_and_from_a_thread():
    program = SMALLER + THREADS + FORKED + """
assert same(work(), wanted)                    # threads are started by the main thread
running = together()
assert forked()
assert finished(*running)
answers = []
thread = threading.Thread(target=lambda: answers.append(forked()))
thread.start()
thread.join()
print(answers == [True] and same(work(), wanted))
"""
    assert run(program) == "True"


@NO_JIT
@FORK
@TWO_CORES
def test_forked_after_the_user_ran_openmp():
    """GNU OpenMP ends a child that enters it; here the user's program started it, before this package did anything."""
    user = """
import os, sys, numba, numpy as np
@numba.njit(parallel=True)
def total(a):
    s = 0.0
    for i in numba.prange(a.size):
        s += a[i]
    return s
assert total(np.ones(1000)) == 1000
"""
    program = SMALLER.split("fastconv.set_num_threads(1)")[0] + user + FORKED + """
fastconv.set_num_threads(1)
wanted = work()
fastconv.set_num_threads(2)
print(forked(), same(work(), wanted))
"""
    assert run(program, NUMBA_THREADING_LAYER="omp") == "True True"
    late = user + """
import multiprocessing
def child(queue):
    exec(PROGRAM)
    queue.put(float(PROGRAM_GLOBALS["total"]))
PROGRAM_GLOBALS = {}
PROGRAM = '''
import fastconv, numpy as np
x = np.ones((2, 8, 160, 161), np.float32)
PROGRAM_GLOBALS["total"] = fastconv.max_pool2d(x, 2).sum()
'''
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
print(queue.get(timeout=60), "fastconv" in sys.modules)
process.join(60)
"""
    assert run(late, NUMBA_THREADING_LAYER="omp") == "102400.0 False"


@NO_JIT
@TWO_CORES
@pytest.mark.parametrize("layer", ["default", "omp"])
def test_the_users_own_parallel_program_runs_at_the_same_time(layer):
    program = SMALLER + THREADS + """
import numba
@numba.njit(parallel=True, nogil=True)
def total(a):
    s = 0
    for i in numba.prange(a.size):
        s += a[i]
    return s
numbers, answers = np.arange(200_000), []
wanted_total = total(numbers)
def user():
    numba.set_num_threads(1 + len(answers) % numba.config.NUMBA_NUM_THREADS)
    before = numba.get_num_threads()
    for _ in range(100):
        answers.append(total(numbers) == wanted_total and numba.get_num_threads() == before)
users = [threading.Thread(target=user) for _ in range(3)]
for thread in users:
    thread.start()
assert finished(*together())
for thread in users:
    thread.join(60)
print(len(answers), all(answers))
"""
    assert run(program, NUMBA_THREADING_LAYER=layer) == "300 True"


@TWO_CORES
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SMALLER + f"""
import multiprocessing
def child(_):
    return same(work(), wanted)
if __name__ == "__main__":
    assert same(work(), wanted)
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(pool.map(child, range(4)))
""")
    assert run(script=script) == "[True, True, True, True]"


# ---------------------------------------------------------------- import, folders, no compiler
def test_import_does_nothing(tmp_path):
    program = """
import os, sys, threading
import numba
from numba.core.dispatcher import Dispatcher
before, by_numba = dict(os.environ), set(sys.modules)
import fastconv, fastconv.functional
optional = {"matplotlib", "torch", "scipy", "rich", "naive", "jinja2", "pytest", "hypothesis", "dask"} & set(sys.modules) - by_numba
modules = [module for name, module in list(sys.modules.items()) if name.startswith("fastconv")]
kernels = [k for module in modules for k in vars(module).values() if isinstance(k, Dispatcher)]
compiled = [k for k in kernels if k.signatures]
try:
    layer = numba.threading_layer()
except ValueError:
    layer = None
tbb = os.path.exists("/proc/self/maps") and "libtbb" in open("/proc/self/maps").read()
print(optional, compiled, layer, tbb, threading.active_count(), dict(os.environ) == before, len(kernels) > 30 or numba.config.DISABLE_JIT)
"""
    folders = {name: tmp_path / name for name in ("HOME", "XDG_CACHE_HOME", "FASTCONV_CACHE_DIR", "NUMBA_CACHE_DIR")}
    assert run(program, flags=("-B",), **folders) == "set() [] None False 1 True True"
    assert not any(folder.exists() for folder in folders.values())


NOWHERE = {name: "/dev/null/nowhere" for name in ("HOME", "XDG_CACHE_HOME", "FASTCONV_CACHE_DIR", "NUMBA_CACHE_DIR")}
TINY = """
import numpy as np, fastconv
from fastconv import runtime
x = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
print(fastconv.avg_pool2d(x, 2).tolist(), runtime.info()["kernel cache"].split(":")[0])
"""


@pytest.mark.parametrize("folder", ["/dev/null/nowhere", __file__, "/proc/nowhere"])
def test_no_writable_folder(folder):
    """The last of these looks as if it could be written, to root."""
    answer, cache = run(TINY, flags=("-W", "error"), **{**NOWHERE, "FASTCONV_CACHE_DIR": folder}).rsplit(" ", 1)
    assert answer == "[[[2.5, 4.5], [10.5, 12.5]]]"
    assert cache == "none" or folder == "/proc/nowhere"


def test_folders_that_may_not_be_looked_at(monkeypatch, tmp_path):
    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    choose = jit.cache_folder.__wrapped__
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    assert choose() is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)         # a user that the system does not know
    assert choose() is None
    for name in ("FASTCONV_CACHE_DIR", "NUMBA_CACHE_DIR"):
        with monkeypatch.context() as patched:
            patched.setenv(name, str(tmp_path / "new"))
            assert choose().parent == tmp_path / "new"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert choose().parent == tmp_path / "fastconv"
    monkeypatch.setattr(Path, "exists", forbidden)
    assert choose() is None
    assert not any(tmp_path.iterdir())


def test_without_the_compiler():
    """NUMBA_DISABLE_JIT=1: the same functions as plain Python, drivers of the parallel kind among them."""
    program = """
import numpy as np, fastconv, naive
from fastconv import runtime
rng = np.random.default_rng(0)
for runtime.SMALL_WORK in (runtime.SMALL_WORK, 0):
    for dtype in (np.float32, np.float64):
        x, w, b = (rng.integers(-3, 4, s).astype(dtype) for s in ((2, 4, 5, 6), (4, 2, 3, 3), (4,)))
        y, gradients = naive.conv2d(x, w, b, 1, 1, 1, 2), naive.conv2d_backward(x, x, w, b, 1, 1, 1, 2)
        for algorithm in ("direct", "im2col"):
            assert np.array_equal(fastconv.conv2d(x, w, b, 1, 1, 1, 2, algorithm=algorithm), y)
            for fast, slow in zip(fastconv.conv2d_backward(x, x, w, b, 1, 1, 1, 2, algorithm=algorithm), gradients):
                assert np.array_equal(fast, slow)
        for name in ("max_pool2d", "avg_pool2d"):
            y = getattr(naive, name)(x, 2)
            assert np.array_equal(getattr(fastconv, name)(x, 2), y)
            assert np.array_equal(getattr(fastconv, name + "_backward")(y, x, 2), getattr(naive, name + "_backward")(y, x, 2))
        cols = naive.im2col(x, 3)
        assert np.array_equal(fastconv.im2col(x, 3), cols)
        assert np.array_equal(fastconv.col2im(cols, (5, 6), 3), naive.col2im(cols, (5, 6), 3))
        for image in (x, x[:, :, 0, 0]):
            assert np.allclose(fastconv.batch_norm(image, None, None, b, b), naive.batch_norm(image, None, None, b, b), atol=1e-5)
            for fast, slow in zip(*(m.batch_norm_backward(image, image, None, None, b, b) for m in (fastconv, naive))):
                assert np.allclose(fast, slow, atol=1e-4)
print("right")
"""
    assert run(program, flags=("-W", "error::RuntimeWarning:fastconv"), NUMBA_DISABLE_JIT="1", **NOWHERE) == "right"


# ---------------------------------------------------------------- processes that compile
@NO_JIT
@pytest.mark.skipif(os.name == "nt", reason="no signals to kill by")
def test_processes_that_compile_end_with_the_one_that_waits_for_them():
    """They have its standard output: it is at its end once all of them are gone."""
    program = """
import os, signal
from fastconv import processes
for _ in processes.each(eval, ["1 + 1"] * 8):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(AssertionError, match="exit status -9"):
        run(program, timeout=60, FASTCONV_NUM_THREADS=2)


@NO_JIT
def test_a_stop_does_not_wait_for_what_processes_are_at():
    program = """
import os, signal, threading, time
from fastconv import processes
try:
    for item, _ in processes.each(time.sleep, [0, 100, 100, 100]):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
except KeyboardInterrupt:
    print("stopped")
"""
    assert run(program, timeout=60, FASTCONV_NUM_THREADS=2) == "stopped"


@NO_JIT
def test_what_lost_processes_leave_is_done_here():
    program = """
import os
from fastconv import processes
own = f"__import__('os').getpid() if __import__('os').getpid() == {os.getpid()} else __import__('os')._exit(1)"
print(list(processes.each(eval, [own, own, own, own])) == [(own, os.getpid())] * 4)
"""
    assert run(program, FASTCONV_NUM_THREADS=2) == "True"


@NO_JIT
def test_processes_of_a_script_without_a_guard_do_not_run_it_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import os
from fastconv import processes
print(os.getpid(), file=open({str(tmp_path / "runs")!r}, "a"))
done = dict(processes.each(eval, ["1 + 1", "__import__('os').getpid()"]))
print(done.pop("1 + 1"), os.getpid() not in done.values(), len(open({str(tmp_path / "runs")!r}).readlines()))
""")
    assert run(script=script, FASTCONV_NUM_THREADS=2) == "2 True 1"


@NO_JIT
def test_an_error_in_another_process_comes_back():
    program = """
from fastconv import processes
try:
    list(processes.each(eval, ["1", "1 / 0", "2"]))
except ZeroDivisionError as error:
    print(error)
"""
    assert run(program, FASTCONV_NUM_THREADS=2) == "division by zero"


@NO_JIT
def test_files_of_the_current_folder_are_not_taken_for_pythons_own(tmp_path):
    (tmp_path / "signal.py").write_text("raise SystemExit('not this one')")
    program = f"""
import os, subprocess
from fastconv import processes
os.chdir({str(tmp_path)!r})
print(os.getpid() in dict(processes.each(eval, ["__import__('os').getpid()"] * 4)).values())
"""
    assert run(program, FASTCONV_NUM_THREADS=2) == "False"
