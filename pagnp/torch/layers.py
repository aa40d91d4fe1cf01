"""Rules of the exporter for layers: nn.Module type -> function (translation, layer, inputs) -> value."""

from torch import nn

from pagnp.torch import functions
from pagnp.torch.blocks import SharedConv
from pagnp.torch.gates import BoxMean, GateUnit, Select
from pagnp.torch.values import UNKNOWN, Ref, UnsupportedError, tensor


def conv2d(t, layer, x):
    if layer.padding_mode != "zeros":
        raise UnsupportedError(f"Conv2d with padding_mode='{layer.padding_mode}'; only 'zeros'")
    weight, bias = t.weight(layer.weight), t.weight(layer.bias)
    return functions.conv2d(t, x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def conv_transpose2d(t, layer, x):
    weight, bias = t.weight(layer.weight), t.weight(layer.bias)
    return functions.conv_transpose2d(
        t, x, weight, bias, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    )


def batch_norm2d(t, layer, x):
    if layer.running_mean is None or layer.running_var is None:
        raise UnsupportedError("BatchNorm2d without running statistics (track_running_stats=False)")
    statistics = t.weight(layer.running_mean), t.weight(layer.running_var)
    return functions.batch_norm(t, x, *statistics, t.weight(layer.weight), t.weight(layer.bias), eps=layer.eps)


def max_pool2d(t, layer, x):
    return functions.max_pool2d(
        t, x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices
    )


def avg_pool2d(t, layer, x):
    return functions.avg_pool2d(
        t,
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.ceil_mode,
        layer.count_include_pad,
        layer.divisor_override,
    )


def upsample(t, layer, x):
    return functions.interpolate(t, x, layer.size, layer.scale_factor, layer.mode, layer.align_corners)


def pad(t, layer, x):
    return functions.pad(t, x, layer.padding, "constant", getattr(layer, "value", 0))


def gate_unit(t, layer, z):
    """A gate without an index of its own gets the smallest free one."""
    used = {node.attrs["gate_index"] for node in t.graph.nodes.values() if node.op == "gate"}
    index = layer.gate_index
    if index is None:
        index = next(i for i in range(len(used) + 1) if i not in used)
    elif index in used:
        raise UnsupportedError(f"gate_index {index} is used by two gates; each needs its own noise stream")
    rates = {} if layer.rates is None else {"rates": list(layer.rates)}
    attrs = {"mode": layer.mode, "form": layer.form, "temperature": layer.temperature, "gate_index": index}
    return t.emit("gate", (tensor(z),), **attrs, **rates)


def select(t, layer, control, *branches):
    branches = [tensor(b) for b in branches]
    if control is UNKNOWN:
        return UNKNOWN
    if not isinstance(control, Ref):
        raise UnsupportedError(f"Select steered by {control!r}")
    return t.emit("blend" if control.kind == "tensor" else "select", (control, *branches))


def box_mean(t, layer, z):
    weight = t.weight(layer.weight)
    return functions.conv2d(t, z, weight, padding=1, groups=layer.weight.shape[0])


def shared_conv(t, layer, x, weight):
    return functions.conv2d(t, x, weight, padding=layer.rate, dilation=layer.rate)


def _inplace(layer):
    return getattr(layer, "inplace", False)


LAYERS = {
    nn.Conv2d: conv2d,
    nn.ConvTranspose2d: conv_transpose2d,
    nn.BatchNorm2d: batch_norm2d,
    nn.SyncBatchNorm: batch_norm2d,
    nn.ReLU: lambda t, layer, x: functions.relu(t, x, _inplace(layer)),
    nn.Sigmoid: lambda t, layer, x: functions.sigmoid(t, x),
    nn.Softmax: lambda t, layer, x: functions.softmax(t, x, layer.dim),
    nn.Softmax2d: lambda t, layer, x: functions.softmax(t, x, 1),
    nn.MaxPool2d: max_pool2d,
    nn.AvgPool2d: avg_pool2d,
    nn.AdaptiveAvgPool2d: lambda t, layer, x: functions.adaptive_avg_pool2d(t, x, layer.output_size),
    nn.Upsample: upsample,
    nn.UpsamplingBilinear2d: upsample,
    nn.UpsamplingNearest2d: upsample,
    nn.ZeroPad2d: pad,
    nn.ConstantPad2d: pad,
    nn.Dropout: lambda t, layer, x: x,
    nn.Dropout2d: lambda t, layer, x: x,
    nn.Identity: lambda t, layer, x: x,
    GateUnit: gate_unit,
    Select: select,
    BoxMean: box_mean,
    SharedConv: shared_conv,
}


def rule_of(layer):
    """Return the rule of a layer, or of the torch class it inherits its forward from; None if there is none."""
    for kind in type(layer).__mro__:
        rule = LAYERS.get(kind)
        if rule is not None:
            kept = all(getattr(type(layer), name, None) is getattr(kind, name, None) for name in _COMPUTING)
            return rule if kept else None
    return None


_COMPUTING = ("forward", "__call__", "_conv_forward")  # what a subclass may not have changed
