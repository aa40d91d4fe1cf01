"""Networks written without torch: functions that add nodes to a Graph.

`GraphBuilder` adds nodes, the functions of `blocks` groups of them; examples/write_a_network.py writes a network of
its own. To see how a big one is made, read `resnet.py`, then `blocks.py`, then `builder.py`.
"""

from pagnp.nn.blocks import bottleneck, conv_norm_relu, head, multipool, pag_gate
from pagnp.nn.builder import GraphBuilder
from pagnp.nn.resnet import pag_resnet
from pagnp.nn.spec import BlockSpec, GateSpec, HeadSpec, MultiPoolSpec, resnet_spec

__all__ = [
    "BlockSpec",
    "GateSpec",
    "GraphBuilder",
    "HeadSpec",
    "MultiPoolSpec",
    "bottleneck",
    "conv_norm_relu",
    "head",
    "multipool",
    "pag_gate",
    "pag_resnet",
    "resnet_spec",
]
