"""Write a folder of golden vectors: rows of the conformance table, the reference's answers, held against the oracle."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pagnp import __version__, ops
from pagnp.backends.base import get_backend
from pagnp.errors import ContractError, UsageError
from pagnp.testing import runcase, vectors
from pagnp.testing.case import Arrangement, Case
from pagnp.testing.cases import ARRANGE, COMPOSITES, arrange, rows_of
from pagnp.testing.vectors import BEFORE, GOT, INDEX, OUT, TEXT_INDEX, Index, Stored, VectorCase
from pagnp.testing.vectors_arrays import to_bytes
from pagnp.types import Array, FilePath

SEED_STEP = 1000  # more than any row's own seed: rows of two sets never share a stream
PREFILL = runcase.PREFILLS[1]  # what the output holds before: small numbers


def chosen_rows(names: Sequence[str] | None = None, seed: int = 0, max_elements: int | None = None) -> list[Case]:
    """Return the rows of the ops `names` (default: all) none of whose arrays has more than `max_elements` (None: all).

    seed     0: the table's own values; any other: the same sizes and attributes with other values
    Raises:  UsageError if an op is unknown, or has no row that is small enough.
    """
    unknown = [name for name in names or () if name not in ARRANGE]
    if unknown:
        raise UsageError(f"vectors: there is no op {', '.join(unknown)}; choose from {', '.join(ARRANGE)}")
    found = []
    for op in ARRANGE if names is None else dict.fromkeys(names):
        rows = [_reseeded(row, seed) for row in rows_of(op)]
        rows = [row for row in rows if max_elements is None or _largest(row) <= max_elements]
        if not rows:
            raise UsageError(f"vectors: no case of {op} has at most {max_elements} elements; raise --max-elements")
        found += rows
    return found


def _reseeded(row, seed):
    return row if seed == 0 else Case(row.op, **{**row.params, "seed": row.params["seed"] + SEED_STEP * seed})


def _largest(row):
    arrangement = arrange(row)
    out_size = int(np.prod(arrangement.shape, dtype=np.int64))
    return max([out_size, *(array.size for _, array in inputs(arrangement.args))])


def inputs(args: Mapping[str, object]) -> Iterator[tuple[str, Array]]:
    """Yield (name, array) of the arguments that are arrays; those of a list are name.0, name.1, ..."""
    for name, value in args.items():
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, list):
            yield from ((f"{name}.{i}", part) for i, part in enumerate(value))


def attributes(arrangement: Arrangement) -> dict[str, object]:
    """Return the other arguments as JSON has them; absent ones are left out."""
    found = {}
    for name, value in arrangement.args.items():
        if value is None or isinstance(value, (np.ndarray, list)):
            continue
        if name == "seed":  # 64 bits: more than a JSON number holds everywhere
            value = (value & 0xFFFFFFFF, value >> 32)
        if isinstance(value, np.float32):
            value = float(value)
        found[name] = list(value) if isinstance(value, tuple) else value
    if arrangement.in_place:
        found["in_place"] = True
    return found


def arrays_of(row: Case) -> dict[str, Array]:
    """Return the arrays of a case by name: inputs, where needed what the output holds before, and the expected output.

    Raises: ContractError if the reference breaks a promise or differs from the exact oracle at a sampled place.
    """
    arrangement, kernels = arrange(row), get_backend("numpy").kernels
    if row.op in COMPOSITES:
        problems: list[str] = []
        out = getattr(ops, row.op)(**arrangement.args, backend="numpy")
    else:
        out, problems = runcase.run(row, kernels, PREFILL)
    problems += runcase.check_oracle(row, "numpy", out, runcase.oracle_values(row, kernels))
    found = dict(inputs(arrangement.args))
    place = runcase.written(row, arrangement)
    if not place.all():
        found[BEFORE] = found["residual"] if arrangement.in_place else _prefilled(out)
        if to_bytes(out[~place]) != to_bytes(found[BEFORE][~place]):
            problems.append(f"{row.op}[numpy] wrote where there is no site")
    if problems:
        what = " ".join(problems[0].split())
        raise ContractError(f"vectors: the reference is wrong here, nothing was written; {what}")
    return {**found, OUT: _with_one_nan(out)}


def _prefilled(out):
    before = np.empty_like(out)
    before.view(np.uint8)[...] = PREFILL
    return before


def _with_one_nan(out):
    """Return the output with every NaN as 7FC00000, so that the files are the same wherever they are written."""
    if out.dtype != np.float32:
        return out
    return np.where(np.isnan(out), np.float32(np.nan), out)


def write(
    folder: FilePath,
    rows: Sequence[Case],
    *,
    seed: int = 0,
    storage: str = "npz",
    overwrite: bool = False,
    begin: Callable[[str], object] = lambda name: None,
) -> Index:
    """Write the cases of `rows` into a new `folder`, whole or not at all; return its index.

    storage    npz: vectors.json and an NPZ an op; raw: vectors.json, vectors.txt and a .bin file an array
    overwrite  replace a folder of vectors; one that holds anything else is refused (but `got` is kept)
    begin      called with each case's id before its work

    Raises: UsageError if the folder is not empty or cannot be written; ContractError if the reference is wrong.
    """
    store = {"npz": _store_npz, "raw": _store_raw}[storage]
    with _new_folder(Path(folder), overwrite) as fresh:
        cases = []
        for op in dict.fromkeys(row.op for row in rows):
            found = []
            for row in rows:
                if row.op == op:
                    begin(row.id)
                    found.append((row, arrays_of(row)))
            cases += store(fresh, op, found)
        index = Index(f"pagnp {__version__}", storage, seed, cases)
        (fresh / INDEX).write_text(vectors.index_json(index), "utf-8", newline="\n")
        if storage == "raw":
            (fresh / TEXT_INDEX).write_text(vectors.index_text(index), "ascii", newline="\n")
    return index


def _entry(name, array, file, key=None):
    return Stored(name, array.dtype.name, array.shape, file, hashlib.sha256(to_bytes(array)).hexdigest(), key)


def _store_npz(folder, op, found):
    """Write the arrays of one op's cases into one file; return the cases."""
    file = f"{op}.npz"
    members = {f"{row.id}.{name}": array for row, arrays in found for name, array in arrays.items()}
    np.savez(folder / file, **members)
    return [
        VectorCase(
            row.id,
            op,
            attributes(arrange(row)),
            tuple(_entry(name, array, file, f"{row.id}.{name}") for name, array in arrays.items()),
        )
        for row, arrays in found
    ]


def _store_raw(folder, op, found):
    """Write each array of one op's cases into a file of its own; return the cases."""
    cases = []
    for row, arrays in found:
        stored = [_entry(name, array, f"{row.id}.{name}.bin") for name, array in arrays.items()]
        for entry, array in zip(stored, arrays.values(), strict=True):
            (folder / entry.file).write_bytes(to_bytes(array))
        cases.append(VectorCase(row.id, op, attributes(arrange(row)), tuple(stored)))
    return cases


@contextlib.contextmanager
def _new_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` at the end; after an error or Ctrl-C nothing of it is left."""
    folder = Path(os.path.realpath(folder))
    fresh = folder.with_name(f".pagnp-{secrets.token_hex(8)}.tmp")
    try:
        _check_target(folder, overwrite)
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        yield fresh
        _check_target(folder, overwrite)  # somebody may have put something there meanwhile
        _publish(fresh, folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"{folder}: cannot be written ({reason}); free space there or choose another") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_target(folder, overwrite):
    """Raise UsageError unless `folder` is new, empty, or vectors that may be replaced."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder == Path.cwd():
        what = "is the folder you are in" if folder.is_dir() else "is a file, not a folder"
        raise UsageError(f"{folder}: {what}; name a new one")
    present = set(os.listdir(folder))
    if not present:
        return
    if not overwrite:
        raise UsageError(f"{folder}: is not empty; add --overwrite to replace vectors, or choose another folder")
    ours = {INDEX, TEXT_INDEX, GOT}
    with contextlib.suppress(UsageError):  # without a sound index, all that is no index is somebody's
        ours |= {array.file for case in vectors.read_index(folder).cases for array in case.arrays}
    foreign = sorted(present - ours)
    if foreign:
        what = f"{foreign[0]!a}, which is no vector"
        raise UsageError(f"{folder}: --overwrite would delete {what}; choose another folder")


def _publish(fresh, folder):
    """Give `fresh` its final name; the vectors that were there go, what is in their `got` stays."""
    if not folder.exists():
        os.rename(fresh, folder)
        return
    old = folder.with_name(f".pagnp-{secrets.token_hex(8)}.old")
    os.rename(folder, old)
    try:
        os.rename(fresh, folder)
    except BaseException:
        os.rename(old, folder)
        raise
    if (old / GOT).exists():
        os.rename(old / GOT, folder / GOT)
    shutil.rmtree(old, ignore_errors=True)
