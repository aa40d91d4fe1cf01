"""PyTorch side of pagnp: modules to train, losses, export. The only place that imports torch."""

from pagnp.torch import losses, nn
from pagnp.torch.export import ExportReport, export, to_graph
from pagnp.torch.module import to_module

__all__ = ["ExportReport", "export", "losses", "nn", "to_graph", "to_module"]
