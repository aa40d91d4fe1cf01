"""Golden vectors: what is written, and that it is all that a kernel needs."""

import functools
import inspect
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from vectors_files import call, copied, small  # noqa: F401

from pagnp import ops
from pagnp.backends.base import get_backend
from pagnp.contract import compare
from pagnp.errors import ContractError
from pagnp.testing import cases, runcase, vectors, vectors_check, vectors_write

# ruff: noqa: F811

ROOT = Path(__file__).resolve().parent.parent


ARRAYS = {}


def arrays_once(row, arrays_of=vectors_write.arrays_of):
    """The arrays of a row, computed and held against the oracle once for both storages."""
    if row.id not in ARRAYS:
        ARRAYS[row.id] = arrays_of(row)
    return ARRAYS[row.id]


@functools.cache
def some_rows():
    """A few rows of every op, spread over its list."""
    return [row for op in cases.ARRANGE for row in vectors_write.chosen_rows([op], max_elements=2000)[::15]]


@pytest.fixture(scope="module", params=vectors.STORAGES)
def written(request, tmp_path_factory):
    """(folder, index) of a few rows of every op; tests only read it."""
    folder = tmp_path_factory.mktemp("vectors") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors_write, "arrays_of", arrays_once)
        return folder, vectors_write.write(folder, some_rows(), storage=request.param)


def from_files(case, read):
    """The arguments of a case's kernel in its order, from the files and attributes alone."""
    arrays = {stored.name: read(stored) for stored in case.arrays}
    arrays = {s.name: arrays[s.name].astype(bool) if s.dtype == "bool" else arrays[s.name] for s in case.arrays}
    attributes = {k: tuple(v) if isinstance(v, list) else v for k, v in case.attributes.items()}
    if "seed" in attributes:
        attributes["seed"] = attributes["seed"][0] + (attributes["seed"][1] << 32)
    for name in ("temperature", "threshold"):
        if name in attributes:
            attributes[name] = np.float32(attributes[name])
    lists = {name.split(".")[0] for name in arrays if "." in name}
    for name in lists:
        arrays[name] = [arrays[f"{name}.{i}"] for i in range(sum(key.startswith(f"{name}.") for key in arrays))]
    return {**arrays, **attributes}


def answer(case, kernels, read):
    """What a backend makes of a case as the files tell it."""
    given = from_files(case, read)
    if case.op in cases.COMPOSITES:
        return getattr(ops, case.op)(given["x"], given["factor"])
    names = list(inspect.signature(inspect.unwrap(get_backend("numpy").kernels[case.op])).parameters)
    if case.op == "conv2d":
        given["packed"] = kernels["pack_conv2d"](given["weight"], given["groups"])
    args = [given.get(name) for name in names if name not in ("out", "rows", "count")]
    if "out" not in names:
        return kernels[case.op](*args)
    out = given["before"].copy() if "before" in given else np.empty(case.expected.shape, case.expected.dtype)
    if given.get("in_place"):
        out[...] = given["residual"]
        args[names.index("residual")] = out
    kernels[case.op](*args, out)
    return out


def test_files_carry_all_that_a_kernel_needs(written, tmp_path):
    folder, index = written
    kernels = get_backend("numpy").kernels
    assert {case.op for case in index.cases} == set(cases.ARRANGE)
    with vectors_check.Vectors(folder, index) as files, np.errstate(all="ignore"):
        for case in index.cases:
            np.save(tmp_path / f"{case.id}.npy", answer(case, kernels, files.read))
    report = vectors_check.check(folder, index, tmp_path)
    assert report.ok and report.total("same") == len(index.cases), report.findings[:3]
    assert not report.unknown


def test_index_reads_back(written):
    folder, index = written
    assert vectors.read_index(folder) == index
    assert [case.id for case in index.cases] == [row.id for row in some_rows()]


def test_both_storages_have_one_digest(tmp_path):
    some = [row for row in some_rows() if row.op in ("gate", "scatter", "grow_mask", "concat")]
    folders = {storage: tmp_path / storage for storage in vectors.STORAGES}
    digests = {vectors_write.write(path, some, storage=storage).digest for storage, path in folders.items()}
    assert len(digests) == 1


def test_npz_is_numpys_own(tmp_path):
    row = cases.rows_of("conv2d")[0]
    index = vectors_write.write(tmp_path / "v", [row])
    with np.load(tmp_path / "v" / "conv2d.npz", allow_pickle=False) as file:
        for stored in index.cases[0].arrays:
            assert file[stored.key].shape == stored.shape and file[stored.key].dtype == stored.dtype
        assert not compare(file[f"{row.id}.out"], runcase.run(row, get_backend("numpy").kernels)[0])


def test_text_index_says_the_same(tmp_path):
    rows = [row for op in ("conv2d", "gate", "compare", "gumbel_noise", "concat") for row in cases.rows_of(op)[::40]]
    index = vectors_write.write(tmp_path / "v", rows, storage="raw")
    lines = (tmp_path / "v" / "vectors.txt").read_text("ascii").splitlines()
    assert lines[0] == f"pagnp-vectors 1 pagnp-bits/1 {len(rows)}"
    words = [line.split(" ") for line in lines[1:]]
    assert all(all(line) for line in words)  # no empty word: one space, no trailing ones
    assert [line[1:] for line in words if line[0] == "case"] == [[case.id, case.op] for case in index.cases]
    flat = [array for case in index.cases for array in case.arrays]
    for line, array in zip([line for line in words if line[0] == "array"], flat, strict=True):
        assert line[1:4] == [array.name, array.dtype, str(len(array.shape))]
        assert (tuple(map(int, line[4:-1])), line[-1]) == (array.shape, array.file)
        assert (tmp_path / "v" / line[-1]).stat().st_size == array.nbytes
    attributes = [item for case in index.cases for item in case.attributes.items()]
    for line, (name, value) in zip([line for line in words if line[0] == "attr"], attributes, strict=True):
        values = value if isinstance(value, list) else [value]
        assert line[1:3] == [name, str(len(values))]
        for word, one in zip(line[3:], values, strict=True):
            assert word == one if isinstance(one, str) else np.float32(word) == np.float32(one)


def test_names_are_fit_for_files_everywhere():
    pattern = vectors.schema()["$defs"]["name"]["pattern"]
    ids = [row.id for row in cases.CASES]
    assert all(re.fullmatch(pattern, row) for row in ids)
    assert max(map(len, ids)) < 200
    assert len({row.lower() for row in ids}) == len(ids)  # also where files' names ignore case


def test_scattered_rows_come_with_what_was_there_before(tmp_path):
    rows = vectors_write.chosen_rows(["scatter", "conv2d"], max_elements=2000)
    rows = [row for row in rows if row.op == "scatter" or row.get("layout") == "scattered"][::3]
    index = vectors_write.write(tmp_path / "v", rows)
    with vectors_check.Vectors(tmp_path / "v", index) as files:
        for case, row in zip(index.cases, rows, strict=True):
            arrays = {stored.name: files.read(stored) for stored in case.arrays}
            place = runcase.written(row, cases.arrange(row))
            assert ("before" in arrays) == (not place.all())
            if not place.all():
                assert arrays["out"][~place].tobytes() == arrays["before"][~place].tobytes()
                assert case.attributes.get("in_place", False) == (row.get("residual") == "in_place")


def test_seed_changes_the_values_alone():
    rows, others = vectors_write.chosen_rows(["conv2d"]), vectors_write.chosen_rows(["conv2d"], seed=1)
    assert len({row.id for row in [*rows, *others]}) == 2 * len(rows)
    one, other = cases.arrange(rows[0]), cases.arrange(others[0])
    assert one.args["x"].shape == other.args["x"].shape and compare(one.args["x"], other.args["x"])


def test_a_wrong_reference_writes_nothing(tmp_path, monkeypatch):
    kernels = dict(get_backend("numpy").kernels)

    def off_by_one_bit(x, out):
        get_backend("numpy").kernels["relu"](x, out)
        out.view(np.uint32)[0, 0, 0, 0] ^= 1

    broken = type("Broken", (), {"kernels": {**kernels, "relu": off_by_one_bit}})
    with monkeypatch.context() as patch:
        patch.setattr(vectors_write, "get_backend", lambda name: broken)
        with pytest.raises(ContractError, match="reference is wrong"):
            vectors_write.write(tmp_path / "v", vectors_write.chosen_rows(["relu"]))
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupt(name):
        if "inf_nan" in name:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vectors_write.write(tmp_path / "v", vectors_write.chosen_rows(["relu"]), storage="raw", begin=interrupt)
    assert not list(tmp_path.iterdir())


def test_command_line_writes_and_checks(tmp_path, capsys):
    folder = tmp_path / "new" / "v"
    code, out, err = call(capsys, "write", folder, "--ops", "relu, norm", "--format", "raw")
    assert code == 0 and not err and "cases of 2 ops" in out
    assert call(capsys, "check", folder)[0] == 2  # there is no folder of outputs
    (folder / "got").mkdir()
    index = vectors.read_index(folder)
    for case in index.cases:
        shutil.copy(folder / case.expected.file, folder / "got" / f"{case.id}.bin")
    code, out, _ = call(capsys, "check", folder)
    assert code == 0 and out.endswith(f"{len(index.cases)} cases, all the same to the bit\n")
    assert call(capsys, "write", folder, "--ops", "relu")[0] == 2
    assert call(capsys, "write", folder, "--ops", "relu", "--overwrite", "--seed", "3")[0] == 0
    assert (folder / "relu.npz").exists() and not list(folder.glob("norm*")) and list((folder / "got").iterdir())
    code, out, _ = call(capsys, "check", folder)
    assert code == 1 and "relu: there is no output for any of its" in out and "of no case:" in out
    assert [path.name for path in folder.parent.iterdir()] == ["v"]


def test_a_folder_with_other_files_is_never_replaced(copied, capsys):
    folder, _ = copied
    (folder / "thesis.tex").write_text("years of work")
    code, _, err = call(capsys, "write", folder, "--ops", "relu", "--overwrite")
    assert code == 2 and "thesis.tex" in err
    assert (folder / "thesis.tex").exists() and (folder / "vectors.json").exists()
    other = folder / "mine"
    other.mkdir()
    (other / "a.c").write_text("int a;")
    assert call(capsys, "write", other, "--ops", "relu", "--overwrite")[0] == 2
    assert [path.name for path in other.iterdir()] == ["a.c"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("write", "v", "--ops", "relu,abacus"), "no op abacus; choose from conv2d"),
        (("write", "v", "--ops", ","), "names no op"),
        (("write", "v", "--ops", "relu", "--max-elements", "3"), "no case of relu has at most 3"),
        (("write", "v", "--format", "csv"), "Invalid value for '--format'"),
        (("write", "v", "--seed", "-1"), "Invalid value for '--seed'"),
        (("write", ".", "--ops", "relu"), "folder you are in"),
        (("write", "file", "--ops", "relu"), "is a file"),
        (("write", "file/v", "--ops", "relu"), "cannot be written"),
        (("write",), "Missing argument 'DIR'"),
        ((), "Missing command"),
        (("check", "nowhere"), "nowhere/vectors.json: cannot be read"),
        (("check", "file"), "cannot be read"),
    ],
)
def test_wrong_use(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "") and said in err
    assert os.listdir() == ["file"]


def test_the_page_reads_a_case_as_it_is_written(tmp_path):
    text = (ROOT / "docs" / "VECTORS.md").read_text()
    shown = [line.strip() for line in text.partition("## How a case reads")[2].splitlines() if line.startswith("    ")]
    row = next(row for row in cases.CASES if row.id == shown[0].split()[1])
    index = vectors_write.write(tmp_path / "v", [row], storage="raw")
    assert vectors.index_text(index).splitlines()[1:] == shown[: shown.index("end") + 1]


@pytest.mark.parametrize("op", cases.ARRANGE)
def test_the_page_names_every_array_and_attribute(op):
    text = (ROOT / "docs" / "VECTORS.md").read_text().partition("## Arrays and attributes per op")[2]
    lines = [line.split(" | ") for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    (row,) = [line for line in lines if op in re.findall(r"\w+", line[0])]
    named = re.findall(r"\w+(?:\.\d)?", " ".join(row[1:]))
    for case in vectors_write.chosen_rows([op], max_elements=2000):
        arrangement = cases.arrange(case)
        arrays = [name for name, _ in vectors_write.inputs(arrangement.args)]
        missing = {name for name in arrays if name.partition(".")[0] not in ("xs", "branches")} - set(named)
        assert not missing | (set(vectors_write.attributes(arrangement)) - set(named))
