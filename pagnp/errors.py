"""The exceptions of pagnp and the exit code that the command line gives each."""

from collections.abc import Iterable


class PagnpError(Exception):
    """Base of everything pagnp raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class ContractError(PagnpError):
    """The numerical contract cannot be kept here (no exact fma, subnormals switched off)."""

    exit_code = 1


class UsageError(PagnpError, ValueError):
    """An option or argument is wrong."""

    exit_code = 2


class ShapeError(PagnpError, ValueError):
    """Shapes, channels or sizes disagree."""

    exit_code = 2


class DtypeError(PagnpError, TypeError):
    """An array has a dtype that the op does not take."""

    exit_code = 2


class SiteError(PagnpError, ValueError):
    """Sites are unsorted, repeated or outside the map."""

    exit_code = 2


class GraphError(PagnpError, ValueError):
    """A graph is not well formed."""

    exit_code = 3


class ModelFileError(PagnpError):
    """A model file (or a state_dict file) is missing, damaged or not ours."""

    exit_code = 3


class ImageError(PagnpError):
    """An image cannot be read or used."""

    exit_code = 4


class GroundTruthError(PagnpError):
    """Ground truth is missing, cannot be read, or is not as its layout says."""

    exit_code = 4


class BackendError(PagnpError):
    """A backend, or a package that an extra installs, is unknown, not installed or has no device."""

    exit_code = 5


class MemoryLimitError(PagnpError):
    """The run needs more memory than there is."""

    exit_code = 5


class ExportError(PagnpError):
    """A torch module that pagnp cannot express, or a graph that ONNX cannot; `problems` lists (where, what)."""

    exit_code = 1

    def __init__(self, message: str, problems: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)
