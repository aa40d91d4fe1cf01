"""`pagnp vectors check`: what it says of outputs that differ, are damaged or hostile, and of damaged vectors."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from vectors_files import call, copied, small  # noqa: F401

from pagnp.testing import cases, vectors, vectors_arrays, vectors_check, vectors_write

# ruff: noqa: F811


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
