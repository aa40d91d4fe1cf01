"""Golden vectors: what is written, what a check says of right, wrong and damaged outputs, and a kernel in plain C."""

import inspect
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pagnp import ops
from pagnp.backends.base import get_backend
from pagnp.cli.main import main
from pagnp.cli.vectors import MAX_ELEMENTS
from pagnp.contract import compare
from pagnp.errors import ContractError
from pagnp.testing import cases, runcase, vectors, vectors_arrays, vectors_check, vectors_write

ROOT = Path(__file__).resolve().parent.parent
PLAIN_C = ROOT / "examples" / "plain_c"
C_OPS = ("conv2d", "max_pool2d", "bilinear", "exp", "softmax", "gate")
SOURCES = ("main.c", "kernels.c", "vectors.c")
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here (cc, gcc or clang)")


def some_rows():
    """A few rows of every op, spread over its list."""
    return [row for op in cases.ARRANGE for row in vectors_write.chosen_rows([op], max_elements=2000)[::15]]


@pytest.fixture(scope="module", params=vectors.STORAGES)
def written(request, tmp_path_factory):
    """(folder, index) of a few rows of every op; tests only read it."""
    folder = tmp_path_factory.mktemp("vectors") / request.param
    return folder, vectors_write.write(folder, some_rows(), storage=request.param)


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


def test_index_reads_back_and_is_the_same_for_both_storages(written, tmp_path):
    folder, index = written
    assert vectors.read_index(folder) == index
    rows = some_rows()
    assert [case.id for case in index.cases] == [row.id for row in rows]
    some = [row for row in rows if row.op in ("gate", "scatter", "grow_mask", "concat")]
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


def call(capsys, *arguments):
    """(exit code, stdout, stderr) of `pagnp vectors ...`."""
    code = main(["vectors", *map(str, arguments)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.err.count("\n") <= 1
    return code, printed.out, printed.err


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


def test_a_difference_is_told_with_its_bits(copied, capsys):
    folder, index = copied
    case = next(case for case in index.cases if case.op == "relu")
    path = folder / "got" / f"{case.id}.bin"
    content = np.fromfile(path, "<u4")
    content[7] ^= 1
    content.tofile(path)
    code, out, _ = call(capsys, "check", folder)
    c = case.expected.shape[3]
    assert code == 1 and f"{case.id}: 1 of {content.size} elements differ\n  out[0,{0},{7 // c},{7 % c}]  got" in out
    assert "  1 ulp" in out
    code, out, _ = call(capsys, "check", folder, "--json")
    found = json.loads(out)
    assert code == 1 and not found["ok"] and found["ops"]["relu"] == dict(same=2, differs=1, missing=0, unreadable=0)
    assert [(f["id"], f["differing"], f["first"][0]["ulp"]) for f in found["findings"]] == [(case.id, 1, 1)]
    assert call(capsys, "check", folder, "--ops", "argmax")[0] == 0


def test_signed_zeros_differ_and_all_nan_are_one(tmp_path):
    rows = [row for row in cases.rows_of("relu") if row.get("fill") in ("signed_zeros", "inf_nan")]
    index = vectors_write.write(tmp_path / "v", rows)
    changed = {}
    with vectors_check.Vectors(tmp_path / "v", index) as files:
        for case in index.cases:
            out = files.read(case.expected).copy()
            out.view(np.uint32)[np.isnan(out)] = 0xFFC12345
            changed[case.id] = out
        np.savez(tmp_path / "mine.npz", **changed)
        assert vectors_check.check(tmp_path / "v", index, tmp_path / "mine.npz").ok
        zero = next(case for case in index.cases if "signed_zeros" in case.id)
        flat = changed[zero.id].reshape(-1)
        flat[np.flatnonzero(flat == 0)[0]] *= -1
        np.savez_compressed(tmp_path / "mine.npz", **changed)
    report = vectors_check.check(tmp_path / "v", index, tmp_path / "mine.npz")
    assert [(finding.id, finding.difference.count) for finding in report.findings] == [(zero.id, 1)]


def as_object(path, array):
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


def claims_much(path, array):
    np.save(path, array)
    path.write_bytes(path.read_bytes().replace(b"7, 5), }      ", b"7, 5000000), }"))


DAMAGES = {
    "float64": (lambda path, a: np.save(path, a.astype(np.float64)), "is float64"),
    "big-endian": (lambda path, a: np.save(path, a.astype(">f4")), "little-endian"),
    "shape": (lambda path, a: np.save(path, a.reshape(-1)), "is float32"),
    "pickle": (as_object, "is object"),
    "text": (lambda path, a: path.write_text("1 2 3"), "is no .npy"),
    "empty": (lambda path, a: path.write_bytes(b""), "is no .npy"),
    "bomb": (claims_much, "is float32 <f4 (1, 3, 7, 5000000)"),
    "long": (lambda path, a: (np.save(path, a), path.write_bytes(path.read_bytes() + b"x")), "holds more than"),
    "short": (lambda path, a: (np.save(path, a), path.write_bytes(path.read_bytes()[:-1])), "holds fewer than"),
    "huge": (lambda path, a: path.write_bytes(b"\x93NUMPY" + bytes(9000)), "has 9006 bytes"),
    "folder": (lambda path, a: path.mkdir(), "is not a file"),
    "pipe": (lambda path, a: os.mkfifo(path), "is not a file"),
    "dangling": (lambda path, a: path.symlink_to("nowhere"), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_unreadable_outputs_are_findings(damage, copied, capsys):
    folder, index = copied
    case = index.cases[0]
    want = np.fromfile(folder / case.expected.file, "<f4").reshape(case.expected.shape)
    (folder / "got" / f"{case.id}.bin").unlink()
    act, said = DAMAGES[damage]
    act(folder / "got" / f"{case.id}.npy", want)
    code, out, _ = call(capsys, "check", folder)
    first = out.splitlines()[0]
    assert code == 1 and first.startswith(f"{case.id}: ") and said in first and f"{case.id}.npy" in first


def test_other_sizes_doubles_and_bools(copied, capsys):
    folder, index = copied
    first, *_, last = index.cases
    got = folder / "got"
    (got / f"{first.id}.bin").write_bytes(b"abc")
    shutil.copy(folder / index.cases[1].expected.file, got / f"{index.cases[1].id}.npy")
    assert last.op == "grow_mask"
    content = bytearray((got / f"{last.id}.bin").read_bytes())
    content[content.index(1)] = 2  # True must be 1
    (got / f"{last.id}.bin").write_bytes(content)
    code, out, _ = call(capsys, "check", folder)
    assert code == 1 and "has 3 bytes, need 420 for float32 (1, 3, 7, 5)" in out and "keep one" in out
    assert "got 2 (2)  want 1 (1)" in out


def test_column_order_and_bool_arrays_are_taken(copied, capsys):
    folder, index = copied
    for case in index.cases:
        (folder / "got" / f"{case.id}.bin").unlink()
        dtype = {"bool": "|b1"}.get(case.expected.dtype, vectors.DTYPES[case.expected.dtype])
        want = np.fromfile(folder / case.expected.file, dtype).reshape(case.expected.shape)
        np.save(folder / "got" / f"{case.id}.npy", np.asfortranarray(want))
    assert call(capsys, "check", folder)[0] == 0


def edit_index(folder, change):
    """Let `change` edit the JSON of an index, and make its digest right again."""
    path = folder / "vectors.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def set_first(name, value):
    """A change of the first case's first array."""
    return lambda document: document["cases"][0]["arrays"][0].update({name: value})


INDEX_DAMAGES = {
    "upwards": (set_first("file", "../secret"), "does not match"),
    "absolute": (set_first("file", "/etc/hostname"), "does not match"),
    "subfolder": (set_first("file", "got/x.bin"), "does not match"),
    "hidden": (set_first("file", ".profile"), "does not match"),
    "backslash": (set_first("file", "..\\x.bin"), "does not match"),
    "dtype": (set_first("dtype", "object"), "is not one of"),
    "negative": (set_first("shape", [-1]), "less than the minimum"),
    "bomb": (set_first("shape", [60_000_000, 60_000_000]), "elements, at most"),
    "changed": (set_first("sha256", "0" * 64), "was changed after"),
    "key": (set_first("key", "x"), "a key belongs to npz"),
    "newer": (lambda d: d.update(format_version=2), "has format version 2"),
    "contract": (lambda d: d.update(contract="pagnp-bits/9"), "is of contract"),
    "alien": (lambda d: d.update(format="elf"), "is no index of vectors"),
    "twice": (lambda d: d["cases"].append(d["cases"][0]), "two cases of one id"),
    "no out": (lambda d: d["cases"][0]["arrays"].pop(), "out last"),
    "more": (lambda d: d.update(command="rm"), "Additional properties"),
}


@pytest.mark.parametrize("damage", INDEX_DAMAGES)
def test_a_damaged_index_is_refused(damage, copied, capsys):
    folder, _ = copied
    change, said = INDEX_DAMAGES[damage]
    edit_index(folder, change)
    code, out, err = call(capsys, "check", folder)
    assert (code, out) == (2, "") and said in err and "vectors.json" in err


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"format": NaN}', b"[" * 100_000])
def test_an_index_that_is_no_json_is_refused(content, copied, capsys):
    folder, _ = copied
    (folder / "vectors.json").write_bytes(content)
    code, _, err = call(capsys, "check", folder)
    assert code == 2 and "vectors.json" in err


def test_damaged_vectors_are_not_blamed_on_the_outputs(copied, tmp_path, capsys):
    folder, index = copied
    path = folder / index.cases[0].expected.file
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    code, out, err = call(capsys, "check", folder)
    assert (code, out) == (2, "") and f"{path.name}: was changed after it was written" in err
    path.unlink()
    assert call(capsys, "check", folder)[0] == 2


def test_a_damaged_archive_is_refused(tmp_path, capsys):
    folder = tmp_path / "v"
    index = vectors_write.write(folder, vectors_write.chosen_rows(["relu"])[:2])
    good = (folder / "relu.npz").read_bytes()
    (folder / "got").mkdir()
    with vectors_check.Vectors(folder, index) as files:
        place = good.index(vectors_arrays.to_bytes(files.read(index.cases[0].expected)))
    flipped = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
    for content in (b"", b"text", good[:200], good[:-30], good.replace(b"NUMPY", b"PICKL"), flipped):
        (folder / "relu.npz").write_bytes(content)
        code, out, err = call(capsys, "check", folder)
        assert (code, out) == (2, "") and "relu.npz" in err, content[:20]
    with zipfile.ZipFile(folder / "relu.npz", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr(f"{index.cases[0].expected.key}.npy", bytes(100))
    code, _, err = call(capsys, "check", folder)
    assert code == 2 and "compressed in a way" in err


# The kernel in plain C


def without_oracle(folder, rows):
    """Write vectors quickly: the conformance suite holds the same rows against the oracle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors_write.runcase, "oracle_values", lambda row, kernels: [])
        return folder, vectors_write.write(folder, rows, storage="raw")


@pytest.fixture(scope="module")
def c_vectors(tmp_path_factory):
    """(folder, index) of all cases of the ops that examples/plain_c has."""
    folder = tmp_path_factory.mktemp("plain_c") / "vectors"
    return without_oracle(folder, vectors_write.chosen_rows(C_OPS, 0, MAX_ELEMENTS))


@pytest.fixture(scope="module")
def few_c_vectors(tmp_path_factory):
    """The same of every third case of up to 4000 elements: enough to find a mistake."""
    folder = tmp_path_factory.mktemp("plain_c_few") / "vectors"
    return without_oracle(folder, vectors_write.chosen_rows(C_OPS, 0, 4000)[::3])


def compiled(folder, flags=(), mistake=None, optimise="-O0"):
    """Compile examples/plain_c, with one piece of kernels.c replaced, and return the program."""
    sources = {name: (PLAIN_C / name).read_text() for name in (*SOURCES, "kernels.h", "vectors.h")}
    if mistake is not None:
        right, wrong = mistake
        assert sources["kernels.c"].count(right) == 1, f"kernels.c no longer has {right!r} once"
        sources["kernels.c"] = sources["kernels.c"].replace(right, wrong)
    for name, text in sources.items():
        (folder / name).write_text(text)
    command = [COMPILER, "-std=c11", optimise, "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *flags]
    done = subprocess.run([*command, "-o", "plain", *SOURCES, "-lm"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "plain"


def outputs_of(program, folder, out):
    """Let the program compute all cases of `folder` into `out`."""
    out.mkdir()
    done = subprocess.run([program, folder, out], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_compiler
def test_plain_c_has_the_bits(c_vectors, tmp_path, capsys):
    folder, index = c_vectors
    said = outputs_of(compiled(tmp_path, optimise="-O2"), folder, tmp_path / "got")
    assert said == f"{len(index.cases)} cases computed, 0 of other ops\n"
    code, out, _ = call(capsys, "check", folder, "--got", tmp_path / "got")
    assert code == 0, out
    assert out.endswith(f"{len(index.cases)} cases, all the same to the bit\n")


MISTAKES = {
    "unfused": ("d->chain = fmaf(weight, x, d->chain)", "d->chain = weight * x + d->chain", "conv2d"),
    "cut at 64": ("BLOCK = 128", "BLOCK = 64", "conv2d"),
    "reversed": ("ci = 0; ci < c_group; ci++", "ci = c_group - 1; ci >= 0; ci--", "conv2d"),
    "fmaxf": ("return v < 0.0f ? 0.0f : v;", "return fmaxf(v, 0.0f);", "conv2d"),
    "skipped padding": (
        "add_term(&d, row[(size_t)ci * v.c_out], inside ? pixel[ci] : 0.0f);",
        "if (inside) add_term(&d, row[(size_t)ci * v.c_out], pixel[ci]);",
        "conv2d",
    ),
    "bottom for top": (
        "ky * v.dilation[0];\n            int ix",
        "ky * v.dilation[0] + 1;\n            int ix",
        "conv2d",
    ),
    "unfused norm": (
        "acc = fmaf(acc, e.scale[co], e.shift[co])",
        "acc = acc * e.scale[co] + e.shift[co]",
        "conv2d",
    ),
    "first NaN lost": ("a > best || isnan(a)", "a > best", "max_pool2d"),
    "float positions": (
        "(float)((double)(num % den) / (double)den)",
        "align_corners ? (float)(num % den) / (float)den : fmaxf((o + 0.5f) * ((float)in / out) - 0.5f, 0) - i0",
        "bilinear",
    ),
    "unfused bilinear": ("fmaf(sy.w, u - t, t)", "sy.w * (u - t) + t", "bilinear"),
    "expf": ("out[i] = (float)exp64(x[i])", "out[i] = expf(x[i]) * 1.0000001f", "exp"),
    "ties compute": ("y[1] > y[0];", "y[1] >= y[0];", "gate"),
}


@needs_compiler
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_c_is_found(mistake, few_c_vectors, tmp_path):
    folder, index = few_c_vectors
    right, wrong, op = MISTAKES[mistake]
    outputs_of(compiled(tmp_path, mistake=(right, wrong)), folder, tmp_path / "got")
    report = vectors_check.check(folder, index, tmp_path / "got", C_OPS)
    assert report.counts[op]["differs"] > 0
    assert {finding.op for finding in report.findings} == {op}, "the mistake is in one op"


@needs_compiler
def test_fast_math_is_found(few_c_vectors, tmp_path, capsys):
    folder, _ = few_c_vectors
    outputs_of(compiled(tmp_path, ["-ffast-math"], optimise="-O1"), folder, tmp_path / "got")
    code, out, _ = call(capsys, "check", folder, "--got", tmp_path / "got", "--ops", "conv2d")
    assert code == 1 and "elements differ" in out


def test_examples_readme_types_the_commands_that_work():
    text = (PLAIN_C / "README.md").read_text()
    for part in ("-ffp-contract=off", "--format raw", f"--ops {','.join(C_OPS)}", "pagnp vectors check", *SOURCES):
        assert part in text, part


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
