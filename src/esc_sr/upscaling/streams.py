"""`-` in place of a file: one picture from standard input, or to standard output."""

import sys
from collections.abc import Sequence
from pathlib import Path

from esc_sr.errors import ImageError, UsageError
from esc_sr.image import FORMATS, kind_of
from esc_sr.remote import shown
from esc_sr.upscaling import DEFAULT_NAME
from esc_sr.upscaling.files import EXISTS, Existing, Job, Outcome, Todo
from esc_sr.upscaling.folders import expand, find_inputs
from esc_sr.upscaling.names import Names
from esc_sr.upscaling.outputs import check_format, check_output, check_target, suffix_of_output
from esc_sr.upscaling.places import Place, is_file, place_of

STREAM = "-"
"""What standard input and output are called."""

_STDIN, _STDOUT = Path("<stdin>"), "<stdout>"
_START = 2**16  # bytes, more than any format needs to be told


def find_stream_job(
    inputs: Sequence[str], output: str | None, names: Names, format: str | None, existing: Existing
) -> Todo:
    """Decide what becomes what where the input or the output is `STREAM`; reads standard input, if it is.

    Args:
        inputs: One name of a file, or `STREAM`.
        output: Likewise.
        names: Has to have the default template.
        format: Of the output; by default by its name, or that of the input, or png.
        existing: What happens where the output is a file that exists.

    Raises:
        UsageError: There are several inputs or no output, a folder is one of the two, a name has nothing to
            apply to, no such format, or the stream is a terminal or closed.
        ImageError: The input or the output cannot be used.
    """
    if len(inputs) != 1 or output is None or Path(output).is_dir():
        raise UsageError(f"{STREAM} stands for one picture: give one input, and -o FILE or -o {STREAM}")
    if names.template != DEFAULT_NAME:
        raise UsageError(f"{STREAM}: there is nothing for --name to name; leave it out")
    check_format(format)
    to_stdout = output == STREAM
    if to_stdout and sys.__stdout__ is None:
        raise UsageError("-o -: standard output is closed; redirect it into a file or a program")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("-o -: standard output is a terminal; redirect it into a file or a program")
    goal = place_of(output)
    if not to_stdout:
        check_output(goal, False, format)
    source: Place = _STDIN
    data = None
    if inputs[0] == STREAM:
        data = _standard_input()
        suffix = next((suffix for suffix, kind in FORMATS.items() if kind == kind_of(data)), ".png")
    else:
        source = _one_file(inputs[0])
        suffix = suffix_of_output(source)
    if to_stdout:
        target = Path(f"{_STDOUT}.{format}" if format else f"{_STDOUT}{suffix}")
        return Todo([Job(source, target, data, True)], [], [])
    if existing == "skip" and is_file(goal):
        return Todo([], [Outcome(source, goal, "skipped", EXISTS)], [])
    check_target(goal, set(), existing == "overwrite")
    return Todo([Job(source, goal, data)], [], [])


def _standard_input() -> bytes:
    """All of standard input, or its beginning if that is of no picture: there may be no end."""
    if sys.stdin.isatty():
        raise UsageError("-: standard input is a terminal; send a picture into it")
    start = sys.stdin.buffer.read(_START)
    return start + sys.stdin.buffer.read() if kind_of(start) else start


def _one_file(name: str) -> Place:
    """The one picture file that a name stands for."""
    paths, problems = expand([name])
    found, more, _ = find_inputs(paths, None)
    for problem in (*problems, *more):
        raise ImageError(problem.reason)
    if len(found) != 1 or not found[0].named:
        raise UsageError(f"{shown(name)}: a folder, or several files; {STREAM} stands for one picture")
    return found[0].path
