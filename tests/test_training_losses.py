"""examples/training: the schedule, the losses and the quick scores of a course, on cases whose result is known."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the recipe trains with torch")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from training.config import Stage  # noqa: E402
from training.dataset import IGNORE  # noqa: E402
from training.lovasz import lovasz_softmax  # noqa: E402
from training.progress import Log, duration  # noqa: E402
from training.schedule import learning_rate, plan  # noqa: E402
from training.tasks import Scores, class_weights, task_losses, teacher_losses  # noqa: E402


def test_the_temperature_falls_and_the_pressure_grows():
    stage = Stage(epochs=1, lr=1.0, open=0.1, noisy=0.6, temperature=(1.0, 0.01), sparsity=2.0, warmup=0.0)
    plans = [plan(p, stage, True) for p in (0.05, 0.1, 0.35, 0.599, 0.6, 1.0)]
    assert [p.mode for p in plans] == ["open", *["gumbel_hard"] * 3, "hard", "hard"]
    np.testing.assert_allclose([p.temperature for p in plans[1:4]], [1, 0.1, 0.01], rtol=0.02)
    assert [p.sparsity for p in plans] == [0, 0, 2, 2, 2, 2]
    assert plan(0.35, stage, False).mode == "open"
    poly = Stage(epochs=1, lr=1.0, schedule="poly", warmup=0.0)
    assert learning_rate(0.5, poly) == pytest.approx(0.5**0.9) and learning_rate(0.5, stage) == pytest.approx(0.5)


def a_scene(h=24, w=32):
    labels = (torch.arange(w) // 8).expand(h, w).to(torch.uint8)
    boundary = torch.zeros(h, w)
    boundary[:, 7::8] = 0.6
    normals = torch.nn.functional.normalize(torch.randn(3, h, w, generator=torch.Generator().manual_seed(3)), dim=0)
    depth = torch.linspace(1, 4, h * w).view(h, w)
    return {"image": torch.zeros(3, h, w), "labels": labels, "boundary": boundary, "depth": depth, "normals": normals}


TASKS = {"seg": "segmentation", "edge": "boundary", "far": "depth", "turn": "normals"}


def answers(scene):
    """The logits that say what the truth says."""
    return {
        "seg": 20 * torch.nn.functional.one_hot(scene["labels"].long(), 4).permute(2, 0, 1)[None].float(),
        "edge": (20 * (scene["boundary"] > 0).float() - 10)[None, None],
        "far": scene["depth"].log()[None, None],
        "turn": 3 * scene["normals"][None],
    }


def test_true_answers_have_no_loss_and_full_scores():
    scene = a_scene()
    batch = {name: value[None] for name, value in scene.items()} | {"inside": torch.ones(1, 24, 32, dtype=torch.bool)}
    losses = task_losses(answers(scene), TASKS, batch, Stage(epochs=1, lr=1.0), None)
    assert losses["seg"] < 1e-6 and losses["edge"] < 1e-3 and losses["far"] < 1e-9 and losses["turn"] < 0.01
    scores = Scores(TASKS, 4)
    scores.add(answers(scene), scene)
    found = scores.result()
    assert (
        found["seg.mean_iou"] == found["seg.pixel_accuracy"] == found["far.delta1"] == found["turn.within_11.25"] == 1
    )
    assert found["edge.quick_f"] == 1 and found["far.abs_rel"] < 1e-6 and found["turn.mean"] < 0.1


def test_what_a_teacher_says_otherwise_is_a_loss():
    said = answers(a_scene())
    assert all(loss == pytest.approx(0, abs=1e-6) for loss in teacher_losses(said, said, TASKS).values())
    one = torch.zeros(1, 2, 1, 1)
    other = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)  # .75 and .25 against .5 and .5
    apart = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert teacher_losses({"seg": one}, {"seg": other}, {"seg": "segmentation"})["seg.teacher"] == pytest.approx(apart)
    edges = ({"edge": one[:, :1]}, {"edge": torch.full((1, 1, 1, 1), np.log(3.0))}, {"edge": "boundary"})
    assert teacher_losses(*edges)["edge.teacher"] == pytest.approx(10 * apart)
    assert teacher_losses({"far": one}, {"far": one + 2}, {"far": "depth"})["far.teacher"] == 4
    turns = ({"turn": torch.eye(3)[None, :, :1, None]}, {"turn": torch.eye(3)[None, :, 1:2, None]}, {"turn": "normals"})
    assert teacher_losses(*turns)["turn.teacher"] == pytest.approx(1)


def test_lovasz_of_hard_answers_is_one_minus_iou():
    scene = a_scene()
    logits, labels = answers(scene)["seg"], scene["labels"][None].clone()
    assert lovasz_softmax(logits, labels, IGNORE) < 1e-6
    logits[..., :4] = torch.tensor([0.0, 20, 0, 0]).view(1, 4, 1, 1)  # half of class 0 called class 1
    want = 1 - np.mean([1 / 2, 2 / 3, 1, 1])
    assert lovasz_softmax(logits, labels, IGNORE) == pytest.approx(want, abs=1e-5)
    labels[..., :4] = IGNORE
    assert lovasz_softmax(logits, labels, IGNORE) < 1e-6
    assert lovasz_softmax(logits, torch.full_like(labels, IGNORE), IGNORE) == 0


def test_scores_of_known_errors():
    scene, scores = a_scene(), Scores(TASKS, 4)
    wrong = answers(scene)
    wrong["seg"][..., :4] = torch.tensor([0.0, 20, 0, 0]).view(1, 4, 1, 1)  # half of class 0 called class 1
    wrong["far"] = wrong["far"] + np.log(1.1)
    wrong["turn"] = -wrong["turn"]
    wrong["edge"][:] = -10
    wrong["edge"][..., 7] = 10  # one of four lines found
    scores.add(wrong, scene)
    found = scores.result()
    assert [found[f"seg.iou{k}"] for k in range(4)] == pytest.approx([1 / 2, 2 / 3, 1, 1])
    assert found["far.abs_rel"] == pytest.approx(0.1, abs=1e-5) and found["turn.mean"] > 179
    assert found["edge.quick_f"] == pytest.approx(2 * 0.25 / 1.25, abs=1e-6)


def test_class_weights_leave_the_mean_weight_of_a_pixel_at_one():
    class Two:
        def __len__(self):
            return 2

        def __getitem__(self, k):
            return {"labels": torch.tensor([[0, 0, 0, 1, 255]], dtype=torch.uint8)}

    weight = class_weights(Two(), 2, 0.5)
    assert float(weight @ torch.tensor([0.75, 0.25])) == pytest.approx(1) and float(
        weight[1] / weight[0]
    ) == pytest.approx(3**0.5)
    assert class_weights(Two(), 2, 0.0) is None


def test_a_log_drops_what_came_after_the_checkpoint(tmp_path):
    log = Log(tmp_path / "log.csv", 0)
    for step in (50, 100, 150):
        log.add({"step": step, "loss": step / 8})
    again = Log(tmp_path / "log.csv", 100)
    again.add({"step": 150, "loss": 0.5})
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss", "50,6.25", "100,12.5", "150,0.5"]
    (tmp_path / "log.csv").write_text("ste")  # cut off by a full disk
    Log(tmp_path / "log.csv", 100).add({"step": 150, "loss": 0.5})
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss", "150,0.5"]
    assert duration(61) == "1m01" and duration(7500) == "2h05"
