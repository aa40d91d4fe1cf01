"""Measure pagnp beside other libraries: networks, single layers, memory, start-up. `pagnp bench` is the front.

timing      interleaved rounds, medians and spread
peak        what the cores can do: fused multiply-adds, memory
network     one network, dense and at keep rates; layers: its steps against the roofline
opcases     single layers; ops: how each is run
peers       the same in PyTorch and ONNX Runtime
process     memory and start-up, in processes of their own
"""
