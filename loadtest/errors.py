"""What can end a load test without figures.

::

    LoadtestError
    ├── ProgramError     a program did not start, or stopped by itself
    ├── GeneratorError   wrk or h2load could not be run, or printed no summary
    └── RequestError     a request failed under load, so figures would mean nothing
"""


class LoadtestError(Exception):
    """Base of the others; its text is meant for the person at the terminal."""


class ProgramError(LoadtestError):
    """A program did not start, or stopped by itself; the message says which and where its log is."""


class GeneratorError(LoadtestError):
    """wrk or h2load could not be run, or printed no summary."""


class RequestError(LoadtestError):
    """Requests failed, or were answered with something else than was asked for."""
