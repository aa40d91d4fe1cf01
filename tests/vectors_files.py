"""What the tests of golden vectors share: a small folder with right answers, and the command."""

import shutil

import pytest

from pagnp.cli.main import main
from pagnp.testing import cases, vectors_write


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder, index) of a handful of cases with right answers in `got`; copy it to change it."""
    folder = tmp_path_factory.mktemp("small") / "vectors"
    rows = [*vectors_write.chosen_rows(["relu"])[:3], *vectors_write.chosen_rows(["argmax", "masked"], 0, 300)[:3]]
    rows += [row for row in cases.rows_of("grow_mask")[:2]]
    index = vectors_write.write(folder, rows, storage="raw")
    (folder / "got").mkdir()
    for case in index.cases:
        shutil.copy(folder / case.expected.file, folder / "got" / f"{case.id}.bin")
    return folder, index


@pytest.fixture
def copied(small, tmp_path):
    """The same as `small`, to be damaged."""
    folder, index = small
    return shutil.copytree(folder, tmp_path / "vectors"), index


def call(capsys, *arguments):
    """(exit code, stdout, stderr) of `pagnp vectors ...`."""
    code = main(["vectors", *map(str, arguments)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.err.count("\n") <= 1
    return code, printed.out, printed.err
