"""Light: direct light with shadows, ambient light with contact darkening, gloss, and the camera's response."""

import numpy as np

from .textures import paint
from .trace import cast

SHADOW_JITTER = np.float32([[1, 0.3, 0.2], [-0.4, 1, -0.2], [-0.9, -0.5, 0.3], [0.4, -0.9, -0.3]])


def radiance(scene, d, hit, sample):
    """Return the linear light (3, n) along each primary ray; `sample` picks a point of each light."""
    n = d.shape[1]
    albedo = np.zeros((n, 3), np.float32)
    emit = np.zeros(n, np.float32)
    gloss = np.zeros(n, np.float32)
    for rays, material in materials_of(scene, hit):
        albedo[rays], emit[rays] = paint(material, *hit["uv"][:, rays])
        gloss[rays] = material["gloss"]
    view = -d / np.sqrt((d * d).sum(0))
    diffuse = ambient_light(scene, hit)
    shine = np.zeros((3, n), np.float32)
    for position, inward, tone, radius in scene.lights:
        source = (position + radius * SHADOW_JITTER[sample]).astype(np.float32)
        source = np.clip(source, -np.float32(scene.room) + 0.02, np.float32(scene.room) - 0.02)
        amount, highlight = direct_light(scene, hit, view, source, inward)
        diffuse += tone[:, None].astype(np.float32) * amount
        shine += tone[:, None].astype(np.float32) * highlight
    return albedo.T * (diffuse + emit) + gloss * shine


def materials_of(scene, hit):
    """Yield (rays, material) for everything in view."""
    room = hit["room_rays"]
    for face, material in enumerate(scene.faces):
        rays = room[hit["face"][room] == face]
        if rays.size:
            yield rays, material
    for k, rays in hit["rays_of"].items():
        prim = scene.prims[k]
        if prim.front is None:
            yield rays, prim.material
            continue
        front = hit["face"][rays] == 3
        for part, material in ((rays[front], prim.front), (rays[~front], prim.material)):
            if part.size:
                yield part, material


def ambient_light(scene, hit):
    """Return light from everywhere, darker in the room's corners, under and beside what stands on the floor."""
    x, y, z = hit["points"]
    nx, ny, nz = hit["normals"]
    dark = np.ones(x.size, np.float32)
    for distance, along in (
        (scene.room[0] - np.abs(x), nx),
        (scene.room[1] - np.abs(y), ny),
        (z, nz),
        (scene.room[2] - z, nz),
    ):
        dark *= 1 - 0.4 * (1 - np.abs(along)) * np.exp(-np.maximum(distance, 0) / np.float32(0.22))
    floor = np.flatnonzero((z < 0.002) & (nz > 0.9))
    for cx, cy, half_x, half_y, _ in scene.footprints:
        gap = np.maximum(np.abs(x[floor] - np.float32(cx)) - half_x, np.abs(y[floor] - np.float32(cy)) - half_y)
        dark[floor] *= 1 - 0.45 * np.exp(-np.maximum(gap, 0) / np.float32(0.12)).astype(np.float32)
    sky = 0.8 + 0.2 * nz - 0.06 * nx + 0.04 * ny
    return scene.ambient[:, None] * (dark * sky)


def direct_light(scene, hit, view, source, inward):
    """Return the diffuse and the specular share (n,) of a point light at `source`, shadows included."""
    to_light = source[:, None] - hit["points"]
    distance2 = (to_light * to_light).sum(0)
    to_light /= np.sqrt(distance2)
    facing = (to_light * hit["normals"]).sum(0)
    strength = np.maximum(facing, 0) / (np.float32(0.5) + distance2)
    if inward is not None:
        strength *= np.clip(0.25 - (inward.astype(np.float32)[:, None] * to_light).sum(0), 0, 1)
    lit = np.flatnonzero(strength > 1e-4)
    d = (hit["points"][:, lit] - source[:, None]) + hit["normals"][:, lit] * np.float32(2e-3)
    limit = np.full(lit.size, 0.999, np.float32)
    _, blocker = cast(scene.groups, source, d, limit, shadow=True)
    strength[lit[blocker >= 0]] = 0
    half = to_light + view
    half /= np.maximum(np.sqrt((half * half).sum(0)), 1e-6)
    highlight = np.maximum((half * hit["normals"]).sum(0), 0) ** 40
    return strength, highlight * (strength > 0) / (np.float32(0.5) + distance2)


def blur(image, sigma):
    """Blur with a three-tap kernel of that standard deviation."""
    side = np.float32(sigma * sigma / 2)
    for axis in (0, 1):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(image, pad, mode="edge")
        low, high = (
            np.take(wide, np.arange(image.shape[axis]), axis),
            np.take(wide, np.arange(2, image.shape[axis] + 2), axis),
        )
        image = (1 - 2 * side) * image + side * (low + high)
    return image


def expose(scene, light, index):
    """Turn linear light (h, w, 3) into uint8: exposure, white balance, vignette, blur, noise, tone curve, gamma."""
    look = scene.look
    h, w = light.shape[:2]
    level = np.exp(np.mean(np.log(light.mean(-1) + np.float32(1e-3))))
    light = light * (np.float32(look["exposure"] / level) * look["white"])
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
    light = light * (1 - np.float32(look["vignette"]) * (x * x + y * y) / 2)[..., None]
    light = blur(light, look["blur"])
    rng = np.random.default_rng([look["noise_seed"], index])
    noise = rng.standard_normal(light.shape, np.float32) * np.sqrt(light + np.float32(0.01))
    light = np.maximum(light + np.float32(look["grain"]) * noise, 0)
    light = light * (1 + light / 9) / (1 + light * np.float32(0.75))
    shown = np.clip(light, 0, 1) ** np.float32(1 / 2.2)
    shown += np.float32(look["contrast"]) * (shown * shown * (3 - 2 * shown) - shown)
    return np.rint(255 * shown).astype(np.uint8)
