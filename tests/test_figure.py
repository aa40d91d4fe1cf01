"""`pagnp run --figure`: where things stand, that the panels show the arrays, what is written."""

import json
from itertools import combinations

import numpy as np
import pytest
from cli_folder import HEADS, MULTIPOOL
from PIL import Image

import pagnp
from pagnp import colormaps, figure, figure_layout, figure_legends, legends, modelfile, outputs, panels, pictures
from pagnp.cli import run as run_command
from pagnp.cli.main import main

SIZE = (37, 53)  # no multiple of 8: the masks reach beyond the image
OPTIONS = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0, "seed": 1}
IMAGE = np.random.default_rng(5).integers(0, 256, (*SIZE, 3), np.uint8)
SHAPES = [(160, 208), (240, 320), (320, 240), (1080, 1920), (100, 400), (400, 100), (1, 5000), (5000, 1), (1, 1)]


@pytest.fixture(scope="module")
def graph():
    return pagnp.nn.pag_resnet(gated="all", multipool=MULTIPOOL, heads=HEADS, **OPTIONS)


@pytest.fixture(scope="module")
def result(graph):
    return pagnp.Model(graph, backend="numpy")(IMAGE)


@pytest.fixture(scope="module")
def drawn(graph, result):
    """The figure as an array, and the places of its parts by title."""
    large, small = figure.large_panels(graph, result, IMAGE), figure.mask_panels(graph, result)
    placed, _ = figure.place(large, len(small), SIZE, lines=1)
    places = dict(zip([p.title for p in (*large, *small)], [*placed.panels, *placed.masks], strict=True))
    return np.asarray(figure.draw(graph, result, IMAGE)), places


def cut(picture, box):
    return picture[box.top : box.bottom, box.left : box.right]


def overlap(a, b):
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("masks", [0, 1, 7, 8, 15, 16, 33])
def test_nothing_overlaps_and_all_is_inside(size, masks):
    for count in range(1, 11):
        grid = figure_layout.grid(count, masks, size)
        heights = [0, 52, 156, 100, 46, 26, 400, 0, 98, 52][:count]
        placed = figure_layout.arrange(grid, heights, masks, 52)
        assert (len(placed.panels), len(placed.masks)) == (count, masks)
        margin, right = figure_layout.MARGIN, figure_layout.WIDTH - figure_layout.MARGIN
        boxes = [box for box in figure_layout.parts(placed) if box.width and box.height]
        for box in boxes:
            assert margin <= box.left and box.right <= right
            assert margin <= box.top and box.bottom <= placed.height - margin
        assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
        assert placed.footer.top == max(box.top for box in boxes)


@pytest.mark.parametrize("size", SHAPES)
def test_pictures_have_one_size_within_bounds_and_the_shape_of_the_image(size):
    placed = figure_layout.arrange(figure_layout.grid(6, 9, size), [0] * 6, 9, 26)
    for places, tallest in ((placed.panels, figure_layout.TALLEST), (placed.masks, figure_layout.TALLEST_MASK)):
        assert len({(place.picture.width, place.picture.height) for place in places}) == 1
        w, h = places[0].picture.width, places[0].picture.height
        assert h <= tallest and w <= places[0].title.width
        assert abs(w - h * size[1] / size[0]) <= max(1, size[1] / size[0])  # a pixel of the other side
    assert placed.masks[0].title.width >= figure_layout.NARROWEST_MASK


def test_seven_masks_stand_beside_a_last_row_that_has_room():
    placed = figure_layout.arrange(figure_layout.grid(4, 7, (240, 320)), [0, 150, 50, 80], 7, 26)
    assert placed.group.top == placed.panels[3].title.top
    assert placed.group.left > placed.panels[3].picture.right
    assert placed.masks[3].picture.right == placed.panels[2].picture.right


def test_masks_that_would_tower_over_the_last_row_stand_below_it():
    placed = figure_layout.arrange(figure_layout.grid(4, 33, (240, 320)), [0, 150, 50, 80], 33, 26)
    assert placed.group.top > placed.panels[3].legend.bottom
    assert placed.group.width == figure_layout.WIDTH - 2 * figure_layout.MARGIN
    assert placed.masks[8].picture.right == placed.group.right


def test_panels_show_the_arrays(graph, result, drawn):
    picture, places = drawn
    shape = places["image"].picture.height, places["image"].picture.width
    rows, columns = (np.arange(shape[i]) * SIZE[i] // shape[i] for i in (0, 1))

    def shown(values):
        return values[rows][:, columns]

    depth = shown(result.outputs["depth"])
    want = {
        "depth (m)": pictures.colour_map(depth, *pictures.value_range(result.outputs["depth"]), "viridis"),
        "normals": pictures.normals(shown(result.outputs["normals"])),
        "ponder map: gates computed": colormaps.sample("magma", result.gate_count + 1)[shown(result.ponder)],
        "image": pictures.resize_smooth(IMAGE, *shape),
        "boundary": pictures.resize_smooth(pictures.boundary(result.outputs["boundary"]), *shape)[..., None],
    }
    palette = colormaps.class_palette(3)
    want["labels (segmentation)"] = pictures.overlay(want["image"], shown(result.outputs["labels"]), palette)
    for title, pixels in want.items():
        assert (cut(picture, places[title].picture) == pixels).all(), title
    chosen = result.rates["layer4.1.multipool"]
    colours = colormaps.sample("viridis", 3)[np.searchsorted([0, 1, 2], chosen)]
    got = cut(picture, places["layer4.1: dilation rate chosen"].picture)
    assert (got == colours[rows * chosen.shape[0] // 40][:, columns * chosen.shape[1] // 56]).all()


def test_every_gate_has_its_mask(graph, result, drawn):
    picture, places = drawn
    assert len(graph.gates()) == 7
    for name in graph.gates():
        box, mask = places[name.removesuffix(".gate")].picture, result.masks[name]
        rows = np.arange(box.height) * SIZE[0] // box.height * mask.shape[0] // 40
        columns = np.arange(box.width) * SIZE[1] // box.width * mask.shape[1] // 56
        assert (cut(picture, box) == 255 * mask[rows][:, columns, None]).all(), name
    assert [panel.note for panel in figure.mask_panels(graph, result)] == [
        panels.percent(share) for share in result.kept.values()
    ]


def test_the_same_run_gives_the_same_figure(graph, result, drawn):
    assert np.array_equal(np.asarray(figure.draw(graph, result, IMAGE)), drawn[0])
    assert drawn[0].shape[1] == figure_layout.WIDTH and drawn[0].dtype == np.uint8


def test_facts(graph, result):
    told = dict(figure.facts(graph, result))
    assert told["size"] == "37x53" and told["digest"] == result.digest[:12]
    assert told["work"].split()[1:] == ["of", f"{result.macs['dense'] / 1e9:.3f}", "GMAC"]
    assert told["gated work"].endswith("% kept") and "threshold" not in told
    budget = pagnp.Model(graph, backend="numpy")(IMAGE, budget=0.3)
    assert dict(figure.facts(graph, budget))["threshold"] == f"{budget.thresholds['layer1.0.gate']:g}"


def test_options_in_force_are_facts():
    plain = {"budget": None, "gate_mode": None, "tile": None, "seed": 0, "flip": False, "dense": False}
    assert run_command.settings("folder/m.h5", plain) == [("model", "m.h5")]
    others = {"budget": 0.5, "gate_mode": "soft", "tile": 8, "seed": 3, "flip": True, "dense": True}
    assert run_command.settings("m.h5", others)[1:] == [
        *(("budget", "0.5"), ("gate mode", "soft"), ("tile", "8"), ("seed", "3")),
        *(("flip", "on, work of one pass"), ("dense", "on")),
    ]


def test_depth_without_a_value_is_told():
    values = np.array([[1.0, np.nan, 2.0]], np.float32)
    head = {"name": "depth", "task": "depth"}
    assert panels.depth(head, values).note == "grey: no value" and panels.depth(head, values[:, :1]).note == ""
    assert panels.depth(head, values).paint((1, 6))[0, 2:4].tolist() == [list(pictures.NO_VALUE)] * 2


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1)])
def test_images_of_a_row_or_a_column(graph, size):
    image = np.full((*size, 3), 99, np.uint8)
    drawn = figure.draw(graph, pagnp.Model(graph, backend="numpy")(image), image)
    assert drawn.width == figure_layout.WIDTH


def test_soft_gates_have_no_masks_and_say_so(graph):
    soft = pagnp.Model(graph, backend="numpy")(IMAGE, gate_mode="soft")
    assert [panel.title for panel in figure.large_panels(graph, soft, IMAGE)][1:] == [
        *("labels (segmentation)", "depth (m)", "normals", "boundary")
    ]
    assert figure.mask_panels(graph, soft) == []
    told = dict(figure.facts(graph, soft))
    assert told["soft gates"].startswith("7,") and told["soft MultiPools"].startswith("1,")
    assert figure.draw(graph, soft, IMAGE).width == figure_layout.WIDTH


def test_a_network_without_gates():
    plain = pagnp.nn.pag_resnet(gated=None, heads={"labels": HEADS["labels"]}, **OPTIONS)
    only = pagnp.Model(plain, backend="numpy")(IMAGE)
    assert dict(figure.facts(plain, only))["gates"] == "none"
    assert len(figure.large_panels(plain, only, IMAGE)) == 2
    assert figure.draw(plain, only, IMAGE).width == figure_layout.WIDTH


def test_a_class_of_the_whole_image_is_a_fact():
    g = pagnp.nn.GraphBuilder(channels=3, seed=1)
    logits = g.conv(g.node("global_mean", "input", name="mean"), 2, kernel=1, bias=True, name="classify")
    head = {"name": "what", "task": "classification", "output": "y", "decode": "argmax", "classes": ["cat", "dog"]}
    preprocess = {"kind": "torchvision", "mean": [0.5] * 3, "std": [0.2] * 3, "pad_multiple": 1}
    whole = g.finish({"y": logits}, [{**head, "upsample": {"op": "none"}}], preprocess)
    answer = pagnp.Model(whole, backend="numpy")(IMAGE)
    assert dict(figure.facts(whole, answer))["what"] in ("cat", "dog")
    assert len(figure.large_panels(whole, answer, IMAGE)) == 1
    assert figure.draw(whole, answer, IMAGE).width == figure_layout.WIDTH


@pytest.mark.parametrize("width", [256, 368, 564])
@pytest.mark.parametrize("count", [1, 5, 12, 30, 150])
@pytest.mark.parametrize("longer", ["", " with a name that is long"])
def test_rows_of_a_legend_keep_every_colour(width, count, longer):
    colours = colormaps.class_palette(count)
    names = [f"{i}{longer * (i % 3)}" for i in range(count)]
    strip = figure_legends.strip(legends.Rows([(colours[i], names[i], "< 0.1 %") for i in range(count)]), width)
    assert strip.width == width and strip.height % figure_legends.LINE == 0
    seen = {tuple(colour) for colour in np.asarray(strip).reshape(-1, 3).tolist()}
    shown = count if count <= figure_legends.MOST_ROWS else figure_legends.MOST_ROWS - 1
    assert {tuple(colour) for colour in colours[:shown].tolist()} <= seen


@pytest.mark.parametrize("count", [2, 8, 16, 34, 60])
def test_steps_and_scales_are_bars_of_their_colours(count):
    colours = colormaps.sample("magma", count)
    strip = np.asarray(figure_legends.strip(legends.Steps(colours), 300))
    bar = strip[figure_legends.BAR // 2, 1 : min(300, count * figure_legends.WIDEST_STEP) - 1]
    assert np.array_equal(np.unique(bar, axis=0), np.unique(colours, axis=0))
    strip = np.asarray(figure_legends.strip(legends.Scale(0.5, 0.5 + count, "grey"), 300))
    assert (np.diff(strip[figure_legends.BAR // 2, 1:-1, 0].astype(int)) >= 0).all()


def test_the_key_of_normals_has_their_colours():
    strip = np.asarray(figure_legends.strip(legends.Directions(), 300)).astype(int)
    half, edge = figure_legends.DISC // 2, figure_legends.DISC - 3
    sides = {(half, half): [0, 0, -1], (half, edge): [0.92, 0, -0.4], (edge, half): [0, 0.92, -0.4]}
    for place, vector in sides.items():
        want = pictures.normals(np.array([[vector]]))[0, 0].astype(int)
        assert np.abs(strip[place] - want).max() < 16, (place, vector)


@pytest.mark.parametrize("count", [1, 2, 9, 34, 500])
@pytest.mark.parametrize("each", [5, 30, 90])
def test_numbers_below_a_bar_keep_apart(count, each):
    places = [300 * i / max(1, count - 1) for i in range(count)]
    shown = figure_legends.spread(places, [each] * count, 300)
    middles = [middle for _, middle in shown]
    assert shown and all(b - a >= each + figure_legends.APART for a, b in zip(middles, middles[1:], strict=False))
    assert min(middles) >= each / 2 and max(middles) <= 300 - each / 2


TEXTS = ["", "short", "a\nb", "x" * 300, "caf\udce9.h5", "encoder.stage3.block11.attention.gate", "word " * 99999]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [0, 20, 100, 400])
def test_text_is_cut_to_its_width(text, width):
    got = figure_legends.fitted(text, width)
    assert "\n" not in got and figure_legends.font().getlength(got) <= width
    assert width < 400 or len(text) > 10 or got == text.replace("\n", " ").replace("\udce9", "?")


@pytest.fixture
def call(graph, tmp_path, monkeypatch, capsys):
    """Return a function: options of `pagnp run` -> (exit code, stdout, stderr), with a model and three images."""
    monkeypatch.chdir(tmp_path)
    modelfile.write(graph, "small.h5")
    (tmp_path / "more").mkdir()
    for name in ("one.png", "more/two.png", "more/three.png"):
        Image.fromarray(IMAGE).save(name)

    def run(line):
        code = main(["run", "--weights", "small.h5", "--backend", "numpy", *line.split()])
        return code, *capsys.readouterr()

    return run


SAVED = [
    ("--save figure", ["figure"]),
    ("--save boundary --figure", ["boundary", "figure"]),
    ("--save figure,boundary --figure", ["boundary", "figure"]),
    ("--save boundary", ["boundary"]),
]


@pytest.mark.parametrize("options, kinds", SAVED)
def test_the_flag_adds_a_kind(call, tmp_path, options, kinds):
    code, out, err = call(f"one.png {options} --json")
    assert (code, err) == (0, "")
    files = json.loads(out)["images"][0]["files"]
    assert [tmp_path / file for file in files] == [tmp_path / f"pagnp-out/one.{kind}.png" for kind in kinds]
    assert sorted(path.name for path in (tmp_path / "pagnp-out").iterdir()) == [f"one.{kind}.png" for kind in kinds]


def test_by_default_there_is_none(call, tmp_path):
    assert "figure" not in outputs.DEFAULT_KINDS
    assert call("one.png")[0] == 0 and not list((tmp_path / "pagnp-out").glob("*figure*"))
    assert call("one.png --figure --overwrite")[0] == 0
    all_but_npz = outputs.planned(pagnp.load("small.h5").graph, outputs.KINDS[:-1])
    assert len(list((tmp_path / "pagnp-out").iterdir())) == len(all_but_npz)


def test_a_figure_is_not_overwritten_unasked(call, tmp_path):
    assert call("one.png more --save figure")[0] == 0
    names = ["one.figure.png", "three.figure.png", "two.figure.png"]
    first = {name: (tmp_path / "pagnp-out" / name).read_bytes() for name in names}
    code, out, err = call("one.png --save figure")
    assert (code, out) == (2, "") and "one.figure.png" in err and "--overwrite" in err
    assert call("one.png more --save figure --overwrite")[0] == 0
    assert {name: (tmp_path / "pagnp-out" / name).read_bytes() for name in names} == first
    assert len(set(first.values())) == 1  # the same image three times


RUNS = ["--flip", "--dense", "--tile 8", "--budget 0.5", "--gate-mode soft", "--threshold -1"]


@pytest.mark.parametrize("options", RUNS)
def test_figures_of_other_runs(call, tmp_path, options):
    code, _, err = call(f"one.png --save figure {options}")
    assert (code, err) == (0, "")
    assert Image.open(tmp_path / "pagnp-out/one.figure.png").width == figure_layout.WIDTH
