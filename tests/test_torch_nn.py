"""The torch modules and losses: PAG.md's formulas written out, hand-computed values, gradients."""

import copy
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pagnp[torch])")

from torch.nn import functional  # noqa: E402

from pagnp.errors import UsageError  # noqa: E402
from pagnp.torch import gumbel, losses, nn  # noqa: E402

HEADS = {"labels": {"task": "segmentation", "classes": 4}}


def small(**options):
    torch.manual_seed(0)
    return nn.pag_resnet(**{"depth": 26, "width": 0.125, "heads": HEADS, **options})


def randomise(module):
    """Give every norm running statistics and every gate weights, so that eval mode means something."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
        if isinstance(layer, nn.PAGGate):
            torch.nn.init.normal_(layer.conv.weight)
    return module.eval()


def norm(x, bn):
    return functional.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)


@pytest.mark.parametrize("stride_on", ["conv1", "conv2"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("blur", [False, True])
def test_gated_block_is_pag_md_section_1(stride_on, stride, blur):
    torch.manual_seed(3)
    block = randomise(nn.GatedBottleneck(8, 4, stride, 2, stride_on, blur=blur))
    x = torch.randn(2, 8, 9, 7)
    s1, s2 = (stride, 1) if stride_on == "conv1" else (1, stride)
    x1 = norm(functional.conv2d(x, block.conv1.weight, stride=s1), block.bn1).relu()
    z = functional.conv2d(x, block.gate.conv.weight, block.gate.conv.bias, stride=stride)
    if blur:
        z = functional.avg_pool2d(z, 3, 1, 1, count_include_pad=True)
    x2 = norm(functional.conv2d(x1, block.conv2.weight, stride=s2, padding=2, dilation=2), block.bn2).relu()
    gate = z[:, 1:] > z[:, :1]
    y = torch.where(gate, x2, x1[:, :, ::s2, ::s2])
    shortcut = x if block.downsample is None else norm(block.downsample[0](x), block.downsample[1])
    want = (norm(functional.conv2d(y, block.conv3.weight), block.bn3) + shortcut).relu()
    assert 0 < gate.float().mean() < 1
    torch.testing.assert_close(block(x), want, rtol=1e-5, atol=1e-5)


def test_a_tie_and_nan_skip():
    unit = nn.GateUnit().eval()
    z = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, math.nan]]).reshape(4, 2, 1, 1)
    assert unit(z).flatten().tolist() == [False, True, False, False]


@pytest.mark.parametrize("mode", ["hard", "soft"])
@pytest.mark.parametrize("tied", [False, True])
def test_multipool_is_pag_md_section_3(mode, tied):
    torch.manual_seed(1)
    pool = randomise(nn.MultiPool(4, [2, 0, 1], hidden=(8, 4), mode=mode, tied=tied))
    x = torch.randn(1, 4, 6, 7)
    p = torch.softmax(pool.attention(x), 1)
    branches = []
    for branch, rate in zip(pool.branches, [2, 0, 1], strict=True):
        weight = pool.conv.weight if tied else getattr(getattr(branch, "conv", None), "weight", None)
        conv = functional.conv2d(x, weight, padding=rate, dilation=rate) if rate else None
        branches.append(norm(conv, branch.bn).relu() if rate else x)
    stack = torch.stack(branches, 1)
    if mode == "soft":
        want = (p[:, :, None] * stack).sum(1)
    else:
        want = stack.gather(1, p.argmax(1)[:, None, None].expand(-1, 1, 4, -1, -1))[:, 0]
    torch.testing.assert_close(pool(x), want, rtol=1e-5, atol=1e-5)


def test_first_maximum_wins():
    y = torch.tensor([1.0, 3.0, 3.0, 2.0]).reshape(1, 4, 1, 1)
    assert gumbel.first_maximum(y).flatten().tolist() == [0, 1, 0, 0]


def test_straight_through_forward_is_hard_and_gradient_is_soft():
    z = torch.randn(2, 3, 4, 5, requires_grad=True)
    weights = torch.randn(2, 3, 4, 5)
    hard = gumbel.straight_through(torch.softmax(z / 0.5, 1), z)
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    (through,) = torch.autograd.grad((hard * weights).sum(), z)
    (soft,) = torch.autograd.grad((torch.softmax(z / 0.5, 1) * weights).sum(), z)
    assert torch.equal(through, soft)


def test_gumbel_forms():
    z = torch.tensor([0.0, math.log(3.0)]).reshape(1, 2, 1, 1)
    noise = torch.tensor([0.5, -0.25]).reshape(1, 2, 1, 1)
    want = [math.log((0.25 + 1e-3) / 1.001) + 0.5, math.log((0.75 + 1e-3) / 1.001) - 0.25]
    assert gumbel.noisy_logits(z, noise, "kong2018").flatten().tolist() == pytest.approx(want, rel=1e-6)
    assert gumbel.noisy_logits(z, noise, "torch").flatten().tolist() == pytest.approx([0.5, math.log(3) - 0.25])
    torch.manual_seed(0)
    drawn = gumbel.gumbel_noise(torch.zeros(200_000), "torch")
    assert float(drawn.mean()) == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert float(drawn.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)
    drawn = gumbel.gumbel_noise(torch.zeros(200_000), "kong2018")
    assert float(drawn.max()) <= -math.log(-math.log(1.00001 / 1.001)) + 1e-2  # the clamp cuts the tail at 6.9


@pytest.mark.parametrize("form", ("kong2018", "torch"))
def test_noise_for_logits_of_bfloat16_is_not_of_bfloat16(form):
    torch.manual_seed(2)
    wide = gumbel.gumbel_noise(torch.zeros(10_000), form)
    torch.manual_seed(2)
    drawn = gumbel.gumbel_noise(torch.zeros(10_000, dtype=torch.bfloat16), form)
    assert torch.equal(drawn, wide) and len(drawn.unique()) > 9000  # 8 bits would be 256 values
    assert gumbel.gumbel_noise(torch.zeros(3, dtype=torch.float64), form).dtype == torch.float64


def test_training_modes_and_what_is_kept():
    model = small(multipool={"block": "layer4.1", "rates": [0, 1]})
    x = torch.randn(1, 3, 16, 24)
    with pytest.raises(UsageError, match="gate 'layer1.0.gate' has decided nothing yet"):
        nn.keep_rates(model)
    for mode in ("open", "soft", "hard", "gumbel_soft", "gumbel_hard"):
        nn.set_gate_mode(model, mode)
        model(x)
        maps = nn.gate_probabilities(model)
        assert len(maps) == len(nn.gates(model)) == 7 and maps[0].shape == (1, 4, 6)
        assert all(p.requires_grad for p in maps)
    nn.set_gate_mode(model, "open")
    model(x)
    assert set(nn.keep_rates(model).values()) == {1.0}
    nn.set_temperature(model, 0.25)
    assert all(gate.unit.temperature == 0.25 for gate in nn.gates(model).values())
    with pytest.raises(UsageError, match="'half' is unknown; choose one of open, hard"):
        nn.set_gate_mode(model, "half")


def test_gates_start_mostly_open():
    model = small().eval()
    model(torch.randn(1, 3, 32, 40))
    assert all(rate > 0.95 for rate in nn.keep_rates(model).values())


def test_every_parameter_learns():
    model = small(gate_blur=True, multipool={"block": "layer4.1", "rates": [0, 1, 2], "tied": True})
    out = model(torch.randn(2, 3, 32, 40))["labels"]
    (out.square().mean() + losses.sparsity_loss(nn.gate_probabilities(model), 0.5)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_a_model_copies_and_pickles_after_a_forward():
    model = small()
    model(torch.randn(1, 3, 32, 32))
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert again.state_dict().keys() == model.state_dict().keys()


def test_state_dict_names_are_fixed():
    keys = set(small(multipool={"block": "layer4.1", "rates": [0, 1]}, res6=16, gate_blur=True).state_dict())
    for key in (
        *("conv1.weight", "bn1.running_mean", "layer1.0.conv2.weight", "layer1.0.bn3.bias"),
        *("layer1.0.downsample.0.weight", "layer1.0.downsample.1.weight"),
        *("layer1.0.gate.conv.weight", "layer1.0.gate.conv.bias", "layer1.0.gate.blur.weight"),
        *("layer4.1.multipool.branches.1.conv.weight", "layer4.1.multipool.branches.1.bn.weight"),
        *("layer4.1.multipool.attention.conv1.weight", "layer4.1.multipool.attention.conv3.bias"),
        *("res6.conv.weight", "res6.bn.weight", "heads.labels.conv1.weight", "heads.labels.conv3.bias"),
    ):
        assert key in keys
    assert not any("conv2" in key or "bn2" in key for key in keys if key.startswith("layer4.1.") and "att" not in key)


KL = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)


@pytest.mark.parametrize(
    "form, m, rho, want",
    [
        ("kl", 0.25, 0.5, KL),
        ("kl_doubled", 0.25, 0.5, 2 * KL),
        ("kl", 0.7, 0.7, 0.0),
        ("kl", 0.5, 1.0, math.log(2)),
        ("kl", 0.5, 0.0, math.log(2)),
        ("mild", 0.25, 0.5, 2 * math.log(1 + 0.0625)),
    ],
)
def test_sparsity(form, m, rho, want):
    assert float(losses.sparsity(torch.tensor(m), rho, form)) == pytest.approx(want, abs=1e-6)


def test_sparsity_of_a_shut_gate_is_finite():
    p = torch.zeros(1, 4, 4, requires_grad=True)
    loss = losses.sparsity_loss([p], 0.5)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(p.grad).all()


def test_a_gate_that_is_open_everywhere_can_still_be_closed():
    logit = torch.tensor(7.5, requires_grad=True)  # P(skip) is 3e-7, less than the loss tells apart
    p = torch.softmax(torch.stack([-logit, logit]), 0)[1]
    losses.sparsity_loss([p.expand(1, 2, 2)], 0.5).backward()
    assert logit.grad > 0.05


def test_weights_and_rates_of_gates_may_be_tensors_or_arrays():
    maps = [torch.full((1, 2, 2), 0.25), torch.full((1, 4, 4), 0.5)]
    for weights in (torch.tensor([3.0, 1.0]), np.array([3.0, 1.0]), (3, 1)):
        assert float(losses.sparsity_loss(maps, 0.5, weights=weights)) == pytest.approx(0.75 * KL)
        assert losses.sparsity_loss(maps, 0.5, weights=weights).shape == ()
    assert float(losses.sparsity_loss(maps, np.array([0.25, 0.5]))) == pytest.approx(0, abs=1e-6)
    assert float(losses.sparsity_loss(maps, torch.tensor(0.5))) == pytest.approx(KL / 2)
    with pytest.raises(UsageError, match="a global budget has one rho"):
        losses.sparsity_loss(maps, np.array([0.25, 0.5]), budget="global")


def test_sparsity_per_gate_and_global():
    maps = [torch.full((1, 2, 2), 0.25), torch.full((1, 4, 4), 0.5)]
    assert float(losses.sparsity_loss(maps, 0.5)) == pytest.approx(KL / 2)
    assert float(losses.sparsity_loss(maps, 0.5, weights=[3.0, 1.0])) == pytest.approx(0.75 * KL)
    assert float(losses.sparsity_loss(maps, [0.25, 0.5])) == pytest.approx(0, abs=1e-6)
    mean = (4 * 0.25 + 16 * 0.5) / 20
    want = losses.sparsity(torch.tensor(mean), 0.5)
    assert float(losses.sparsity_loss(maps, 0.5, budget="global")) == pytest.approx(float(want))
    mean = (2 * 4 * 0.25 + 16 * 0.5) / 24
    want = losses.sparsity(torch.tensor(mean), 0.5)
    assert float(losses.sparsity_loss(maps, 0.5, budget="global", weights=[2, 1])) == pytest.approx(float(want))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: losses.sparsity(torch.tensor(0.5), 0.5, "l1"), "sparsity: form 'l1' is unknown; choose one of kl"),
        (lambda: losses.sparsity(torch.tensor(0.5), 1.5), "sparsity: target rate 1.5 is outside 0..1"),
        (lambda: losses.sparsity_loss([], 0.5), "sparsity_loss: no gates"),
        (lambda: losses.sparsity_loss([torch.ones(1)], 0.5, budget="layer"), "sparsity_loss: budget 'layer'"),
        (lambda: losses.sparsity_loss([torch.ones(1)] * 2, [0.5]), "sparsity_loss: 1 rho for 2 gates"),
        (lambda: losses.sparsity_loss([torch.ones(1)], 0.5, weights=[1, 2]), "sparsity_loss: 2 weights for 1 gates"),
        (lambda: losses.sparsity_loss([torch.ones(1)], [0.5], budget="global"), "a global budget has one rho"),
    ],
)
def test_wrong_loss_arguments_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_segmentation_loss_ignores_255():
    logits = torch.tensor([[0.0, 5.0], [math.log(3.0), 0.0]]).reshape(1, 2, 1, 2)
    labels = torch.tensor([1, 255]).reshape(1, 1, 2)
    assert float(losses.segmentation_loss(logits, labels)) == pytest.approx(-math.log(0.75))
    nothing = losses.segmentation_loss(logits.requires_grad_(), torch.full((1, 1, 2), 255))
    nothing.backward()
    assert float(nothing.detach()) == 0 and not logits.grad.any()


def test_depth_loss_in_log_space():
    log_depth = torch.tensor([0.0, 1.0, 7.0]).reshape(1, 1, 1, 3)
    depth = torch.tensor([math.e, math.e, 0.0]).reshape(1, 1, 3)
    assert float(losses.depth_loss(log_depth, depth)) == pytest.approx(0.5)
    assert float(losses.depth_loss(log_depth, 10 * torch.ones(1, 1, 3), base=10)) == pytest.approx((1 + 0 + 36) / 3)
    assert float(losses.depth_loss(log_depth, torch.zeros(1, 1, 3))) == 0


def test_normals_loss():
    normals = torch.tensor([[0.0, 0.0, 5.0], [0.0, 3.0, 0.0]]).T.reshape(1, 3, 1, 2)
    target = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]).T.reshape(1, 3, 1, 2)
    want = 1 + math.pi / 2  # a right angle
    assert float(losses.normals_loss(normals, target, torch.tensor([[[False, True]]]))) == pytest.approx(want)
    assert float(losses.normals_loss(normals, target)) == pytest.approx(want / 2, abs=5e-3)
    zero = torch.zeros(1, 3, 1, 1, requires_grad=True)
    losses.normals_loss(zero, target[..., :1]).backward()
    assert torch.isfinite(zero.grad).all()


def test_boundary_loss_balances_the_classes():
    boundary = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(1, 2, 2)
    logits = torch.tensor([0.0, 0.0, 0.0, math.log(3.0)]).reshape(1, 1, 2, 2)
    want = (0.75 * math.log(2) + 0.25 * (2 * math.log(2) + math.log(4))) / 4
    assert float(losses.boundary_loss(logits, boundary)) == pytest.approx(want)


def test_upsample_is_the_half_pixel_bilinear():
    x = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    assert losses.upsample(x, (1, 4)).flatten().tolist() == [0, 1, 3, 4]
