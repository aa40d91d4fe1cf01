"""Render a room: a photograph-like RGB image and exact ground truth for every pixel."""

import numpy as np

from .classes import LABEL
from .scene import make_scene
from .shade import expose, radiance
from .trace import cast, hit_room, surface_at

FACE_LABELS = np.uint8([LABEL["wall"]] * 4 + [LABEL["floor"], LABEL["ceiling"]])
FLOOR, CEILING = 4, 5
SAMPLES = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))


def render(seed, index, size=(240, 320)):
    """Render scene `index` of the series `seed`; the arrays depend on (seed, index, size) alone.

    size     (h, w)
    returns  dict of
             image     (h, w, 3) uint8     RGB, 4 samples a pixel, with blur, noise and vignette
             labels    (h, w) uint8        index into CLASSES
             depth     (h, w) float32      metres along the optical axis (z-depth, not the ray's length)
             normals   (h, w, 3) float32   unit, towards the camera; x right, y down, z forward
             boundary  (h, w) bool         occlusions, creases and changes of class or instance, on the nearer side
             instances (h, w) uint8        0..5 the room's faces (+x -x +y -y walls, floor, ceiling), 6.. objects
    Ground truth comes from the ray through the pixel's centre and is not antialiased.
    """
    scene = make_scene(seed, index)
    h, w = size
    truth, surface = ground_truth(scene, h, w)
    light = np.zeros((3, h * w), np.float32)
    for k, offset in enumerate(SAMPLES):
        d = camera_rays(scene, h, w, offset)
        hit = trace(scene, d)
        light += radiance(scene, d, hit, k)
    truth["image"] = expose(scene, light.T.reshape(h, w, 3) / len(SAMPLES), index)
    truth["boundary"] = boundaries(truth, surface, camera_slopes(scene, h, w))
    return truth


def camera_slopes(scene, h, w, offset=(0.5, 0.5)):
    """Return each pixel's ray in the camera's frame, (3, h, w) with z = 1."""
    scale = 2 / (scene.focal * w)
    x = (np.arange(w) + offset[0] - w / 2) * scale
    y = (np.arange(h) + offset[1] - h / 2) * scale
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None], np.ones((1, 1)))).astype(np.float32)


def camera_rays(scene, h, w, offset=(0.5, 0.5)):
    """Return world rays (3, h*w) whose component along the optical axis is 1: their parameter is z-depth."""
    return (scene.axes.T.astype(np.float32) @ camera_slopes(scene, h, w, offset).reshape(3, -1)).astype(np.float32)


def trace(scene, d):
    """Find what each primary ray sees: dict of t, prim, points, normals, face, uv (metres), surface id."""
    limit, wall = hit_room(scene.room, scene.eye, d)
    t, prim = cast(scene.groups, scene.eye, d, limit)
    points = (scene.eye.astype(np.float32)[:, None] + t * d).astype(np.float32)
    # hit_room counts -z (the floor) as 5 and +z (the ceiling) as 4; the project's faces put the floor first.
    wall = np.where(wall == 5, FLOOR, np.where(wall == 4, CEILING, wall)).astype(np.int8)
    normals = np.zeros_like(points)
    columns = np.arange(t.size)
    normals[np.uint8([0, 0, 1, 1, 2, 2])[wall], columns] = np.float32([-1, 1, -1, 1, 1, -1])[wall]
    uv = np.stack([np.where(wall < 2, points[1], points[0]), np.where(wall < 4, points[2], points[1])])
    surface = wall.astype(np.int32)
    face = wall.copy()
    order = np.argsort(prim, kind="stable")
    bounds = np.searchsorted(prim[order], np.arange(len(scene.prims) + 1))
    rays_of = {}
    for k, solid in enumerate(scene.prims):
        rays = order[bounds[k] : bounds[k + 1]]
        if rays.size:
            normals[:, rays], face[rays], uv[:, rays] = surface_at(solid, points[:, rays])
            surface[rays] = face[rays].astype(np.int32) + solid.surface
            rays_of[k] = rays
    return {
        "t": t,
        "prim": prim,
        "points": points,
        "normals": normals,
        "face": face,
        "uv": uv,
        "surface": surface,
        "rays_of": rays_of,
        "room_rays": order[: bounds[0]],
    }


def ground_truth(scene, h, w):
    """Return the truth's arrays from pixel-centre rays, and the surface id of each pixel."""
    d = camera_rays(scene, h, w)
    hit = trace(scene, d)
    labels_of = np.array([prim.label for prim in scene.prims] + [0], np.uint8)
    instances_of = np.array([prim.instance for prim in scene.prims] + [0], np.uint8)
    inside = hit["prim"] < 0
    wall = np.where(inside, hit["face"], 0)
    labels = np.where(inside, FACE_LABELS[wall], labels_of[hit["prim"]])
    instances = np.where(inside, wall, instances_of[hit["prim"]])
    normals = scene.axes.astype(np.float32) @ hit["normals"]
    truth = {
        "labels": labels.astype(np.uint8).reshape(h, w),
        "depth": hit["t"].reshape(h, w),
        "normals": np.ascontiguousarray(normals.T.reshape(h, w, 3)),
        "instances": instances.astype(np.uint8).reshape(h, w),
    }
    return truth, hit["surface"].reshape(h, w)


def boundaries(truth, surface, slopes, crease=20.0, step=0.02):
    """Mark one pixel of every neighbouring pair that a boundary separates: the nearer, the first where they are level.

    crease   degrees between the normals of two surfaces of one object
    step     metres between their tangent planes
    """
    points = (slopes * truth["depth"]).transpose(1, 2, 0)
    out = np.zeros(surface.shape, bool)
    for first, second in (((slice(None), slice(-1)), (slice(None), slice(1, None))), ((slice(-1),), (slice(1, None),))):
        a, b = truth["normals"][first], truth["normals"][second]
        gap = points[second] - points[first]
        apart = np.maximum(np.abs((gap * a).sum(-1)), np.abs((gap * b).sum(-1))) > step
        bent = (a * b).sum(-1) < np.cos(np.radians(crease))
        split = (surface[first] != surface[second]) & (apart | bent)
        split |= truth["labels"][first] != truth["labels"][second]
        split |= truth["instances"][first] != truth["instances"][second]
        # A crease's two sides are equally near: taking the nearer would leave it jagged.
        nearer = truth["depth"][first] <= np.float32(1.03) * truth["depth"][second]
        out[first] |= split & nearer
        out[second] |= split & ~nearer
    return out
