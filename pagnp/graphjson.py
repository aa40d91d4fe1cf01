"""The graph as JSON text: strict parsing, the schema, and the canonical bytes that are stored and hashed."""

import functools
import json
import math
from importlib import resources

from pagnp.errors import ModelFileError

MAX_BYTES = 16 << 20
MAX_DEPTH = 16  # the deepest honest path is nodes[i].attrs.padding[k]: 4


def canonical(document):
    """Return `document` as canonical JSON bytes: UTF-8, keys sorted, no spaces, shortest round-trip numbers."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def parse(data, label, fix="export again"):
    """Return the JSON document in the bytes `data`; `label` ("model.h5: graph") begins every message.

    Raises: ModelFileError if it is over MAX_BYTES or MAX_DEPTH, not UTF-8 or JSON, has a key twice,
            NaN, Infinity or a number beyond float64, or a string with control characters.
    """
    if len(data) > MAX_BYTES:
        raise ModelFileError(f"{label} is {len(data)} bytes, need at most {MAX_BYTES}; {fix}")
    try:
        document = json.loads(
            bytes(data).decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check_tree(document)
        canonical(document)  # a lone surrogate escape has no UTF-8 form
    except RecursionError as error:
        raise ModelFileError(f"{label} is nested deeper than {MAX_DEPTH} levels; {fix}") from error
    except ValueError as error:
        raise ModelFileError(f"{label} is not valid JSON: {_one_line(str(error))}; {fix}") from error
    return document


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


def _check_tree(document):
    """Raise ValueError for a tree that is too deep or has strings with control characters."""
    todo = [(document, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, str):
            # Names reach terminals and file names; an escape sequence must not.
            if not value.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
                raise ValueError(f"the string {ascii(value)[:60]} has control characters")
        elif isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
            children = [*value, *value.values()] if isinstance(value, dict) else value
            todo.extend((child, depth + 1) for child in children)


def schema():
    """Return the JSON schema of the graph (draft 2020-12), from schema/graph.json."""
    return json.loads(resources.files("pagnp").joinpath("schema/graph.json").read_text("utf-8"))


@functools.cache
def _validator(part):
    import jsonschema

    whole = schema()
    if part:
        whole = {"$schema": whole["$schema"], "$defs": whole["$defs"], "$ref": f"#/$defs/{part}"}
    return jsonschema.Draft202012Validator(whole)


def check_schema(document, label, part="", fix="export again"):
    """Validate `document` against schema/graph.json, or against its definition `part`.

    Raises: ModelFileError of one line with the JSON path of the first fault.
    """
    error = next(_validator(part).iter_errors(document), None)
    if error is None:
        return
    from jsonschema.exceptions import best_match

    error = best_match(iter([error]))
    raise ModelFileError(f"{label} {_place(error)}: {_one_line(error.message)}; {fix}") from error


def _place(error):
    place = "$"
    for step in error.absolute_path:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    return place


def _one_line(text, limit=160):
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit // 2] + " ... " + text[-limit // 2 :]
