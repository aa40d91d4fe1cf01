"""Accuracy against executed multiply-adds: measure a family of trained models with pagnp, report tables and plots."""
