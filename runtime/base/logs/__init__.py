"""One way to log: structlog over the standard library, the run's id on every line, to stdout and to files.

`get_logger` is for all modules; `begin`, or `configure`, is called once by roles and cli. Lines of other libraries, and
what handlers print, take the same way. Knows nothing of runs, functions and stores.
"""

from runtime.base.logs.lines import keep_with
from runtime.base.logs.loggers import Format, Level, Logger, get_logger
from runtime.base.logs.prints import catch_prints, end_prints
from runtime.base.logs.setup import begin, configure, tells_all
from runtime.base.logs.writers import dropped, flush

__all__ = [
    "Format",
    "Level",
    "Logger",
    "begin",
    "catch_prints",
    "configure",
    "dropped",
    "end_prints",
    "flush",
    "get_logger",
    "keep_with",
    "tells_all",
]
