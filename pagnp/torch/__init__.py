"""PyTorch side of pagnp: modules to train, losses, export. The only place that imports torch."""

from pagnp.torch import losses, nn
from pagnp.torch.export import ExportReport, export, to_graph

__all__ = ["ExportReport", "export", "losses", "nn", "to_graph"]
