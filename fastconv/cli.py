"""The command `fastconv` (also `python -m fastconv`): one row of COMMANDS for each subcommand.

Exit status: 0 done, 1 a result is not equal or a file cannot be written, 2 wrong arguments or a missing extra, 130 stopped by Ctrl-C.
A subcommand imports what it needs when it runs, so that `fastconv --help` and `fastconv info` work with the core install.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from . import __version__

__all__ = ["main"]


class Command(NamedTuple):
    """One subcommand."""

    name: str
    summary: str  # one line in `fastconv --help`
    description: str  # the head of `fastconv NAME --help`
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # gives the exit status
    extra: str = ""  # the optional dependencies it needs, `pip install "fastconv[extra]"`,
    modules: tuple[str, ...] = ()  # and the modules that these are imported as


class Problem(Exception):
    """What ends a command with one line and exit status 2."""


def _make(folder: Path) -> None:
    """Make the folder where there is none. Problem: it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Problem(f"cannot write to {folder}: {error.strerror}") from None


# ---------------------------------------------------------------------------------------------------------------- fastconv report


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a dozen layers, in about a minute, and two more the first time, to compile")
    parser.add_argument(
        "--output", type=Path, default=Path("fastconv-report"), metavar="FOLDER", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="use N threads (default: every core)")
    parser.add_argument(
        "--only",
        action="extend",
        nargs="+",
        default=[],
        metavar="OPERATION",
        help="only these operations, say conv2d_backward, and all that begin like one of these, say batch_norm",
    )


def _report(options: argparse.Namespace) -> int:
    from . import compiling, runtime
    from .report import operations, run, terminal

    try:
        if options.threads is not None:
            runtime.set_num_threads(options.threads)
        runtime.get_num_threads()
        chosen = operations.choose(options.only)
    except ValueError as error:
        raise Problem(str(error)) from None
    _make(options.output)

    out = terminal.console()
    with terminal.progress(out) as progress, compiling.silent():       # the bar says what is compiled
        report = run.run(chosen, options.quick, progress)
    page, data = run.write(report, options.output)
    terminal.show(report, out)
    print(f"page: {page}\ndata: {data}")
    return 1 if report.failures else 0


# ---------------------------------------------------------------------------------------------------------------- fastconv info


def _no_options(parser: argparse.ArgumentParser) -> None:
    pass


def _info(options: argparse.Namespace) -> int:
    from .runtime import info

    try:
        facts = info()
    except ValueError as error:
        raise Problem(str(error)) from None
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    return 0


# ---------------------------------------------------------------------------------------------------------------- fastconv warmup


def _warmup(options: argparse.Namespace) -> int:
    from time import perf_counter

    import numba

    from . import warmup
    from .kernels.jit import cache_folder

    folder = cache_folder()
    if numba.config.DISABLE_JIT:
        raise Problem("nothing is compiled, as NUMBA_DISABLE_JIT is set")
    if folder is None:
        raise Problem("no folder can be written to keep compiled kernels in: set FASTCONV_CACHE_DIR to one")
    begin = perf_counter()
    try:
        todo = warmup.steps()
    except ValueError as error:
        raise Problem(str(error)) from None
    with warmup.display(len(todo)) as show:
        compiled = warmup.warm(show, todo)
    seconds = perf_counter() - begin
    if compiled:
        print(f"compiled {compiled} kernels in {seconds:.1f} s, kept in {folder}")
    else:
        print(f"nothing to compile: all kernels were in {folder}, and loaded in {seconds:.1f} s")
    return 0


# ---------------------------------------------------------------------------------------------------------------- fastconv filter

FILTERS = ("grey", "edges", "blur", "sharpen", "emboss")      # those of filters.py, which the core install imports only to run


def _filter_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, metavar="PHOTO", help="a PNG or JPEG file")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--filter", choices=FILTERS, help="only this filter, at full size")
    which.add_argument(
        "--kernel",
        metavar="ROWS",
        help="a kernel of your own: '0 -1 0; -1 5 -1; 0 -1 0', or a text file with a row a line. One that begins with a minus: --kernel='-1 0 1'",
    )
    parser.add_argument("--beside", action="store_true", help="put the original beside the result")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a .png, .jpg or .jpeg file (default: the photo's name, the filter's, .png)")


def _filter(options: argparse.Namespace) -> int:
    from . import filters, pictures

    photo, name = options.photo, options.filter or ("kernel" if options.kernel is not None else "filters")
    try:
        output = options.output or photo.parent / f"{photo.stem}-{name}.png"
        pictures.format_of(output)
        if output.exists() and photo.exists() and output.samefile(photo):
            raise Problem(f"the output {output} is the photo itself; wanted: another file")
        kernel = filters.read_kernel(options.kernel) if options.kernel is not None else None
        image = pictures.read(photo)
        if kernel is not None:
            results = [("kernel", filters.correlate(image, kernel))]
        else:
            results = [(each, filters.FILTERS[each](image)) for each in ([options.filter] if options.filter else FILTERS)]
        if options.beside or len(results) > 1:
            results = [(photo.name, image), *results]
        made = pictures.sheet(results, min(3, len(results))) if len(results) > 1 else pictures.picture(results[0][1])
        pictures.write(made, output)
    except ValueError as error:
        raise Problem(str(error)) from None
    print(f"{output}: {made.width} x {made.height} pixels")
    return 0


# ---------------------------------------------------------------------------------------------------------------- fastconv train

MODELS = ("convnet", "fc", "vgg11", "vgg13", "vgg16", "vgg19")        # those of training/, which the core install imports only to run


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, default="convnet", help="default: %(default)s, the course's three-layer network")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="train on CIFAR-10, whose official files are in FOLDER (default: 5,000 MNIST digits)"
    )
    parser.add_argument("--epochs", type=_positive, default=6, metavar="N", help="how often every image is seen (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=231, metavar="N", help="of the first weights and the batches (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("fastconv-training"), metavar="FOLDER", help="where to write (default: %(default)s)"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"is {text!r}; wanted: a whole number from 1 on")
    return int(text)


def _train(options: argparse.Namespace) -> int:
    from . import compiling
    from .training import run

    _make(options.output)
    try:
        with compiling.silent():
            run.train(options.model, options.data, options.output, options.epochs, options.seed)
    except (ValueError, OSError) as error:
        raise Problem(str(error)) from None
    return 0


# ---------------------------------------------------------------------------------------------------------------- the command

COMMANDS = (
    Command(
        "report",
        "prove the layers of image networks equal to plain loops, time them, and write a page with the results",
        "Runs convolution, pooling and normalisation on crops of a photograph, with layers of real networks as shapes; proves that the results equal those"
        " of plain Python loops; measures how much faster they come, and how near to the peak of this processor. Shows a table, and"
        " writes report.html and report.json. Takes at most ten minutes. The exit status is 1 where a result is not equal.",
        _report_options,
        _report,
        extra="report",
        modules=("rich", "jinja2", "matplotlib", "PIL"),
    ),
    Command(
        "info",
        "what fastconv uses on this machine: processor, threads, cache folder, versions",
        "Prints what fastconv uses on this machine: processor, instruction set, threads, folder of compiled kernels,"
        " versions.",
        _no_options,
        _info,
    ),
    Command(
        "warmup",
        "compile every kernel now, so that no first call waits for it",
        "Compiles every kernel for float32 and float64, and keeps them in the cache folder that `fastconv info` shows. Kernels that are"
        " there already are only loaded. Takes about two minutes on two cores the first time, a few seconds later. To be run again after"
        " an upgrade of fastconv or Numba.",
        _no_options,
        _warmup,
    ),
    Command(
        "filter",
        "apply classical filters to a photograph, each of them a convolution",
        "Applies convolutions to a PNG or JPEG file and writes the result beside it: all filters on one sheet, or one of them, or a kernel of"
        " your own. grey: brightness by weights of the colours; edges: Sobel; blur: Gaussian of 2 pixels; sharpen; emboss.",
        _filter_options,
        _filter,
        extra="examples",
        modules=("PIL",),
    ),
    Command(
        "train",
        "train a network of the course on real images, and write a picture of how it went",
        "Trains a network on 5,000 real digits, or on CIFAR-10, and writes history.json, picture.png (loss, accuracy, filters, confusion"
        " matrix, what was misread) and, after each epoch, checkpoint.npz. Called again after it was stopped, it goes on from there. Takes"
        " about half a minute with the defaults, the first time one minute more to compile.",
        _train_options,
        _train,
        extra="examples",
        modules=("matplotlib", "mlxtend"),
    ),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastconv",
        description="Convolution, pooling and normalisation for NumPy arrays on the CPU. Use it in Python with `import fastconv`;"
        " this command shows what it does.",
        epilog="Start with: fastconv report --quick",
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.summary, description=command.description)
        command.options(own)
        own.set_defaults(command=command)
    return parser


def _need(command: Command) -> None:
    for module in command.modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise Problem(f'needs {error.name or module}, which is not installed: pip install "fastconv[{command.extra}]"') from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Command | None = options.command
    if command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        _need(command)
        return command.run(options)
    except Problem as problem:
        print(f"fastconv {command.name}: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fastconv {command.name}: stopped", file=sys.stderr)
        return 130
