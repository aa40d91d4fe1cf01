"""What is done with a mutated file of each kind, and which exceptions are the right ones."""

import os

import image_cases
import journal
import model_cases
import numpy as np
import state_cases

from pagnp import modelfile, statedict
from pagnp.errors import GraphError, ImageError, MemoryLimitError, ModelFileError, PagnpError
from pagnp.image import load_image
from pagnp.model import Model

CASES = {"models": model_cases, "images": image_cases, "states": state_cases}
SIDE = 16
MOST_MACS, MOST_BYTES = 1_000_000, 16 << 20  # of a run on the reference, which takes about a second for 10^7


def _named(error, path):
    """Whether a message is one line that names the file."""
    text = str(error)
    return text.startswith(f"{path}: ") and "\n" not in text


def model(path):
    """Read a model file; what loads is planned at SIDE x SIDE and, if small, run on the reference."""
    try:
        graph = modelfile.read(path)
    except ModelFileError as error:
        if not _named(error, path):
            raise AssertionError(f"the message does not name the file: {error}") from error
        return journal.REFUSED
    graph.validate()
    network = Model(graph, "numpy")
    try:
        plan = network.plan((SIDE, SIDE))
        if plan.macs <= MOST_MACS and plan.bytes <= MOST_BYTES:
            x = np.linspace(-2, 2, SIDE * SIDE * graph.channels, dtype=np.float32)
            network.forward(x.reshape(1, SIDE, SIDE, graph.channels))
            if graph.preprocess is not None and graph.channels == 3:
                network(np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3))
    except PagnpError as error:
        if isinstance(error, ModelFileError):
            raise
        return journal.UNRUNNABLE
    return journal.LOADED


def image(path):
    """Read an image."""
    try:
        pixels = load_image(path).pixels
    except ImageError as error:
        if not _named(error, path):
            raise AssertionError(f"the message does not name the file: {error}") from error
        return journal.REFUSED
    except MemoryLimitError:
        return journal.MEMORY
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise AssertionError(f"the pixels are {pixels.dtype} {pixels.shape}")
    return journal.LOADED


def state(path):
    """Read a plain state_dict and build a network of it."""
    try:
        graph = statedict.load(path, state_cases.ARCH)
    except (ModelFileError, GraphError) as error:
        if os.fspath(path) not in str(error) or "\n" in str(error):
            raise AssertionError(f"the message does not name the file: {error}") from error
        return journal.REFUSED
    graph.validate()
    return journal.LOADED


TARGETS = {"models": model, "images": image, "states": state}
