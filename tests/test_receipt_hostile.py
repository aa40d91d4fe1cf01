"""Receipts from anywhere: damaged, hostile or only looking right, none of them is trusted or ends in a traceback."""

import os

import pytest
from receipt_files import call, changed, made, shared  # noqa: F401

from pagnp import receipt

# ruff: noqa: F811

ZERO = "0" * 64
HOSTILE = [
    (b"", "is no receipt"),
    (b"\x89HDF\r\n", "is no receipt"),
    (b"{", "is not valid JSON"),
    (b"[]", "is no receipt"),
    (b'{"format": "pagnp-model"}', "is no receipt"),
    (b'{"\xff": 1}', "is not valid JSON"),
    (b'{"format": "pagnp-receipt", "format": "pagnp-receipt"}', "appears twice"),
    (b'{"format": "pagnp-receipt", "format_version": 2}', "newer than this pagnp"),
    (b'{"format": "pagnp-receipt", "format_version": 1}', "is a required property"),
    (b'{"a":' * 100000, "nested deeper"),
    (b'{"format": NaN}', "NaN is not allowed"),
    (b'{"format": "a\\u001bc"}', "control characters"),
    (b'{"format": ' + b"9" * 5000 + b"}", "is too large"),
]


@pytest.mark.parametrize(("content", "text"), HOSTILE)
def test_hostile_receipts_are_refused(call, content, text, tmp_path):
    (tmp_path / "r.json").write_bytes(content)
    code, out, err = call("verify r.json")
    assert code == 2 and out == "" and text in err and err.count("\n") == 1 and len(err) < 500


BROKEN = [
    (("images",), []),
    (("images", 0, "pixels"), "abc"),
    (("images", 0, "options", "budget"), 2),
    (("images", 0, "options", "gate_mode"), "harder"),
    (("images", 0, "options", "noise"), 1),
    (("images", 0, "size"), [0, 1]),
    (("images", 0, "layers", 0, "name"), "../../etc"),
    (("images", 0, "probes", "outputs/depth"), "3F80000"),
    (("images", 0, "probes", "outputs/depth"), "3F800000 "),
    (("images", 0, "thresholds"), [1]),
    (("model", "path"), ""),
    (("model", "hash"), None),
]


@pytest.mark.parametrize(("path", "value"), BROKEN)
def test_receipts_against_the_schema_are_refused(call, made, path, value):
    changed(made(), path, value)
    code, out, err = call("verify r.json")
    assert code == 2 and out == "" and "r.json: $" in err and err.count("\n") == 1


ODD = [
    (("images", 0, "probes", "outputs/depth"), "00 00000000 00"),
    (("images", 0, "probes"), {"outputs/stranger": "00"}),
    (("images", 0, "thresholds"), {"layer1.0.gate": 1e300, "layer2.0.gate": 1e300}),
    (("images", 0, "thresholds"), {}),
    (("images", 0, "options", "seed"), 1.0),
    (("images", 0, "layers"), []),
]


@pytest.mark.parametrize(("path", "value"), ODD)
def test_receipts_that_only_look_right_are_no_crash(call, made, path, value):
    document = made("{d}/room.png --budget 0.5")
    document["images"][0]["layers"][5]["digest"] = ZERO
    changed(document, path, value)
    assert call("verify r.json")[0] == 1


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("threshold", 0.5, "budget and threshold exclude each other"),
        ("gate_mode", "soft", "need hard gates"),
    ],
)
def test_options_that_cannot_be_run_are_named(call, made, option, value, text):
    changed(made("{d}/room.png --budget 0.5"), ("images", 0, "options", option), value)
    for line in ("verify r.json", "verify r.json --spot 1"):
        code, _, err = call(line)
        assert code == 2 and "room.png: the receipt's options cannot be run: " in err and text in err


def test_files_that_are_no_receipts(call, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, text in (("nowhere.json", "No such file"), (".", "no regular file"), ("pipe", "no regular file")):
        code, _, err = call(f"verify {name}")
        assert code == 2 and text in err
    with open(tmp_path / "large.json", "wb") as file:
        file.write(b"{")
        file.truncate(receipt.MAX_BYTES + 1)
    code, _, err = call("verify large.json")
    assert code == 2 and "need at most" in err
