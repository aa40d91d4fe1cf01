"""Sound model files to be mutated: small networks in the layouts that HDF5 has for them."""

import functools
import hashlib
import io

import h5py
import hdf5_bytes
import numpy as np

from pagnp import graphjson, modelfile
from pagnp.nn import BlockSpec, GateSpec, GraphBuilder, bottleneck

CAFFE = {"kind": "caffe", "mean": [123.68, 116.779, 103.939], "pad_multiple": 8}
TORCHVISION = {"kind": "torchvision", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "pad_multiple": 4}


def gated_network():
    """A PAG network of a few KB: stem, one gated bottleneck, a head."""
    g = GraphBuilder(seed=1)
    x = g.relu(g.norm(g.conv("input", 4, kernel=3, padding=1, stride=2, name="conv1"), name="bn1"), name="relu")
    block = BlockSpec("layer1.0", c_in=4, mid=1, stride=1, dilation=1, gate_index=0)
    x = bottleneck(g, x, block, "conv1", GateSpec(bias=0.0))
    x = g.conv(x, 2, kernel=1, bias=True, name="heads.labels.conv1")
    upsample = {"op": "bilinear_deconv", "factor": 2}
    head = {"name": "labels", "task": "segmentation", "output": "labels", "upsample": upsample, "decode": "argmax"}
    head |= {"classes": ["wall", "floor"], "palette": [[0, 0, 0], [255, 128, 0]]}
    return g.finish({"labels": x}, [head], CAFFE)


def all_sorts():
    """A network of many ops with few weights."""
    g = GraphBuilder(seed=2)
    x = g.conv("input", 3, kernel=1, bias=True, name="conv1")
    pooled = g.max_pool(x, kernel=3, stride=2, padding=1, name="pool")
    window = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0], "ceil_mode": False}
    mean = g.node("avg_pool2d", x, name="avg", count_include_pad=False, **window)
    up = g.bilinear(g.add(pooled, mean, name="sum"), name="up", like=x)
    z = g.node("slice_channels", up, name="logits", start=0, stop=2)
    soft = g.gate(z, name="soft", mode="soft", form="torch", temperature=0.5)
    mixed = g.select(soft, (x, up), name="mixed")
    choice = g.gate(mixed, name="rates", rates=[0, 1, 2])
    chosen = g.select(choice, (x, up, mixed), name="chosen")
    first = g.node("slice_channels", chosen, name="first", start=0, stop=1)
    mask = g.node("compare", first, name="mask", op="gt", value=0.25)
    kept = g.node("masked", (chosen, g.node("logical_not", mask, name="not")), name="kept")
    depth = g.node("exp10", g.node("mul", first, name="scaled", value=0.125), name="depth")
    both = g.concat([kept, g.node("to_float", mask, name="float")], name="both")
    both = g.node("sigmoid", g.node("pad", both, name="pad", padding=[1, 0, 2, 0]), name="last")
    head = {"name": "depth", "task": "depth", "output": "depth", "upsample": {"op": "none"}, "decode": "identity"}
    return g.finish({"both": both, "depth": depth}, [{**head, "unit": "m"}], TORCHVISION)


def few_weights():
    """A network whose weights fit into a group of HDF5 1.8 without a heap: up to 8 links."""
    g = GraphBuilder(seed=3)
    x = g.relu(g.conv("input", 3, kernel=3, padding=1, bias=True, name="conv1"), name="relu")
    mask = g.gate(g.conv(x, 2, kernel=1, bias=True, name="logits"), name="gate")
    x = g.select(mask, (x, g.conv(x, 3, kernel=3, padding=1, bias=True, name="conv2")), name="select")
    return g.finish({"x": x})


def sha(array):
    """Return the attribute of an array's dataset."""
    return np.bytes_(hashlib.sha256(np.ascontiguousarray(array)).hexdigest())


def packed(content, libver, extra=0, **storage):
    """Return the same model in another layout: newer groups, chunks, filters, attributes in a heap."""
    with h5py.File(io.BytesIO(content)) as old, in_memory(libver=libver, track_order=extra > 0) as new:
        new.attrs.update(old.attrs)
        for i in range(extra):
            new.attrs[f"more{i}"] = i
        for name in ["graph", *(f"weights/{key}" for key in old["weights"])]:
            new.create_dataset(name, data=old[name][()], **storage)
            new[name].attrs["sha256"] = old[name].attrs["sha256"]
        return image_of(new)


def in_memory(content=None, **options):
    """Return an h5py File in memory, of `content` or new."""
    if content is None:
        return h5py.File("case.h5", "w", driver="core", backing_store=False, **options)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(content)
    return h5py.File(h5py.h5f.open(b"case.h5", h5py.h5f.ACC_RDWR, fapl=access))


def image_of(file):
    """Return the bytes of an open file in memory."""
    file.flush()
    return file.id.get_file_image()


def seed_of(content):
    """Return the Seed of a model file's bytes."""
    headers = set()
    with in_memory(content) as file:
        file.visititems(lambda name, item: headers.add(h5py.h5o.get_info(item.id).addr))
    return hdf5_bytes.Seed(content, sorted(place for place in headers if content[place : place + 4] != b"OHDR"))


def written(graph):
    """Return the bytes that `modelfile.write` writes."""
    document, weights = modelfile._document(graph)
    return modelfile._hdf5(graphjson.canonical(document), weights, graph.producer)


@functools.cache
def seeds():
    """Return the sound files that cases are made of."""
    plain = written(gated_network())
    gzip = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    few = written(few_weights())
    contents = [plain, written(all_sorts()), few, packed(few, "latest"), packed(few, "v108", chunks=True)]
    contents += [packed(few, "latest", chunks=True, **gzip), packed(plain, "earliest", chunks=True, **gzip)]
    contents += [packed(few, "earliest", chunks=True), packed(few, "latest", chunks=True)]
    heaps = packed(plain, "latest", extra=12)
    assert b"FRHP" in heaps and not any(b"FRHP" in content for content in contents)
    return [seed_of(content) for content in (*contents, heaps)]


@functools.cache
def documents():
    """Return [(JSON document, weights)] of the seed networks."""
    return [modelfile._document(graph) for graph in (gated_network(), all_sorts(), few_weights())]
