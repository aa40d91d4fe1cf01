"""examples/configs: the configs are complete, and a slip in one of them is an error that says what is wrong."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the recipe trains with torch")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from training.config import changed, load, settings  # noqa: E402
from training.dataset import DataError  # noqa: E402
from training.schedule import plan  # noqa: E402

CONFIGS = Path(__file__).resolve().parent.parent / "examples" / "configs"


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
        ('heads.d={task="depth"}', r"\[heads.d\] task = 'depth'; camvid has truths for segmentation"),
        ("augment.scale=[2.0, 1.0]", r"scale = \(2.0, 1.0\); need the smaller one first"),
        ("augment.scale=[0.5, inf]", r"scale = \(0.5, inf\); need more than 0"),
        ("dense.decay=-1.0", r"decay = -1.0; need 0 or more"),
        ("dense.clip=-1.0", r"clip = -1.0; need more than 0"),
        ("dense.warmup=-0.1", r"warmup = -0.1; need 0 to 1"),
        ("finetune.rho=2.0", r"rho = 2.0; need 0 to 1"),
        ('finetune.sparsity_form="kl2"', "sparsity_form = 'kl2'; choose kl or kl_doubled or mild"),
        ('dense.weights={segmentation="x"}', r"weights = .*; need dict"),
        ('train_split="test"', "train_split = 'test'; choose train or trainval, never the test"),
    ):
        with pytest.raises(DataError, match=message):
            load(CONFIGS / "camvid.toml", [change])
    for change in ("augment.degrees=5.0", "augment.quarters=true"):
        with pytest.raises(DataError, match="turns pictures, but not the normals in them"):
            load(CONFIGS / "rooms.toml", [change])
    assert load(CONFIGS / "camvid.toml", ["dense.lr=1"]).stages["dense"].lr == 1


def test_one_task_alone(tmp_path):
    changes = ['heads={depth={task="depth", hidden=[64, 32], unit="m"}}', "dense.weights={}", "finetune.weights={}"]
    assert set(load(CONFIGS / "rooms.toml", changes).heads) == {"depth"}


def test_a_setting_newer_than_a_checkpoint_had_its_default():
    old = settings(load(CONFIGS / "camvid.toml"), "finetune")
    del old["finetune.distill"]
    new = settings(load(CONFIGS / "camvid.toml", ["finetune.distill=2.0", "finetune.rho=0.5"]), "finetune")
    told = {"finetune.rho was 0.7, now 0.5", "finetune.distill was 0.0, now 2.0"}
    assert set(changed(old, new, "finetune")) == told
    assert changed({}, new, "finetune") == []  # a checkpoint of old tells nothing


def test_what_a_head_says_is_what_the_recipe_trains():
    for change, message in (
        ('heads.depth.decode="exp10"', r"\[heads.depth\] has no decode; it takes task, hidden, unit"),
        ('heads.depth.upsample={op="bilinear_deconv", factor=8}', r"\[heads.depth\] has no upsample"),
        ("heads.depth.hidden=5", "hidden = 5; need list"),
        ("heads.depth.unit=3", "unit = 3; need str"),
        ("dense.weights={depth=nan}", "weights = .*; need finite numbers"),
        ("network.gate_bias=nan", "gate_bias = nan; need finite numbers"),
        ('dataset=["rooms"]', r"dataset = \['rooms'\]; choose one of"),
        ('train_split=["train"]', r"train_split = \['train'\]; choose"),
    ):
        with pytest.raises(DataError, match=message):
            load(CONFIGS / "rooms.toml", [change])
