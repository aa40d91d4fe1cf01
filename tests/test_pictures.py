"""Pictures and legends: exact pixels where a value has one colour, sizes and readability where not."""

import numpy as np
import pytest
from PIL import Image

from pagnp import colormaps, legends, pictures

LABELS = np.array([[0, 0, 1], [2, 2, 1]], np.uint8)
PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0]], np.uint8)


def test_label_image_is_indexed_and_keeps_the_values():
    picture = pictures.label_image(LABELS, PALETTE)
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), LABELS)
    assert np.array_equal(np.asarray(picture.convert("RGB")), PALETTE[LABELS])


def test_label_image_beyond_256_classes_is_16_bit():
    labels = np.array([[0, 300]], np.int32)
    picture = pictures.label_image(labels, np.zeros((301, 3), np.uint8))
    assert picture.mode == "I;16"
    assert np.array_equal(np.asarray(picture), labels)


def test_overlay_tints_and_darkens_edges():
    image = np.full((2, 3, 3), 100, np.uint8)
    out = pictures.overlay(image, LABELS, PALETTE, opacity=0.5)
    assert out.dtype == np.uint8 and out.shape == image.shape
    assert out[0, 0].tolist() == [55, 60, 65]
    assert (out[0, 2] < out[0, 0].max()).all()  # a label changes here


def test_present_classes_are_sorted_by_area():
    assert pictures.present_classes(np.array([[1, 1, 1, 0]])) == [(1, 0.75), (0, 0.25)]


DEPTHS = [
    ("m", [0.0, 1.0, 1.2347, 65.535], 0.001, [0, 1000, 1235, 65535]),
    ("m", [0.0, 131.07], 131.07 / 65535, [0, 65535]),
    (None, [0.0, 0.5, 1.0], 1 / 65535, [0, 32768, 65535]),
    ("m", [np.nan, np.inf, -1.0, 2.0], 0.001, [0, 0, 0, 2000]),
    ("m", [np.nan, np.nan], 0.001, [0, 0]),
]


@pytest.mark.parametrize("unit, depth, step, want", DEPTHS)
def test_depth_u16(unit, depth, step, want):
    steps, got_step = pictures.depth_u16(np.array([depth], np.float32), unit)
    assert steps.dtype == np.uint16
    assert got_step == pytest.approx(step, rel=1e-6)
    assert steps[0].tolist() == want


@pytest.mark.parametrize(
    "vector, colour",
    [([0, 0, 1], [128, 128, 255]), ([-1, 0, 0], [0, 128, 128]), ([np.nan, 1, -1], [0, 255, 0])],
)
def test_normals(vector, colour):
    assert pictures.normals(np.array([[vector]], np.float32))[0, 0].tolist() == colour


def test_boundary_and_mask_are_grey():
    values = np.array([[0, 0.5, 1, np.nan, np.inf, -np.inf, -3e38]], np.float32)
    with np.errstate(all="raise"):
        assert pictures.boundary(values).tolist() == [[0, 128, 255, 0, 255, 0, 0]]
    assert pictures.mask(np.array([[True, False]])).tolist() == [[255, 0]]


def test_colour_map_ends_and_missing_values():
    out = pictures.colour_map(np.array([[0.0, 1.0, 7.0, np.nan]], np.float32), 0.0, 1.0, "viridis")
    first, last = colormaps.TABLES["viridis"][[0, -1]].tolist()
    assert out[0].tolist() == [first, last, last, list(pictures.NO_VALUE)]


@pytest.mark.parametrize("values", [[[1.0, 1.0]], [[np.nan, np.inf]], [[0.0, 0.0]], [[-3e38, 3e38]]])
def test_value_range_is_never_empty(values):
    low, high = pictures.value_range(np.array(values, np.float32))
    assert low < high
    assert pictures.colour_map(np.array(values, np.float32), low, high, "magma").dtype == np.uint8


def test_counts_and_categories_give_each_value_its_own_colour():
    picture, colours = pictures.counts(np.array([[0, 1, 2, 3]]), 3)
    assert len({tuple(c) for c in colours.tolist()}) == 4
    assert np.array_equal(picture[0], colours)
    picture, colours = pictures.categories(np.array([[4, 0, 9]]), [0, 4])
    assert picture[0].tolist() == [colours[1].tolist(), colours[0].tolist(), list(pictures.NO_VALUE)]


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 3), (64, 48)])
def test_resize_nearest_keeps_corners(size):
    array = np.arange(6).reshape(2, 3)
    out = pictures.resize_nearest(array, *size)
    assert out.shape == size
    assert out[0, 0] == 0 and (min(size) < 3 or out[-1, -1] == 5)


@pytest.mark.parametrize("size", [(1, 1), (9, 30), (40, 40), (641, 479), (1300, 90)])
def test_resize_smooth_keeps_the_mean(size):
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    for shown in ((10, 8), (64, 64)):
        small = pictures.resize_smooth(picture, *shown)
        assert small.shape == (*shown, 3) and small.dtype == np.uint8
        assert np.abs(small.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 12
        assert np.array_equal(pictures.resize_smooth(picture[..., 0], *shown), small[..., 0])
    assert pictures.resize_smooth(picture, *size) is picture


def test_class_palette_is_distinct_and_stable():
    palette = colormaps.class_palette(64)
    assert len(np.unique(palette, axis=0)) == 64
    assert np.array_equal(colormaps.class_palette(8), palette[:8])
    assert colormaps.class_palette(0).shape == (0, 3)


def packed(colours):
    """RGB as one integer a pixel."""
    return colours.astype(np.int64) @ [65536, 256, 1]


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (240, 320), (700, 500)])
@pytest.mark.parametrize("rows", [1, 12, 150])
def test_legend_rows_fit_on_the_canvas(shape, rows):
    picture = np.full((*shape, 3), 7, np.uint8)
    colours = colormaps.class_palette(rows)
    out = legends.with_rows(picture, [(colours[i], f"class {i}") for i in range(rows)], "title")
    seen = set(packed(np.asarray(out)).ravel().tolist())
    assert isinstance(out, Image.Image) and out.mode == "RGB"
    assert set(packed(colours).tolist()) <= seen
    assert np.asarray(out)[0, 0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.35, 9.7), (-2.0, -1.9), (0, 3e5), (1e-9, 2e-9), (4.0, 4.004)])
def test_ticks_are_round_inside_and_distinct(low, high):
    marks = legends.ticks(low, high)
    assert 2 <= len(marks) <= 9
    assert all(low - 1e-6 * (high - low) <= mark <= high + 1e-6 * (high - low) for mark in marks)
    assert len({legends.mark_text(mark, marks) for mark in marks}) == len(marks)
    out = legends.with_scale(np.zeros((40, 30, 3), np.uint8), low, high, "viridis", "depth (m)")
    assert out.size[0] > 320 * 30 // 40


@pytest.mark.parametrize("name", ["viridis", "magma", "grey"])
def test_tables_are_whole_and_grow_lighter(name):
    table = colormaps.TABLES[name].astype(np.float64)
    luminance = table @ [0.2126, 0.7152, 0.0722]
    assert table.shape == (256, 3)
    assert (np.diff(luminance) > -1).all() and luminance[-1] > luminance[0] + 150
