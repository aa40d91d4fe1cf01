"""Ray intersection with boxes, ellipsoids, truncated cones and the room itself; every ray of a call has one origin."""

from dataclasses import dataclass, field

import numpy as np

ROOM = -1  # the index `cast` gives to the room's own faces


@dataclass
class Prim:
    """One solid, upright, turned by `yaw` about its vertical axis.

    kind     "box" (size: half extents), "ellipsoid" (radii) or "cone" (radius below, radius above, half height)
    surface  pixels of one surface id have no crease between them
    front    material of the local -y face of a box, where it differs from `material`
    """

    kind: str
    center: np.ndarray
    size: tuple
    material: dict
    label: int
    instance: int
    yaw: float = 0.0
    front: dict | None = None
    casts: bool = True
    surface: int = -1


@dataclass
class Group:
    """The solids of one object, inside one bounding sphere."""

    prims: list
    members: list = field(default_factory=list)
    center: np.ndarray = None
    radius: float = 0.0

    def __post_init__(self):
        reach = [prim_reach(prim) for prim in self.prims]
        low = np.min([prim.center - r for prim, r in zip(self.prims, reach, strict=True)], axis=0)
        high = np.max([prim.center + r for prim, r in zip(self.prims, reach, strict=True)], axis=0)
        self.center = (low + high) / 2
        self.radius = float(
            max(np.linalg.norm(p.center - self.center) + r for p, r in zip(self.prims, reach, strict=True))
        )


def prim_reach(prim):
    """Return the radius of a sphere about the solid's centre that holds it."""
    a, b, c = prim.size
    if prim.kind == "ellipsoid":
        return max(prim.size)
    if prim.kind == "cone":
        return float(np.hypot(max(a, b), c))
    return float(np.sqrt(a * a + b * b + c * c))


def to_local(prim, vectors):
    """Turn world vectors (3, n) into the solid's frame; the origin is not moved."""
    c, s = np.float32(np.cos(prim.yaw)), np.float32(np.sin(prim.yaw))
    return np.stack([c * vectors[0] + s * vectors[1], c * vectors[1] - s * vectors[0], vectors[2]])


def to_world(prim, vectors):
    """Undo `to_local`."""
    c, s = np.float32(np.cos(prim.yaw)), np.float32(np.sin(prim.yaw))
    return np.stack([c * vectors[0] - s * vectors[1], s * vectors[0] + c * vectors[1], vectors[2]])


def hit_box(size, o, d):
    """Return the entry parameter of each ray into an axis-parallel box, inf for a miss."""
    near = np.full(d.shape[1], -np.inf, np.float32)
    far = np.full(d.shape[1], np.inf, np.float32)
    for axis in range(3):
        inverse = 1 / np.where(d[axis] == 0, np.float32(1e-12), d[axis])
        a = (-size[axis] - o[axis]) * inverse
        b = (size[axis] - o[axis]) * inverse
        np.maximum(near, np.minimum(a, b), out=near)
        np.minimum(far, np.maximum(a, b), out=far)
    return np.where((near <= far) & (near > 0), near, np.float32(np.inf))


def hit_ellipsoid(size, o, d):
    """Return the entry parameter of each ray into an ellipsoid, inf for a miss."""
    scale = 1 / np.asarray(size, np.float32)
    o = o * scale
    d = d * scale[:, None]
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    disc = b * b - a * (o @ o - 1)
    t = (-b - np.sqrt(np.maximum(disc, 0))) / a
    return np.where((disc > 0) & (t > 0), t, np.float32(np.inf))


def hit_cone(size, o, d):
    """Return the entry parameter of each ray into a truncated upright cone, inf for a miss."""
    below, above, half = size
    mid, slope = np.float32((below + above) / 2), np.float32((above - below) / (2 * half))
    reach = mid + slope * o[2]
    a = d[0] * d[0] + d[1] * d[1] - slope * slope * d[2] * d[2]
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    b = o[0] * d[0] + o[1] * d[1] - reach * slope * d[2]
    disc = b * b - a * (o[0] * o[0] + o[1] * o[1] - reach * reach)
    root = np.sqrt(np.maximum(disc, 0))
    best = np.full(d.shape[1], np.inf, np.float32)
    for t in ((-b - root) / a, (-b + root) / a):
        ok = (disc > 0) & (t > 0) & (np.abs(o[2] + t * d[2]) <= half)
        best = np.where(ok & (t < best), t, best)
    inverse = 1 / np.where(d[2] == 0, np.float32(1e-12), d[2])
    for z, radius in ((-half, below), (half, above)):
        t = (z - o[2]) * inverse
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        ok = (t > 0) & (x * x + y * y <= radius * radius)
        best = np.where(ok & (t < best), t, best)
    return best


HIT = {"box": hit_box, "ellipsoid": hit_ellipsoid, "cone": hit_cone}


def hit_prim(prim, origin, d):
    """Return the entry parameter of the rays origin + t d (d (3, n)) into one solid."""
    o = to_local(prim, (origin - prim.center).astype(np.float32)[:, None])[:, 0]
    return HIT[prim.kind](prim.size, o, to_local(prim, d) if prim.yaw else d)


def hit_room(room, origin, d):
    """Return where each ray leaves the room [-x, x] x [-y, y] x [0, z], and through which face (+x -x +y -y +z -z)."""
    best = np.full(d.shape[1], np.inf, np.float32)
    face = np.zeros(d.shape[1], np.int8)
    low, high = (-room[0], -room[1], 0.0), (room[0], room[1], room[2])
    for axis in range(3):
        step = np.where(d[axis] == 0, np.float32(1e-12), d[axis])
        t = (np.where(step > 0, np.float32(high[axis]), np.float32(low[axis])) - np.float32(origin[axis])) / step
        face = np.where(t < best, np.where(step > 0, 2 * axis, 2 * axis + 1), face)
        best = np.minimum(best, t)
    return best.astype(np.float32), face.astype(np.int8)


def cast(groups, origin, d, limit, shadow=False):
    """Find the nearest solid of each ray origin + t d before t = limit.

    groups   list of Group, `members` holding each solid's index
    d        (3, n) float32
    limit    (n,) float32
    shadow   leave out the solids that cast none
    returns  t (n,) float32, index (n,) int16 (ROOM where nothing is nearer than `limit`)
    """
    best = limit.copy()
    index = np.full(d.shape[1], ROOM, np.int16)
    length = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    for group in groups:
        v = (group.center - origin).astype(np.float32)
        along = v[0] * d[0] + v[1] * d[1] + v[2] * d[2]
        gap = (v @ v - np.float32(group.radius**2)) * length
        rays = np.flatnonzero((along * np.abs(along) >= gap) if gap.size and gap[0] > 0 else along > -np.inf)
        if not rays.size:
            continue
        d_near = d[:, rays]
        for prim, member in zip(group.prims, group.members, strict=True):
            if shadow and not prim.casts:
                continue
            t = hit_prim(prim, origin, d_near)
            nearer = np.flatnonzero(t < best[rays])
            best[rays[nearer]] = t[nearer]
            index[rays[nearer]] = member
    return best, index


def surface_at(prim, points):
    """Return unit normals (3, n), face ids (n,) and texture coordinates in metres (2, n) of world points on a solid."""
    local = to_local(prim, points - prim.center.astype(np.float32)[:, None])
    x, y, z = local
    if prim.kind == "box":
        return box_surface(prim, local)
    if prim.kind == "ellipsoid":
        radii = np.asarray(prim.size, np.float32)[:, None]
        normal = local / (radii * radii)
        normal /= np.maximum(np.sqrt((normal * normal).sum(0)), 1e-9)
        r = np.float32(max(prim.size))
        return to_world(prim, normal), np.zeros(x.size, np.int8), np.stack([np.arctan2(y, x) * r, z])
    below, above, half = prim.size
    slope = (above - below) / (2 * half)
    distance = np.maximum(np.sqrt(x * x + y * y), 1e-9)
    side = np.stack([x / distance, y / distance, np.full_like(x, -slope)]) / np.float32(np.sqrt(1 + slope * slope))
    outside = np.abs(distance - ((below + above) / 2 + slope * z))
    face = np.where(outside <= half - np.abs(z), 0, np.where(z > 0, 1, 2)).astype(np.int8)
    cap = np.stack([np.zeros_like(x), np.zeros_like(x), np.sign(z)])
    u = np.where(face == 0, np.arctan2(y, x) * np.float32(max(below, above)), x)
    return to_world(prim, np.where(face == 0, side, cap)), face, np.stack([u, np.where(face == 0, z, y)])


def box_surface(prim, local):
    """Return normals, faces (+x -x +y -y +z -z) and texture coordinates of points on a box."""
    size = np.asarray(prim.size, np.float32)[:, None]
    axis = np.argmin(size - np.abs(local), axis=0)
    columns = np.arange(local.shape[1])
    sign = np.sign(local[axis, columns])
    normal = np.zeros_like(local)
    normal[axis, columns] = sign
    face = (2 * axis + (sign < 0)).astype(np.int8)
    u = np.where(axis == 0, local[1], local[0])
    v = np.where(axis == 2, local[1], local[2])
    return to_world(prim, normal), face, np.stack([u, v])
