"""Everything that a torch network computes on its way, under the names of the graph that export makes of it."""

import numpy as np
import torch

from pagnp.torch.check import Recorder, engine_noise
from pagnp.torch.gates import GateUnit
from pagnp.torch.trace import trace
from pagnp.torch.translate import Translation

torch.set_num_threads(1)  # for maps this small, threads that wait for each other cost more than they compute


def hooked(net, x):
    """Return name -> array of every module without children, and `input`, by hooks as in docs/NUMERICS.md."""
    kept = {"input": x.numpy()}

    def keep(name):
        def hook(module, args, out):
            key, count = name, 0
            while key in kept:
                key, count = f"{name}_{count + 1}", count + 1
            kept[key] = out.detach().cpu().numpy().copy()

        return hook

    handles = [m.register_forward_hook(keep(n)) for n, m in net.named_modules() if n and not list(m.children())]
    with torch.no_grad():
        net(x.clone())
    for handle in handles:
        handle.remove()
    return kept


def traced(net, x):
    """Return (graph, name -> array of every node, and `input`) of a network, functions between modules included."""
    net.eval()
    fx_graph = trace(net)
    translation = Translation(net, x.shape[1])
    graph = translation.run(fx_graph).validate()
    with torch.no_grad():
        kept = Recorder(net, fx_graph, translation.values, torch.float32).record(x)
    return graph, {**kept, "input": x.numpy()}


def with_engine_noise(net):
    """Let every Gumbel gate draw what the engine draws with seed 0; return the network."""
    for unit in (module for module in net.modules() if isinstance(module, GateUnit)):
        unit.noise_source = engine_noise
    return net


def filled(net, graph):
    """Return `net` in eval mode with the weights of a graph of the same names."""
    state = {key: torch.from_numpy(np.array(array)) for key, array in graph.weights.items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    return net.eval()
