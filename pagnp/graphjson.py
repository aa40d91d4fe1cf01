"""The graph as JSON text: strict parsing, the schema, and the canonical bytes that are stored and hashed."""

import functools
import json
import math
import re
from importlib import resources

from pagnp.errors import ModelFileError

MAX_BYTES = 16 << 20
MAX_DEPTH = 16  # the deepest honest path is nodes[i].attrs.padding[k]: 4
MAX_VALUES = 2_000_000  # ResNet-101 with gates has 20,000; 16 MiB of [] would take 350 MiB in memory

# Strings and brackets. A string need not end: else every quote of a bad one would be tried as a beginning.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def canonical(document):
    """Return `document` as canonical JSON bytes: UTF-8, keys sorted, no spaces, shortest round-trip numbers."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def parse(data, label, fix="export again", max_bytes=MAX_BYTES):
    """Return the JSON document in the bytes `data`; `label` ("model.h5: graph") begins every message.

    Size, number of values and depth are checked before anything is built.
    Raises: ModelFileError if it is over `max_bytes`, MAX_VALUES or MAX_DEPTH, not UTF-8 or JSON, has a key twice,
            NaN, Infinity or a number beyond float64, or a string with control characters.
    """
    if len(data) > max_bytes:
        raise ModelFileError(f"{label} is {len(data)} bytes, need at most {max_bytes}; {fix}")
    data = bytes(data)
    try:
        _check_nesting(data)
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check_strings(document)
        canonical(document)  # a lone surrogate escape has no UTF-8 form
    except ValueError as error:
        raise ModelFileError(f"{label} is not valid JSON: {_one_line(str(error))}; {fix}") from error
    return document


def _check_nesting(data):
    """Raise ValueError for too many values or levels; a host's recursion limit may be higher than its stack."""
    count = data.count(b",") + data.count(b"[") + data.count(b"{")
    if count > MAX_VALUES:
        raise ValueError(f"has {count} values, need at most {MAX_VALUES}")
    depth = 0
    for token in _TOKEN.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        elif first in b"]}":
            depth -= 1


def _object(pairs):
    document = dict(pairs)
    if len(document) != len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!a} appears twice")
    return document


def _constant(word):
    raise ValueError(f"the number {word} is not allowed")


def _float(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _int(text):
    if len(text) > 20:
        raise ValueError(f"the number {text[:20]}... is too large")
    return int(text)


def _check_strings(document):
    """Raise ValueError for strings with control characters: names reach terminals and file names."""
    todo = [document]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            if not value.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
                raise ValueError(f"the string {ascii(value[:60])} has control characters")
        elif isinstance(value, dict):
            todo += [*value, *value.values()]
        elif isinstance(value, list):
            todo += value


def schema():
    """Return the JSON schema of the graph (draft 2020-12), from schema/graph.json."""
    return json.loads(resources.files("pagnp").joinpath("schema/graph.json").read_text("utf-8"))


@functools.cache
def _validator(part):
    import jsonschema

    whole = schema()
    wanted = {"$ref": f"#/$defs/{part}"} if part else {key: whole[key] for key in whole if key != "$defs"}
    expanded = _expanded(wanted, whole)
    # JSON Schema takes 3.0 for an integer; sizes are whole numbers, and no float may become one.
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=types)(expanded)


def _expanded(value, whole):
    """Return the schema `value` with every $ref replaced by what it names: to look it up takes as long as to check."""
    if isinstance(value, list):
        return [_expanded(item, whole) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        named = whole
        for step in value["$ref"].removeprefix("#/").split("/"):
            named = named[step]
        return _expanded(named, whole)
    return {key: _expanded(item, whole) for key, item in value.items()}


def check_schema(document, label, part="", fix="export again"):
    """Validate `document` against schema/graph.json, or against its definition `part`.

    Raises: ModelFileError of one line with the JSON path of the first fault.
    """
    error = next(_validator(part).iter_errors(document), None)
    if error is None:
        return
    from jsonschema.exceptions import best_match

    error = best_match(iter([error]))
    # The cause would print the whole document, megabytes of a stranger's text.
    raise ModelFileError(f"{label} {_place(error)}: {_one_line(error.message)}; {fix}") from None


def _place(error):
    place = "$"
    for step in error.absolute_path:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    return place


def _one_line(text, limit=160):
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit // 2] + " ... " + text[-limit // 2 :]
