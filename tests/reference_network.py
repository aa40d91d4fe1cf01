"""The golden network of `pagnp compare --reference` as fixtures: graph, model file, torch's arrays, the command.

golden/make_reference.py writes the arrays, so nothing here needs torch.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import pagnp
from pagnp import modelfile
from pagnp.cli import reference_report
from pagnp.cli.main import main
from pagnp.cli.options import load_model

GOLDEN = Path(__file__).parent / "golden"


def _maker():
    """Return golden/make_reference.py as a module: what network and input the golden file is of."""
    spec = importlib.util.spec_from_file_location("make_reference", GOLDEN / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _maker()


@pytest.fixture(scope="module")
def golden():
    """Key -> array of the golden file, as torch laid them out."""
    with np.load(MAKER.PATH) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def graph():
    return pagnp.nn.pag_resnet(**MAKER.CASE)


@pytest.fixture(scope="module")
def model(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "model.h5"
    modelfile.write(graph, path)
    return path


@functools.cache
def _loaded(*arguments):
    return load_model(*arguments)


@pytest.fixture
def compare(model, tmp_path, capsys, monkeypatch):
    """Return a function (path or dict of arrays, arguments) -> (exit code, stdout, stderr). A model is loaded once."""
    monkeypatch.setattr(reference_report, "load_model", _loaded)

    def run(reference, *arguments, weights=model):
        if isinstance(reference, dict):
            np.savez(tmp_path / "ref.npz", **reference)
            reference = tmp_path / "ref.npz"
        code = main(["compare", "--weights", str(weights), "--reference", str(reference), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
