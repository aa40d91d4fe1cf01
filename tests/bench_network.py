"""A small gated network to be timed by tests, as fixtures; every wait is cut short."""

import functools

import pytest

import pagnp
from pagnp.bench import network, ops, peak, peers, session
from pagnp.bench.timing import interleave

SIZE = (40, 56)
HEADS = {"labels": {"task": "segmentation", "classes": 5, "hidden": [8]}}
POOL = {"block": "layer4.1", "rates": [0, 1, 2], "hidden": [8, 8]}
GATED = ["layer1.0", "layer2.1", "layer3.0"]
SMALL = {"depth": 26, "width": 0.125, "gated": GATED, "multipool": POOL, "heads": HEADS, "gate_bias": 0.0}


@pytest.fixture(scope="module")
def graph():
    return pagnp.nn.pag_resnet(**SMALL)


@pytest.fixture
def subject(graph):
    return network.Subject(graph, network.random_input(graph, SIZE), 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure the machine's peaks on next to nothing, and nothing longer than once."""
    monkeypatch.setattr(peak, "l3_bytes", lambda: 1 << 16)
    monkeypatch.setattr(peak.FmaPeak.__init__, "__defaults__", (1 << 8,))
    monkeypatch.setattr("gc.collect", lambda: None)  # a test run has much to look through
    hasty = functools.partial(interleave, least=0.0, wait=lambda: None)
    for module in (ops, session, peers):
        monkeypatch.setattr(module, "interleave", hasty)
