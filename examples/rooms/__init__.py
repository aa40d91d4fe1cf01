"""Procedural indoor rooms with exact per-pixel ground truth, rendered in NumPy; our own data, free to use."""

from .classes import CLASSES, PALETTE
from .render import render

__all__ = ["CLASSES", "PALETTE", "render"]
