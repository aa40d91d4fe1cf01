"""Golden vectors: what the index of a folder of them says, as data, as JSON and as plain text.

docs/VECTORS.md describes the folder for people who write kernels in other languages. `vectors_write` makes it,
`vectors_check` holds their outputs against it, `vectors_arrays` reads and writes the arrays.
"""

import functools
import hashlib
import json
import math
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from pagnp import graphjson
from pagnp.contract import CONTRACT_NAME
from pagnp.errors import ModelFileError, UsageError
from pagnp.types import FilePath

FORMAT = "pagnp-vectors"
VERSION = 1
INDEX = "vectors.json"
TEXT_INDEX = "vectors.txt"  # the same without hashes, for readers that have no JSON; `raw` folders only
STORAGES = ("npz", "raw")
GOT = "got"  # the folder in it where answers are looked for
OUT = "out"  # the expected answer
BEFORE = "before"  # what the output's memory holds before the call, where the op does not write all of it
DTYPES = {"float32": "<f4", "int32": "<i4", "uint32": "<u4", "bool": "|u1"}  # as stored; bool is 0 or 1 in a byte
MAX_ELEMENTS = 1 << 26  # of one array in an index that is read: what is claimed must fit in memory
FIX = "write the vectors again"


@dataclass(frozen=True)
class Stored:
    """One array of a case and where it is.

    key     its name inside an NPZ file; None for a raw file, which holds one array
    sha256  of its elements as little-endian bytes in C order (of the whole file, if that is raw)
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    sha256: str
    key: str | None = None

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the elements as stored."""
        return self.count * int(DTYPES[self.dtype][2:])

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class VectorCase:
    """One case: an op, its attributes, its arrays in the kernel's order, the expected one last."""

    id: str
    op: str
    attributes: dict[str, object]
    arrays: tuple[Stored, ...]

    @property
    def expected(self) -> Stored:
        """The expected output."""
        return self.arrays[-1]


@dataclass(frozen=True)
class Index:
    """What vectors.json says."""

    producer: str
    storage: str
    seed: int
    cases: list[VectorCase] = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the lines `id/array sha256` of all arrays: the same for the same set, however stored."""
        lines = sorted(f"{case.id}/{array.name} {array.sha256}\n" for case in self.cases for array in case.arrays)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def index_json(index: Index) -> str:
    """Return the text of vectors.json: one line a case."""
    head = {
        "format": FORMAT,
        "format_version": VERSION,
        "contract": CONTRACT_NAME,
        "producer": index.producer,
        "storage": index.storage,
        "seed": index.seed,
        "digest": index.digest,
    }
    cases = ",\n".join(json.dumps(_case_json(case)) for case in index.cases)
    return json.dumps(head, indent=1).removesuffix("\n}") + f',\n "cases": [\n{cases}\n]\n}}\n'


def _case_json(case):
    return {
        "id": case.id,
        "op": case.op,
        "attributes": case.attributes,
        "arrays": [_array_json(a) for a in case.arrays],
    }


def _array_json(array):
    entry = {"name": array.name, "dtype": array.dtype, "shape": list(array.shape), "file": array.file}
    return {**entry, **({"key": array.key} if array.key else {}), "sha256": array.sha256}


def index_text(index: Index) -> str:
    """Return the text of vectors.txt: words between single spaces, one line an attribute or array."""
    lines = [f"{FORMAT} {VERSION} {CONTRACT_NAME} {len(index.cases)}"]
    for case in index.cases:
        lines.append(f"case {case.id} {case.op}")
        for name, value in case.attributes.items():
            values = value if isinstance(value, list) else [value]
            lines.append(f"attr {name} {len(values)} {' '.join(map(_word, values))}")
        for array in case.arrays:
            sizes = " ".join(map(str, array.shape))
            lines.append(f"array {array.name} {array.dtype} {len(array.shape)} {sizes} {array.file}")
        lines.append("end")
    return "\n".join(lines) + "\n"


def _word(value):
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.9g}" if isinstance(value, float) else str(value)  # 9 digits give a float32 back exactly


def read_index(folder: FilePath) -> Index:
    """Read and check the index of a folder of vectors; nothing else in it is opened.

    Raises: UsageError of one line if it is missing, too large, damaged, of another contract or a newer format, or
            names a file outside the folder.
    """
    path = Path(folder) / INDEX
    try:
        if path.stat().st_size > graphjson.MAX_BYTES:
            raise UsageError(f"{path}: is over {graphjson.MAX_BYTES} bytes; {FIX}")
        document = graphjson.parse(path.read_bytes(), str(path), FIX)
    except ModelFileError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        hint = "`pagnp vectors write DIR` makes such a folder"
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); {hint}") from error
    _check_version(document, path)
    _check_schema(document, path)
    cases = [_case(entry, document["storage"], path) for entry in document["cases"]]
    index = Index(document["producer"], document["storage"], document["seed"], cases)
    if len({case.id.lower() for case in cases}) < len(cases):
        raise UsageError(f"{path}: has two cases of one id; {FIX}")
    if index.digest != document["digest"]:
        raise UsageError(f"{path}: was changed after it was written (its digest differs); {FIX}")
    return index


def _check_version(document, path):
    """Refuse what is no index of ours, a newer one, and one of another contract."""
    document = document if isinstance(document, dict) else {}
    if document.get("format") != FORMAT:
        raise UsageError(f"{path}: is no index of vectors (format {document.get('format')!a}); {FIX}")
    version, contract = document.get("format_version"), document.get("contract")
    if version != VERSION:
        raise UsageError(f"{path}: has format version {version!a}, this pagnp reads {VERSION}; {FIX}")
    if contract != CONTRACT_NAME:
        raise UsageError(f"{path}: is of contract {contract!a}, this pagnp keeps {CONTRACT_NAME}; {FIX}")


def schema() -> dict[str, object]:
    """Return the JSON schema of the index (draft 2020-12), from schema/vectors.json."""
    loaded: dict[str, object] = json.loads(resources.files("pagnp").joinpath("schema/vectors.json").read_text("utf-8"))
    return loaded


@functools.cache
def _validator():
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def _check_schema(document, path):
    error = next(_validator().iter_errors(document), None)
    if error is not None:
        message = " ".join(error.message.split())
        shown = message if len(message) <= 160 else f"{message[:80]} ... {message[-80:]}"
        raise UsageError(f"{path} {error.json_path}: {shown}; {FIX}") from error


def _case(entry, storage, path):
    """Return a VectorCase of its JSON, which has passed the schema. Raises UsageError for what no schema can say."""
    arrays = tuple(
        Stored(a["name"], a["dtype"], tuple(a["shape"]), a["file"], a["sha256"], a.get("key")) for a in entry["arrays"]
    )
    case = VectorCase(entry["id"], entry["op"], entry["attributes"], arrays)
    names, label = [array.name for array in arrays], f"{path}: {case.id}"
    if names[-1] != OUT or len(set(names)) < len(names):
        raise UsageError(f"{label}: its arrays are {', '.join(names)}, need different ones, {OUT} last; {FIX}")
    for array in arrays:
        if array.count > MAX_ELEMENTS:
            raise UsageError(f"{label}: {array.name} has {array.count} elements, at most {MAX_ELEMENTS}; {FIX}")
        if (array.key is None) != (storage == "raw"):
            raise UsageError(f"{label}: {array.name}: a key belongs to npz, and only to it; {FIX}")
    return case
