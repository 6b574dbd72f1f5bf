"""The command, as a user runs it: in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv
from fastconv import cli, runtime

ROOT = Path(fastconv.__file__).parent.parent


def run(*arguments, code=None, variables=None, **options):
    """The finished process of `fastconv arguments`; code is run in place of the command where given."""
    start = ["-c", code] if code else ["-m", "fastconv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **(variables or {})}
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=120, **options)


def without(*modules):
    """Code that runs the command as if these modules were not installed."""
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in modules)
    return f"import sys; {hidden}from fastconv.cli import main; sys.exit(main())"


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"fastconv {fastconv.__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_every_command(arguments):
    done = run(*arguments)
    assert done.returncode == (0 if arguments else 2)
    text = done.stdout + done.stderr
    for command in cli.COMMANDS:
        assert re.search(rf"^ +{command.name} +\w", text, re.MULTILINE), command.name
    assert "fastconv report --quick" in text


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_each_command_has_help(command):
    done = run(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: fastconv {command}")


def test_info_shows_every_fact_aligned():
    done = run("info")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = list(runtime.info())
    assert [line[: len(name)] for line, name in zip(lines, names, strict=True)] == names
    column = max(map(len, names)) + 2
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)


def test_core_install_is_enough_for_help_and_info():
    extras = ("rich", "jinja2", "matplotlib", "PIL")
    assert run("--help", code=without(*extras)).returncode == 0
    assert run("info", code=without(*extras)).returncode == 0


@pytest.mark.parametrize("module", ["rich", "jinja2", "matplotlib", "PIL"])
def test_a_missing_extra_ends_with_the_pip_command(module, tmp_path):
    done = run("report", "--output", str(tmp_path / "out"), code=without(module))
    assert done.returncode == 2
    assert done.stderr == f'fastconv report: needs {module}, which is not installed: pip install "fastconv[report]"\n'
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["reprot"], "invalid choice: 'reprot'"),
        (["report", "--fast"], "unrecognized arguments: --fast"),
        (["report", "--threads", "two"], "invalid int value: 'two'"),
        (["report", "--threads", "0"], "fastconv report: n is 0; wanted"),
        (["report", "--threads", "99999"], "fastconv report: n is 99999; wanted"),
        (["report", "--only", "conv9d"], "no operation is called 'conv9d'; there are conv2d, "),
        (["info", "--quick"], "unrecognized arguments: --quick"),
    ],
)
def test_wrong_arguments(arguments, complaint, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["info", "report", "warmup"])
def test_a_wrong_thread_variable_is_named(command, tmp_path):
    done = run(command, variables={"FASTCONV_NUM_THREADS": "many"}, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr.startswith(f"fastconv {command}: the environment variable FASTCONV_NUM_THREADS is 'many'")
        and done.stderr.count("\n") == 1
    )


def test_output_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run("report", "--output", str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.startswith("fastconv report: cannot write to ") and done.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_warmup_without_a_folder_or_a_compiler_ends_in_one_line():
    nowhere = {"FASTCONV_CACHE_DIR": "", "NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": "/dev/null/cache", "LOCALAPPDATA": "/dev/null/cache"}
    for variables, complaint in ((nowhere, "set FASTCONV_CACHE_DIR"), ({"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT is set")):
        done = run("warmup", variables=variables)
        assert done.returncode == 2 and complaint in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_ends_in_one_line_and_leaves_no_page(tmp_path):
    command = [sys.executable, "-m", "fastconv", "report", "--quick", "--only", "conv2d_backward", "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment) as process:
        assert "compiling 1/" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    assert complaint == "fastconv report: stopped\n"
    assert not list(tmp_path.iterdir())
