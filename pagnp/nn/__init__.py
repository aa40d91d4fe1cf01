"""Networks written without torch: functions that add nodes to a Graph.

Read `resnet.py`, then `blocks.py`, then `builder.py`.
"""

from pagnp.nn.blocks import bottleneck, conv_norm_relu, head, multipool, pag_gate
from pagnp.nn.builder import GraphBuilder
from pagnp.nn.resnet import pag_resnet
from pagnp.nn.spec import resnet_spec

__all__ = [
    "GraphBuilder",
    "bottleneck",
    "conv_norm_relu",
    "head",
    "multipool",
    "pag_gate",
    "pag_resnet",
    "resnet_spec",
]
