"""Real photographs through the shipped model: every file reads, sizes hold, one digest on every backend.

PAGNP_DATA names a folder with `bsds500`, `camvid` and `panorama`; nothing of it belongs to the project.
"""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from conftest import BACKENDS, DATA, needs_data
from PIL import Image

import pagnp
from pagnp.image import load_image

WEIGHTS = Path(__file__).parent.parent / "examples/models/rooms-seg.h5"
SETS = {
    "bsds500": ("images/test/*.jpg", 4),
    "camvid": ("images/test/*.jpg", 2),
    "panorama": ("*/*_rgb.png", 3),
}

pytestmark = needs_data


@pytest.fixture(scope="module")
def models():
    return {backend: pagnp.load(WEIGHTS, backend) for backend in BACKENDS}


def photographs(name):
    pattern, count = SETS[name]
    found = list(islice(sorted((DATA / name).glob(pattern)), count))
    assert found, f"PAGNP_DATA: no {name}/{pattern}"
    return found


@pytest.mark.parametrize("name", SETS)
def test_whole_images(models, name):
    for path in photographs(name):
        size = load_image(path).size
        result = models["numba"](path)
        labels = result.outputs["segmentation"]
        assert labels.shape == result.ponder.shape == size and labels.dtype == np.uint8 and labels.max() < 12
        assert 0 < result.macs["gated_executed"] < result.macs["gated_dense"]
        assert result.ponder.max() <= len(result.masks) == 7


@pytest.mark.parametrize("name", SETS)
def test_one_digest_on_every_backend(models, name):
    pixels = load_image(photographs(name)[0]).pixels[-101:, -83:]  # odd sizes; small, because the reference is slow
    digests = {backend: model(np.ascontiguousarray(pixels)).digest for backend, model in models.items()}
    assert len(set(digests.values())) == 1, digests


def test_grey_and_16_bit_files(models, tmp_path):
    depth = next((DATA / "panorama").glob("*/*_depth.png"))
    pixels = load_image(depth).pixels
    assert (pixels == np.asarray(Image.open(depth)).astype(np.uint16)[..., None] >> 8).all()
    grey = tmp_path / "grey.png"
    Image.open(photographs("bsds500")[0]).convert("L").save(grey)
    as_colour = np.repeat(np.asarray(Image.open(grey))[..., None], 3, 2)
    assert models["numba"](grey).digest == models["numba"](as_colour).digest
