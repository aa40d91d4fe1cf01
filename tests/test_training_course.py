"""examples/train.py: a course that is stopped ends with the same bits, gates start from the dense network, export."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the recipe trains with torch")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import train  # noqa: E402
from PIL import Image  # noqa: E402
from training.config import Stage, load  # noqa: E402
from training.dataset import IGNORE, DataError  # noqa: E402
from training.lovasz import lovasz_softmax  # noqa: E402
from training.progress import Log, duration  # noqa: E402
from training.schedule import learning_rate, plan  # noqa: E402
from training.tasks import Scores, class_weights, task_losses  # noqa: E402

import pagnp  # noqa: E402

CONFIGS = Path(train.__file__).parent / "configs"
SMALL = [
    "network.width=0.125",
    "network.depth=26",
    "augment.crop=[32, 40]",
    "dense.epochs=3",
    "dense.batch=4",
    "finetune.epochs=2",
    "finetune.batch=4",
]


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """Pictures of two halves whose colours tell the class."""
    root = tmp_path_factory.mktemp("road")
    rng = np.random.default_rng(1)
    for split, count in (("train", 4), ("val", 2)):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for k in range(count):
            labels = np.where(np.arange(60)[:, None] < 20 + 5 * k, 0, 3).repeat(64, 1).astype(np.uint8)
            image = np.uint8([[90, 120, 230], [0] * 3, [0] * 3, [110, 90, 80]])[labels]
            image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / f"images/{split}/{k}.png")
            Image.fromarray(labels).save(root / f"labels/{split}/{k}.png")
    return root


def run(road, work, *more):
    """Call the script as a person would; return its exit code."""
    changes = [part for change in SMALL for part in ("--set", change)]
    threads = ("--threads", str(torch.get_num_threads()))  # other tests share this process
    given = ["--data", str(road), "--work", str(work), *threads]
    return train.main([str(CONFIGS / "camvid.toml"), *given, *changes, *more])


def stored(work):
    return torch.load(work / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def dense(road, tmp_path_factory):
    """The folder of a finished dense course."""
    work = tmp_path_factory.mktemp("dense")
    assert run(road, work) == train.DONE
    return work


def test_stopped_and_taken_up_is_the_same_as_run_through(road, dense, tmp_path):
    calls = 0
    while (code := run(road, tmp_path / "stopped", "--stop-after", "0", "--ahead", "2")) == train.STOPPED:
        calls += 1
    assert code == train.DONE and calls == 2  # every call takes one of the three steps
    first, second = stored(dense), stored(tmp_path / "stopped")
    assert first["step"] == second["step"] == 3
    for name, value in first["average"].items():
        assert torch.equal(value, second["average"][name]), name
    with pytest.raises(DataError, match="a course with steps 3, not 2; choose another --work"):
        args = train.parse([str(CONFIGS / "camvid.toml"), "--data", str(road), "--work", str(dense)])
        args.set = [*SMALL, "dense.epochs=2"]
        train.prepare(args)


def test_gates_start_from_the_dense_network_and_the_model_runs_in_pagnp(road, dense, tmp_path, capsys):
    gated = ("--stage", "pag", "--rho", "0.5", "--start", str(dense))
    args = train.parse([str(CONFIGS / "camvid.toml"), "--data", str(road), "--work", str(tmp_path / "pag"), *gated])
    args.set = SMALL
    course = train.prepare(args)
    given, own = stored(dense)["average"], course.net.state_dict()
    assert all(torch.equal(own[name], value) for name, value in given.items())
    assert {name.split(".")[2] for name in own.keys() - given.keys()} == {"gate"}
    assert run(road, tmp_path / "pag", *gated, "--export", str(tmp_path / "pag.h5")) == train.DONE
    model = pagnp.load(tmp_path / "pag.h5")
    result = model(np.asarray(Image.open(road / "images/val/0.png")))
    assert result.outputs["segmentation"].shape == (60, 64) and len(result.masks) == 8
    scores = train.prepare(args).score(train.READERS["camvid"](road, "val"))
    labels = [np.asarray(Image.open(road / f"labels/val/{k}.png")) for k in range(2)]
    found = [model(np.asarray(Image.open(road / f"images/val/{k}.png"))).outputs["segmentation"] for k in range(2)]
    right = np.mean([f == label for f, label in zip(found, labels, strict=True)])
    assert scores["segmentation.accuracy"] == pytest.approx(right, abs=0.005)  # torch and pagnp see the same network
    out = capsys.readouterr().out
    assert "segmentation.miou" in out and "keep.layer1.0.gate" in out and "left" in out
    columns = (tmp_path / "pag/log.csv").read_text().splitlines()[0].split(",")
    assert columns[:5] == ["step", "seconds", "loss.segmentation", "loss.segmentation.lovasz", "loss.gates"]


POOL = 'network.multipool={block="layer4.1", rates=[0, 1, 4], mode="%s", hidden=[8, 8]}'
RIVALS = {
    "skip": ("--stage", "skip", "--rho", "0.5"),
    "truncate": ("--stage", "truncate", "--set", "network.truncate=2"),
    "hard multipool": ("--stage", "multipool", "--set", POOL % "hard"),
    "soft multipool": ("--stage", "multipool", "--set", POOL % "soft"),
    "same": ("--stage", "same", "--in-memory"),
}


@pytest.mark.parametrize("rival", RIVALS)
def test_what_pag_is_compared_with_starts_from_the_dense_network_and_runs_in_pagnp(road, dense, tmp_path, rival):
    options = ("--start", str(dense), *RIVALS[rival])
    assert run(road, tmp_path, *options, "--export", str(tmp_path / "m.h5")) == train.DONE
    first = stored(dense)["average"]
    names, given = set(stored(tmp_path)["average"]), set(first)
    blocks = {name.rsplit(".", 1)[0] for name in given - names}
    if rival == "skip":
        assert given < names and {name.split(".")[2] for name in names - given} == {"gate"}
    elif rival == "truncate":
        assert {name.split(".")[0] for name in blocks} == {"layer4"} and not names - given
    elif rival != "same":
        assert blocks == {"layer4.1.conv2", "layer4.1.bn2"}
    model = pagnp.load(tmp_path / "m.h5")
    image = np.asarray(Image.open(road / "images/val/0.png"))
    result = model(image)
    assert result.outputs["segmentation"].shape == (60, 64)
    assert model(image, dense=True).digest == result.digest
    assert len(result.masks) == (8 if rival == "skip" else 0)
    assert set(result.rates) == ({"layer4.1.multipool"} if rival == "hard multipool" else set())
    full = sum(entry["dense"] for entry in model(image, dense=True).macs["layers"].values())
    assert result.macs["executed"] <= full


@pytest.mark.parametrize(("mode", "trained"), [("hard", "gumbel_hard"), ("soft", "soft")])
def test_a_multipool_beside_gates_is_trained_as_it_will_be_used(road, tmp_path, mode, trained):
    words = [str(CONFIGS / "camvid.toml"), "--data", str(road), "--work", str(tmp_path), "--stage", "pag"]
    args = train.parse(words)
    args.set = [*SMALL, POOL % mode]
    course = train.prepare(args)
    course.take_step()
    assert course.net.layer4[1].multipool.unit.train_mode == trained
    assert course.net.layer1[0].gate.unit.train_mode == "gumbel_hard"


@pytest.mark.parametrize("stage", ["pag", "skip", "truncate", "multipool", "same"])
def test_a_config_with_a_multipool_can_be_exported_at_every_stage(road, tmp_path, stage):
    words = [str(CONFIGS / "camvid.toml"), "--data", str(road), "--work", str(tmp_path), "--stage", stage]
    args = train.parse(words)
    args.set = [*SMALL, POOL % "hard"]
    train.export_model(train.prepare(args), tmp_path / "m.h5")
    assert bool(pagnp.load(tmp_path / "m.h5").graph.multipools()) == (stage != "truncate")


def test_a_skipped_block_costs_nothing_and_is_the_shortcut(road, dense, tmp_path):
    args = train.parse(
        [
            str(CONFIGS / "camvid.toml"),
            "--data",
            str(road),
            "--work",
            str(tmp_path / "skip"),
            *RIVALS["skip"],
            "--start",
            str(dense),
        ]
    )
    args.set = SMALL
    course = train.prepare(args)
    with torch.no_grad():
        for block in course.average.layer4:
            block.gate.conv.bias.copy_(torch.tensor([50.0, -50.0]))
    train.export_model(course, tmp_path / "m.h5")
    result = pagnp.load(tmp_path / "m.h5")(np.asarray(Image.open(road / "images/val/0.png")))
    layers = {name: entry["executed"] for name, entry in result.macs["layers"].items() if name.startswith("layer4")}
    assert {name for name, macs in layers.items() if macs and ".gate." not in name} == {"layer4.0.downsample.1"}, layers


def test_a_start_that_is_not_all_there_is_told(road, dense, tmp_path, capsys):
    same = ("--stage", "same", "--set", "finetune.epochs=1", "--start")
    assert run(road, tmp_path / "one", *same, str(dense)) == train.DONE
    assert "note: " not in capsys.readouterr().err
    assert run(road, tmp_path / "half", "--stop-after", "0") == train.STOPPED
    head = ("--set", "heads.segmentation.hidden=[16, 64]")
    assert run(road, tmp_path / "two", *same, str(tmp_path / "half"), *head) == train.DONE
    err = capsys.readouterr().err
    assert "half/checkpoint.pt: from a course at step 1 of 3" in err
    assert "does not have heads.segmentation.conv1, heads.segmentation.bn1" in err


def test_a_wrong_start_is_refused(road, dense, tmp_path, capsys):
    wider = ("--set", "network.width=0.25", "--stage", "pag", "--start", str(dense))
    assert run(road, tmp_path / "wide", *wider) == 1
    assert "not the weights of this network: " in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_configs_are_complete(path):
    config = load(path)
    assert set(config.stages) == {"dense", "finetune"} and config.heads
    for name, stage in config.stages.items():
        assert plan(0.0, stage, name == "finetune").lr < stage.lr and plan(1.0, stage, True).mode == "hard"


def test_slips_in_a_config_are_errors(tmp_path):
    for text, message in (
        ('dataset = "camvit"', "choose one of camvid, bsds, rooms"),
        ('dataset = "camvid"\n[network]\nwidht = 1', r"\[network\] has no widht"),
        ('dataset = "camvid"\n[augment]\ncrop=[8, 8]\n[dense]\nepochs = 1', r"\[dense\] .*missing.*'lr'"),
    ):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(DataError, match=message):
            load(tmp_path / "c.toml")
    with pytest.raises(DataError, match="--set network.width=wide: wide is no TOML value"):
        load(CONFIGS / "camvid.toml", ["network.width=wide"])


def test_values_of_another_kind_are_errors():
    for change, message in (
        ("network.truncate=1.5", r"\[network\] truncate = 1.5; need int"),
        ('dense.lr="fast"', r"\[dense\] lr = 'fast'; need float"),
        ("dense.epochs=0", "epochs = 0; need more than 0"),
        ('dense.schedule="cosinus"', "schedule = 'cosinus'; choose cosine or poly"),
        ("augment.crop=[8]", r"crop = \(8,\); need tuple"),
        ("dense.lr.x=1", "dense.lr is no table"),
        ("network=3", r"network = 3; need a table \[network\]"),
        ("heads=3", r"heads = 3; need a table \[heads\]"),
        ("heads.segmentation=3", r"heads.segmentation = 3; need a table"),
        ("augment.scale=[0.0, 1.0]", r"scale = \(0.0, 1.0\); need more than 0"),
        ("dense.weights={depth=1.0}", r"\[dense\] weights: there is no head depth"),
        ('heads.n={task="normals"}', "turns pictures, but not the normals in them"),
        ('train_split="test"', "train_split = 'test'; choose train or trainval, never the test"),
    ):
        with pytest.raises(DataError, match=message):
            load(CONFIGS / "camvid.toml", [change])
    assert load(CONFIGS / "camvid.toml", ["dense.lr=1"]).stages["dense"].lr == 1


def test_a_course_does_not_go_on_with_other_settings(road, dense, tmp_path, capsys):
    work = tmp_path / "pag"
    rate = ("--stage", "pag", "--start", str(dense), "--rho", "0.5")
    assert run(road, work, *rate) == 0
    capsys.readouterr()
    assert run(road, work, *rate[:-1], "0.9", "--export", str(tmp_path / "m.h5")) == 1
    assert "finetune.rho was 0.5, now 0.9; go on with its own" in capsys.readouterr().err
    assert not (tmp_path / "m.h5").exists()
    assert run(road, work, *rate[:-1], "0.9", "--evaluate", "val") == 0  # which it does not depend on
    assert run(road, work, *rate, "--evaluate", "val", "--set", "network.width=0.25") == 1
    assert "the weights of another network" in capsys.readouterr().err
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    del state["config"]
    torch.save(state, work / "checkpoint.pt")
    assert run(road, work, *rate) == 0  # a checkpoint of old


def test_the_model_may_go_into_the_folder_of_the_course(road, tmp_path):
    assert run(road, tmp_path / "new", "--set", "dense.epochs=1", "--export", str(tmp_path / "new/m.h5")) == train.DONE
    assert (tmp_path / "new/m.h5").exists()


def test_what_cannot_end_well_does_not_begin(road, dense, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for more, message in (
        (("--export", str(tmp_path / "no/m.h5")), "--export .*/no/m.h5: there is no folder"),
        (("--export", str(tmp_path)), "--export .*: need the name of a file"),
        (("--device", "abacus"), "--device abacus: torch does not see it"),
        (("--stage", "pag", "--start", str(file.parent)), "checkpoint.pt"),
    ):
        assert run(road, tmp_path / "work", *more) == 1
        assert re.search(message, capsys.readouterr().err)
        assert not (tmp_path / "work/log.csv").exists()
    assert run(road, file, "--stage", "dense") == 1
    assert run(road, tmp_path / "none", "--evaluate", "val") == 1 and not (tmp_path / "none").exists()
    (tmp_path / "work/checkpoint.pt").write_bytes(b"no checkpoint")
    capsys.readouterr()
    assert run(road, tmp_path / "work") == 1
    assert "checkpoint.pt: is damaged or no checkpoint" in capsys.readouterr().err


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
    assert found["seg.miou"] == found["seg.accuracy"] == found["far.delta"] == found["turn.in11"] == 1
    assert found["edge.quick_f"] == 1 and found["far.abs_rel"] < 1e-6 and found["turn.degrees"] < 0.1


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
    assert found["far.abs_rel"] == pytest.approx(0.1, abs=1e-5) and found["turn.degrees"] > 179
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
    (tmp_path / "log.csv").write_text("other,columns\nno number,0\n")  # of no course, or cut off by a full disk
    Log(tmp_path / "log.csv", 100).add({"step": 150, "loss": 0.5})
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss", "150,0.5"]
    assert duration(61) == "1m01" and duration(7500) == "2h05"
