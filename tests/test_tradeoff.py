"""examples/tradeoff: models are measured once, tables and plots tell what was measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "tradeoff"
sys.path.insert(0, str(FOLDER))

import chart  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402

import pagnp  # noqa: E402
from pagnp.evaluate.evaluation import evaluate  # noqa: E402
from pagnp.evaluate.layouts import open_truth  # noqa: E402

MODEL = FOLDER.parent / "models" / "rooms-seg.h5"
FAMILY = """
head = "segmentation"
score = "mean_iou"
layout = "folders"
split = "test"
[[series]]
name = "plain"
models = ["rooms-seg"]
[[series]]
name = "with a budget"
models = ["rooms-seg"]
budgets = [0.8, 0.2]
[[series]]
name = "later"
models = ["not-yet"]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a family, ground truth of one image (what the model says, but for a stripe), and the model."""
    root = tmp_path_factory.mktemp("tradeoff")
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (64, 80, 3), np.uint8)
    labels = np.array(pagnp.load(MODEL)(image).outputs["segmentation"], np.uint8)
    labels[:, :20] = (labels[:, :20] + 1) % 12
    for kind, pixels in (("images", image), ("labels", labels)):
        (root / "data" / kind / "test").mkdir(parents=True)
        Image.fromarray(pixels).save(root / "data" / kind / "test" / "a.png")
    (root / "models").mkdir()
    (root / "models/rooms-seg.h5").write_bytes(MODEL.read_bytes())
    (root / "family.toml").write_text(FAMILY)
    return root


def words(root, family="family.toml"):
    return [
        str(root / family),
        "--models",
        str(root / "models"),
        "--data",
        str(root / "data"),
        "--out",
        str(root / "f.json"),
    ]


def test_each_row_is_measured_once_and_what_is_missing_is_told(place, capsys):
    assert measure.main(words(place)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "rooms-seg",
        "rooms-seg --budget 0.8",
        "rooms-seg --budget 0.2",
    ]
    assert lines[-1] == "not there yet: not-yet.h5"
    known = json.loads((place / "f.json").read_text())
    truth = open_truth(place / "data", "folders", "test")
    again = evaluate(pagnp.load(MODEL), truth, budget=0.2)
    assert (
        known["rooms-seg --budget 0.2"]["heads"]["segmentation"]["mean_iou"] == again.heads["segmentation"]["mean_iou"]
    )
    assert known["rooms-seg --budget 0.2"]["work"]["macs"] == again.work["macs"]
    assert known["rooms-seg"]["work"]["digest"] != again.work["digest"]
    assert measure.main(words(place)) == 1
    assert capsys.readouterr().out == "not there yet: not-yet.h5\n"


def test_wrong_data_is_one_line(place, capsys):
    given = words(place)
    given[given.index("--data") + 1] = str(place / "nowhere")
    given[given.index("--out") + 1] = str(place / "g.json")
    assert measure.main(given) == 2
    assert capsys.readouterr().err.startswith("measure.py: ") and not (place / "g.json").exists()


def test_other_images_are_measured_anew(place, tmp_path, capsys):
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind / "test").mkdir(parents=True)
        content = np.asarray(Image.open(place / "data" / kind / "test/a.png"))
        Image.fromarray(np.ascontiguousarray(content[:, ::-1])).save(tmp_path / "data" / kind / "test/a.png")
    given = words(place)
    given[given.index("--out") + 1] = str(tmp_path / "f.json")
    assert measure.main(given) == 1
    first = json.loads((tmp_path / "f.json").read_text())
    given[given.index("--data") + 1] = str(tmp_path / "data")
    assert measure.main(given) == 1
    second = json.loads((tmp_path / "f.json").read_text())
    assert all(second[key]["work"]["digest"] != first[key]["work"]["digest"] for key in first)
    capsys.readouterr()
    (tmp_path / "x.toml").write_text(FAMILY.replace("mean_iou", "rmze"))
    assert measure.main([str(tmp_path / "x.toml"), *given[1:]]) == 2  # of what is measured already, too
    assert "rooms-seg.h5: no rmze of head 'segmentation', but" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"report.py: rooms-seg.h5: no rmze of head 'segmentation'"):
        report.main([str(tmp_path / "x.toml"), str(tmp_path / "f.json"), "--title", "t"])


def test_wrong_files_are_one_line(place, tmp_path, capsys):
    given = words(place)
    for text, message in (
        ("x =", "x.toml: is no family"),
        ('head = "a"', "x.toml: is no family"),
        ("series = []", "x.toml: is no family of models (a series without models)"),
        (
            FAMILY.replace("[0.8, 0.2]", '["0.8"]'),
            "x.toml: is no family of models (model 'rooms-seg' with budget '0.8')",
        ),
        (FAMILY.replace("mean_iou", "ods"), "rooms-seg.h5: no ods of head 'segmentation', but segmentation"),
    ):
        (tmp_path / "x.toml").write_text(text)
        assert measure.main([str(tmp_path / "x.toml"), *given[1:-1], str(tmp_path / "g.json")]) == 2
        err = capsys.readouterr().err
        assert err.startswith("measure.py: ") and message in err and not (tmp_path / "g.json").exists()
    for text in ("{", "[]", '{"rooms-seg": {}}', '{"rooms-seg": 3}'):
        (tmp_path / "g.json").write_text(text)
        assert measure.main([*given[:-1], str(tmp_path / "g.json")]) == 2
        assert "g.json: is not what measure.py writes" in capsys.readouterr().err


def test_a_table_without_its_first_row_is_refused(place, tmp_path):
    for text, message in (
        ("{}", "report.py: rooms-seg is not measured"),
        ('{"rooms-seg": {}}', "m.json: is not what measure.py writes .an entry without hash"),
        ("[", "m.json: is not what"),
    ):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(SystemExit, match=message):
            report.main([str(place / "family.toml"), str(tmp_path / "m.json"), "--title", "t"])


def test_tables_and_plots_tell_what_was_measured(place, capsys):
    if not (place / "f.json").exists():
        measure.main(words(place))
        capsys.readouterr()
    (place / "doc.md").write_text("before\n<!-- tradeoff family -->\nold\n<!-- end -->\nafter\n")
    given = [str(place / "family.toml"), str(place / "f.json"), "--title", "Noise", "--plot", str(place / "f.svg")]
    report.main(given)
    shown = capsys.readouterr().out
    assert shown.count("\n") == 5 and "later" not in shown
    entry = json.loads((place / "f.json").read_text())["rooms-seg"]
    value = entry["heads"]["segmentation"]["mean_iou"]
    assert f"| plain: `rooms-seg` | {100 * value:.2f} % | +0.00 |" in shown and "| 100.0 % |" in shown
    report.main([*given, "--into", str(place / "doc.md")])
    assert (place / "doc.md").read_text() == f"before\n<!-- tradeoff family -->\n{shown}<!-- end -->\nafter\n"
    svg = (place / "f.svg").read_text()
    assert "with a budget" in svg and "later" not in svg and svg.count("<circle") == 3  # two points, one in the legend
    shares = [e["heads"]["segmentation"]["mean_iou"] for e in json.loads((place / "f.json").read_text()).values()]
    (place / "high.toml").write_text(f"plot_from = {100 * max(shares)}\n{FAMILY}")
    report.main([str(place / "high.toml"), *given[1:]])
    drawn = (place / "f.svg").read_text()
    assert drawn.count("<circle") < 3 and "Noise" in drawn
    (place / "high.toml").write_text(f"plot_from = 101\n{FAMILY}")
    with pytest.raises(SystemExit, match="plot_from = 101: every score is lower"):
        report.main([str(place / "high.toml"), *given[1:]])
    with pytest.raises(SystemExit, match="no lines <!-- tradeoff family --> and <!-- end -->"):
        report.put_between("nothing", "family", shown)


def test_points_lie_where_their_numbers_say():
    series = [chart.Series("one", ((50.0, 1.0),)), chart.Series("two", ((0.0, 0.0), (100.0, 2.0)))]
    shapes, width, height = chart.chart("t", "x", "y", series)
    dots = [shape for shape in shapes if isinstance(shape, chart.Dot)]
    one, _, low, high, _ = (dot.at for dot in dots)
    assert one == pytest.approx(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2))
    assert low[0] < high[0] and low[1] > high[1] and all(0 < x < width and 0 < y < height for x, y in (low, high))
    assert chart.spread([3.0]) == (1.5, 4.5)


PYTHON = """#!/bin/sh
# In the place of Python: note the options and make the model file, or fail as asked.
while [ $# -gt 1 ]; do printf '%s\\t' "$1"; [ "$1" = --export ] && model=$2; shift; done >> "$CALLS"
printf '%s\\n' "$1" >> "$CALLS"
[ -z "${CODE:-}" ] || { echo "why it failed"; exit "$CODE"; }
: > "$model"
"""


def trained(family, root, code=""):
    """Call train.sh with such a Python; return (exit code, stderr, the options of each call)."""
    (root / "python").write_text(PYTHON)
    (root / "python").chmod(0o755)
    (root / "calls").write_text("")
    call = ["sh", FOLDER / "train.sh", family, "DATA", "DENSE", root / "models", "--threads", "3"]
    environment = {**os.environ, "PYTHON": str(root / "python"), "CALLS": str(root / "calls"), "CODE": code}
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    return done.returncode, done.stderr, [line.split("\t") for line in (root / "calls").read_text().splitlines()]


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
@pytest.mark.parametrize("family", ("camvid", "bsds"))
def test_all_of_a_family_are_trained_alike_but_for_what_is_compared(family, tmp_path):
    code, _, calls = trained(family, tmp_path)
    assert code == 0
    asked = {row.model for row in measure.rows_of(measure.load_family(FOLDER / f"{family}.toml"))}
    assert {path.stem for path in (tmp_path / "models").glob("*.h5")} == asked - {f"{family}-dense"}
    own = ("--work", "--stage", "--export", "--rho")  # and --set network. ...
    common = set()
    for options in calls:
        pairs = list(zip(options, options[1:], strict=False))
        assert not any(value.startswith("finetune.") for _, value in pairs)
        skip = {value for name, value in pairs if name in own or value.startswith("network.")}
        common.add(tuple(word for word in options if word not in skip and word not in own and word != "--set"))
    assert len(calls) == 19 and len(common) == 1 and "--threads" in next(iter(common))
    assert trained(family, tmp_path)[2] == []  # all are there
    (tmp_path / "models" / f"{family}-skip60.h5").unlink()
    code, err, calls = trained(family, tmp_path, "1")
    assert code == 1 and "why it failed" in err and len(calls) == 1
    code, err, _ = trained(family, tmp_path, "3")
    assert (code, err) == (3, "stopped; the same command goes on\n")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_families_are_complete(path):
    family = measure.load_family(path)
    models = {row.model for row in measure.rows_of(family)}
    assert family.split == "test" and {name.split("-")[0] for name in models} == {path.stem}
    assert {f"{path.stem}-pag{rate}" for rate in (30, 50, 70, 90)} < models
    assert measure.key_of(measure.Row("a", 0.5)) == "a --budget 0.5"
