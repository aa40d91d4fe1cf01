"""examples/train.py: a course that is stopped ends with the same bits, gates start from the dense network, export."""

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the recipe trains with torch")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import train  # noqa: E402
from PIL import Image  # noqa: E402
from training import course as course_module  # noqa: E402
from training.dataset import DataError  # noqa: E402

import pagnp  # noqa: E402
from pagnp.torch.nn import gate_probabilities, gates  # noqa: E402

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
    assert scores["segmentation.pixel_accuracy"] == pytest.approx(
        right, abs=0.005
    )  # torch and pagnp see the same network
    out = capsys.readouterr().out
    assert "segmentation.mean_iou" in out and "keep.layer1.0.gate" in out and "left" in out
    columns = (tmp_path / "pag/log.csv").read_text().splitlines()[0].split(",")
    assert columns[:5] == ["step", "seconds", "loss.segmentation", "loss.segmentation.lovasz", "loss.gates"]


def test_a_teacher_is_the_dense_network_and_takes_part_in_every_step(road, dense, tmp_path, capsys):
    taught = ("--stage", "pag", "--start", str(dense), "--set", "finetune.distill=2.0")
    assert run(road, tmp_path / "whole", *taught) == train.DONE
    while run(road, tmp_path / "stopped", *taught, "--stop-after", "0") == train.STOPPED:
        pass
    first, second = (stored(tmp_path / name)["average"] for name in ("whole", "stopped"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert "loss.segmentation.teacher" in (tmp_path / "whole/log.csv").read_text().splitlines()[0]
    assert run(road, tmp_path / "alone", *taught[:4]) == train.DONE
    assert not torch.equal(stored(tmp_path / "alone")["average"]["conv1.weight"], first["conv1.weight"])
    args = train.parse([str(CONFIGS / "camvid.toml"), "--data", str(road), "--work", str(tmp_path / "new"), *taught])
    args.set = [*SMALL, "finetune.distill=2.0"]
    course = train.prepare(args)
    before = {name: value.clone() for name, value in course.teacher.state_dict().items()}
    assert all(torch.equal(before[name], value) for name, value in stored(dense)["average"].items())
    course.take_step()
    assert all(torch.equal(before[name], value) for name, value in course.teacher.state_dict().items())
    capsys.readouterr()
    assert run(road, tmp_path / "none", "--stage", "pag", "--set", "finetune.distill=2.0") == 1
    assert "finetune.distill needs --start, the dense network that teaches" in capsys.readouterr().err


def test_a_budget_of_work_weighs_each_gate_by_its_multiply_adds(road, dense, tmp_path, capsys):
    gated = ("--stage", "pag", "--rho", "0.5", "--start", str(dense), "--set", 'finetune.budget="work"')
    assert run(road, tmp_path / "work", *gated, "--export", str(tmp_path / "work.h5")) == train.DONE
    args = train.parse([str(CONFIGS / "camvid.toml"), "--data", str(road), "--work", str(tmp_path / "again"), *gated])
    args.set = [*SMALL, 'finetune.budget="work"']
    course = train.prepare(args)
    result = pagnp.load(tmp_path / "work.h5")(np.asarray(Image.open(road / "images/val/0.png")))
    weights, masks = course.budget["weights"], list(result.masks.values())
    assert sum(w * mask.size for w, mask in zip(weights, masks, strict=True)) == result.macs["gated_dense"]
    assert sum(w * mask.sum() for w, mask in zip(weights, masks, strict=True)) == result.macs["gated_executed"]
    with torch.no_grad():
        for name, gate in gates(course.net).items():
            gate.conv.weight.zero_()
            gate.conv.bias.copy_(torch.tensor([0.0, -20.0 if name.startswith("layer4") else 20.0]))
    loss = course.take_step()["loss.gates"]
    costs = dict(zip(gates(course.net), map(float.__mul__, weights, pixels_of_gates(course.net)), strict=True))
    open_ = sum(cost for name, cost in costs.items() if not name.startswith("layer4")) / sum(costs.values())
    want = 0.5 * np.log(0.5 / open_) + 0.5 * np.log(0.5 / (1 - open_))
    assert float(loss) == pytest.approx(want, rel=1e-4) and abs(open_ - 0.5) > 0.05


def pixels_of_gates(net):
    return [float(p.numel()) for p in gate_probabilities(net)]


def test_a_course_learns_and_its_gates_come_to_their_rate(road, dense, tmp_path):
    options = ("--set", "finetune.epochs=60", "--set", "finetune.lr=3e-3", "--set", "finetune.noisy=0.3", "--bf16")
    assert run(road, tmp_path, "--stage", "pag", "--rho", "0.4", "--start", str(dense), *options) == train.DONE
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    first, last = float(rows[0]["loss.segmentation"]), float(rows[-1]["loss.segmentation"])
    assert last < 0.8 * first  # means of 50 steps, and of the 10 after them
    assert 0.2 < float(rows[-1]["keep"]) < 0.65 and float(rows[-1]["loss.gates"]) < float(rows[0]["loss.gates"]) / 2


def test_bfloat16_ends_before_the_course_does(road, dense, tmp_path, monkeypatch):
    seen = []
    options = ("--stage", "pag", "--start", str(dense), "--set", "finetune.epochs=10", "--set", "finetune.exact=0.3")
    real = course_module.task_losses

    def watched(outputs, *rest):
        seen.append(outputs["segmentation"].dtype)
        return real(outputs, *rest)

    monkeypatch.setattr(course_module, "task_losses", watched)
    assert run(road, tmp_path, *options, "--bf16") == train.DONE
    assert seen == [torch.bfloat16] * 7 + [torch.float32] * 3


def test_a_course_goes_on_only_as_it_began(road, dense, tmp_path, capsys):
    pag = ("--stage", "pag", "--start", str(dense), "--set", "finetune.distill=1.0")
    assert run(road, tmp_path / "a", *pag, "--bf16", "--stop-after", "0") == train.STOPPED
    assert run(road, tmp_path / "a", *pag) == 1
    assert "a course whose bf16 was True, now False" in capsys.readouterr().err
    assert run(road, tmp_path / "other", "--seed", "1") == train.DONE
    other = ("--stage", "pag", "--start", str(tmp_path / "other"), "--set", "finetune.distill=1.0", "--bf16")
    assert run(road, tmp_path / "a", *other) == 1
    assert "a course whose teacher was " in capsys.readouterr().err
    assert run(road, tmp_path / "a", *pag, "--evaluate", "val") == train.DONE
    assert "segmentation.mean_iou" in capsys.readouterr().out
    assert run(road, tmp_path / "a", *pag, "--evaluate", "val", "--export", str(tmp_path / "m.h5")) == 1
    assert "m.h5: the course is at step 1 of 2" in capsys.readouterr().err and not (tmp_path / "m.h5").exists()


def test_a_teacher_must_have_learned(road, dense, tmp_path, capsys):
    taught = ("--stage", "pag", "--set", "finetune.distill=2.0", "--start")
    head = ("--set", "heads.segmentation.hidden=[16, 64]")
    assert run(road, tmp_path / "pag", *taught, str(dense), *head) == 1
    assert "which begin with random weights; a teacher must have learned all" in capsys.readouterr().err


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
        (("--device", "meta"), "--device meta: torch does not see it"),
        (("--device", "cuda:99"), "--device cuda:99: torch does not see it"),
        (("--rho", "0.5"), "--rho 0.5: stage dense has no gates"),
        (("--stage", "pag", "--rho", "2"), r"\[finetune\] rho = 2.0; need 0 to 1"),
        (
            ("--set", 'dense.optimizer="sgd"', "--set", "dense.momentum=0.0"),
            "momentum = 0; optimizer sgd is Nesterov's",
        ),
        (("--stage", "skip", "--set", "finetune.batch=1"), "finetune.batch = 1: the gates of stage skip"),
        (
            ("--stage", "skip", "--set", POOL % "hard", "--set", 'finetune.budget="work"'),
            "budget = work is for stage pag",
        ),
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


def test_a_loss_that_is_no_number_spoils_no_checkpoint(road, tmp_path, capsys):
    work = tmp_path / "work"
    assert run(road, work, "--stop-after", "0", "--set", "dense.lr=1e30") == train.STOPPED  # its own loss was fine
    before = stored(work)
    assert before["step"] == 1
    assert run(road, work, "--set", "dense.lr=1e30") == 1
    assert "the loss is no finite number" in capsys.readouterr().err
    after = stored(work)
    assert after["step"] == 1 and all(torch.equal(v, after["net"][k]) for k, v in before["net"].items())


def test_a_course_goes_on_only_from_its_own_start(road, dense, tmp_path, capsys):
    assert run(road, tmp_path / "other", "--seed", "1") == train.DONE
    same = ("--stage", "same", "--start")
    assert run(road, tmp_path / "same", *same, str(dense), "--stop-after", "0") == train.STOPPED
    assert run(road, tmp_path / "same", *same, str(tmp_path / "other")) == 1
    assert "not the weights that this course began with" in capsys.readouterr().err
    assert run(road, tmp_path / "same", "--stage", "same") == train.DONE  # it needs them no more
    capsys.readouterr()
    assert run(road, tmp_path / "other", "--seed", "1", "--start", str(dense)) == 1  # it began with none
    assert "not the weights that this course began with" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_is_one_line(road, tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here, a disk that is always full")
    (tmp_path / "w").mkdir()
    (tmp_path / "w/checkpoint.pt.part").symlink_to("/dev/full")
    assert run(road, tmp_path / "w") == 1
    assert "checkpoint.pt: cannot be written (" in capsys.readouterr().err
    assert not list((tmp_path / "w").glob("checkpoint*"))


def test_scores_need_the_split_that_is_scored_alone(road, dense, tmp_path, capsys):
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "val").symlink_to(road / folder / "val")
    words = ("--evaluate", "val", "--seed", "7", "--set", "dense.epochs=9", "--export", str(tmp_path / "m.h5"))
    assert run(tmp_path / "data", dense, *words) == train.DONE
    assert "segmentation.mean_iou" in capsys.readouterr().out and (tmp_path / "m.h5").exists()


def test_gates_of_pixels_are_no_start_for_gates_of_blocks(road, dense, tmp_path, capsys):
    assert run(road, tmp_path / "pag", "--stage", "pag", "--start", str(dense)) == train.DONE
    assert run(road, tmp_path / "skip", "--stage", "skip", "--start", str(tmp_path / "pag")) == 1
    assert "not the weights of this network: layer1.0.gate.conv.weight" in capsys.readouterr().err


def test_a_log_of_somebody_else_is_not_touched(road, tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("image,head,metric,value\n")
    assert run(road, tmp_path) == 1
    assert "scores.csv: is no log of train.py" in capsys.readouterr().err
    assert (tmp_path / "scores.csv").read_text() == "image,head,metric,value\n"
