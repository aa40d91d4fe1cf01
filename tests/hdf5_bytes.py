"""Where the parts of an HDF5 file lie, and writing over them."""

import struct

import h5py
from small_model import swap


def patched(model, place, content):
    """Write `content` over the bytes at `place`."""
    raw = bytearray(model.read_bytes())
    raw[place : place + len(content)] = content
    model.write_bytes(raw)


def found(model, signature, number=0):
    """Return where the structure `signature` begins."""
    raw, place = model.read_bytes(), -1
    for _ in range(number + 1):
        place = raw.index(signature, place + 1)
    return place


def header_of(model, name):
    """Return where the object header of `name` is."""
    with h5py.File(model) as file:
        return h5py.h5o.get_info(file[name].id).addr


def message(model, name, kind):
    """Return where the body of a message in the header of `name` is."""
    raw, place = model.read_bytes(), header_of(model, name) + 16
    while True:
        found_kind, size = struct.unpack_from("<HH", raw, place)
        if found_kind == kind:
            return place + 8
        place += 8 + size


def chunked(model, data, chunk, **options):
    """Store BIAS as `data` in chunks of shape `chunk`."""
    with h5py.File(model, "r+") as file:
        swap(file, data=data, chunks=chunk, maxshape=(None,), **options)
