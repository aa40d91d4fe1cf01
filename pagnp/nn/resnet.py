"""`pag_resnet`: a whole PAG network as a Graph, without torch."""

from typing import Unpack

from pagnp.graph import Graph
from pagnp.nn import blocks
from pagnp.nn.builder import GraphBuilder
from pagnp.nn.spec import ResNetOptions, resnet_spec


def pag_resnet(*, seed: int = 0, **options: Unpack[ResNetOptions]) -> Graph:
    """Build a PAG ResNet with random weights.

    seed     of the weights
    options  depth, width, gated, multipool, output_stride, stride_on, heads, res6, in_channels, gate_*:
             see `pagnp.nn.spec.resnet_spec`; `gate_bias=0` gives gates that are about half open
    returns  Graph: the same nodes, names, outputs, heads and preprocessing as
             `pagnp.torch.export(pagnp.torch.nn.pag_resnet(...), ...)` writes
    Raises:  UsageError naming the argument.
    """
    spec = resnet_spec(**options)
    g = GraphBuilder(spec.in_channels, seed)
    x = g.conv("input", spec.stem, kernel=7, stride=2, padding=3, name="conv1")
    x = g.relu(g.norm(x, name="bn1"), name="relu")
    x = g.max_pool(x, kernel=3, stride=2, padding=1, name="maxpool")
    for block in spec.blocks:
        x = blocks.bottleneck(g, x, block, spec.stride_on, spec.gate)
    if spec.res6:
        x = blocks.conv_norm_relu(g, x, spec.res6, kernel=3, conv="res6.conv", norm="res6.bn", relu="res6.relu")
    outputs = {head.name: blocks.head(g, x, head) for head in spec.heads}
    return g.finish(outputs, [head.entry for head in spec.heads], spec.preprocess)
