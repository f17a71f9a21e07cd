"""Videos in and out: PyAV (FFmpeg's libraries) decodes, encodes and copies; the network sees single frames.

Times are kept in units of the stream's own time base, as whole numbers, wherever they go.
"""

from importlib.util import find_spec

from esc_sr.errors import UsageError


def require_pyav() -> None:
    """Refuse to go on without PyAV.

    Raises:
        UsageError: It is missing; says how to get it.
    """
    if find_spec("av") is None:
        raise UsageError('videos need PyAV: pip install "esc-sr[video]"')
