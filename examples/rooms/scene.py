"""A random room from a seed: what stands where, the lights and the camera."""

from dataclasses import dataclass, field

import numpy as np

from . import furniture, materials
from .trace import Group, cast, hit_room

FIRST_OBJECT = 6  # instance ids 0..5 are the room's faces: +x -x +y -y walls, floor, ceiling


@dataclass
class Scene:
    """Everything `render` needs; metres, z up, the room is [-x, x] x [-y, y] x [0, z]."""

    room: tuple
    faces: list
    groups: list = field(default_factory=list)
    prims: list = field(default_factory=list)
    footprints: list = field(default_factory=list)
    lights: list = field(default_factory=list)
    ambient: np.ndarray = None
    eye: np.ndarray = None
    axes: np.ndarray = None
    focal: float = 1.0
    look: dict = field(default_factory=dict)

    def add(self, name, parts, x, y, z, yaw):
        """Place an object given in its own frame; return its group."""
        instance = FIRST_OBJECT + len(self.groups)
        c, s = np.cos(yaw), np.sin(yaw)
        for k, prim in enumerate(furniture.labelled(name, parts, instance)):
            px, py, pz = prim.center
            prim.center = np.array([c * px - s * py + x, s * px + c * py + y, pz + z])
            prim.yaw += yaw
            prim.surface = 1000 * instance + 8 * (k if prim.surface < 0 else 100)
        group = Group(parts, list(range(len(self.prims), len(self.prims) + len(parts))))
        self.groups.append(group)
        self.prims.extend(parts)
        return group


def make_scene(seed, index):
    """Draw scene number `index` of the series `seed`."""
    rng = np.random.default_rng([int(seed), int(index)])
    room = (rng.uniform(1.5, 3.4), rng.uniform(1.5, 3.4), rng.uniform(2.3, 3.1))
    main = materials.wall(rng)
    walls = [materials.wall(rng) if rng.random() < 0.15 else main for _ in range(4)]
    scene = Scene(room, [*walls, materials.floor(rng), materials.ceiling(rng)])
    day = rng.random() < 0.75
    windows = hang_panels(scene, rng, day)
    place_floor_objects(scene, rng)
    place_lamps(scene, rng, windows, day)
    scene.ambient = (rng.uniform(0.08, 0.28) * tint(rng, 0.05)).astype(np.float32)
    place_camera(scene, rng)
    scene.look = {
        "exposure": rng.uniform(0.16, 0.34),
        "white": tint(rng, 0.06),
        "contrast": rng.uniform(0.1, 0.7),
        "vignette": rng.uniform(0.05, 0.35),
        "blur": rng.uniform(0.25, 0.6),
        "grain": rng.uniform(0.004, 0.02),
        "noise_seed": int(rng.integers(1 << 31)),
    }
    return scene


def tint(rng, spread):
    """Draw a colour temperature: a gain per channel, warm to cool."""
    warm = rng.normal(0, spread)
    return np.float32([1 + warm, 1 + rng.normal(0, spread / 4), 1 - warm])


def wall_frame(room, wall, along, inset):
    """Return x, y and yaw of something whose back is at `inset` from a wall (0..3: +x -x +y -y)."""
    sign = 1 if wall % 2 == 0 else -1
    if wall < 2:
        return sign * (room[0] - inset), along, -sign * np.pi / 2
    return along, sign * (room[1] - inset), 0.0 if sign > 0 else np.pi


def hang_panels(scene, rng, day):
    """Hang doors, windows and pictures on the walls; return the windows as (centre, wall normal)."""
    windows, doors = [], 0
    for wall in rng.permutation(4):
        half = scene.room[1] if wall < 2 else scene.room[0]
        taken = []
        for kind in rng.choice(["door", "window", "picture"], 4, p=[0.25, 0.3, 0.45]):
            if kind == "door" and doors == 2 or kind == "window" and len(windows) == 3:
                continue
            w, h, z = panel_size(rng, kind, scene.room[2])
            along = rng.uniform(-half + w / 2 + 0.15, half - w / 2 - 0.15) if half > w / 2 + 0.2 else None
            if along is None or any(abs(along - a) < (w + b) / 2 + 0.1 for a, b in taken):
                continue
            taken.append((along, w))
            doors += kind == "door"
            name, parts, (_, depth, _) = furniture.panel(rng, str(kind), w, h)
            x, y, yaw = wall_frame(scene.room, wall, along, depth / 2 - 0.001)
            scene.add(name, parts, x, y, z, yaw)
            if kind == "window":
                dress_window(parts[0].front, rng, day)
                inward = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
                windows.append((np.array([x, y, z + h / 2]) + 0.3 * inward, inward))
    return windows


def panel_size(rng, kind, height):
    """Return width, height and the height of the lower edge of a door, window or picture."""
    if kind == "door":
        return rng.uniform(0.75, 1.05), rng.uniform(1.95, 2.15), 0.0
    if kind == "window":
        low = rng.uniform(0.6, 1.0)
        return rng.uniform(0.7, 2.0), rng.uniform(0.9, height - low - 0.25), low
    w, h = rng.uniform(0.3, 1.1), rng.uniform(0.3, 0.8)
    return w, h, rng.uniform(1.2, max(1.25, height - h - 0.3))


def dress_window(look, rng, day):
    """Give a window its view, bars and blind."""
    sky = (0.55, 0.72, 0.95) if day else (0.05, 0.07, 0.14)
    look["a"] = materials.near(rng, materials.linear((0.9, 0.93, 0.97) if day else (0.1, 0.09, 0.1)), 0.1)
    look["b"] = materials.near(rng, materials.linear(sky), 0.2)
    look["c"] = materials.linear(np.full(3, rng.uniform(0.6, 0.97))) if rng.random() < 0.7 else materials.color(rng)
    look["d"] = materials.near(rng, materials.linear((0.3, 0.42, 0.25)), 0.3)
    look.update(columns=int(rng.integers(1, 4)), rows=int(rng.integers(1, 3)), horizon=float(rng.uniform(0.1, 0.6)))
    look.update(
        emit=float(rng.uniform(0.7, 1.8)) if day else 0.15, blind=float(rng.choice([0, 0, 0, rng.uniform(0.1, 0.6)]))
    )


def place_floor_objects(scene, rng):
    """Stand furniture on the floor without overlap, against walls or free, and small things on tables."""
    area = 4 * scene.room[0] * scene.room[1]
    makers = [furniture.table, furniture.cabinet, furniture.sofa, furniture.plant, furniture.ball]
    wishes = [makers[k] for k in rng.permutation(5)]
    wishes += [makers[k] for k in rng.choice(5, int(2 + area / 4), p=[0.24, 0.24, 0.22, 0.15, 0.15])]
    wishes += [lambda r: furniture.floor_lamp(r, r.random() < 0.5)] * int(rng.integers(0, 3))
    for make in wishes:
        name, parts, size = make(rng)
        spot = find_spot(scene, rng, name, size)
        if spot is None:
            continue
        x, y, yaw = spot
        scene.add(name, parts, x, y, 0.0, yaw)
        if name == "table" or (name == "cabinet" and size[2] < 1.3):
            dress_top(scene, rng, x, y, yaw, size)


def find_spot(scene, rng, name, size):
    """Return x, y, yaw for a footprint, or None; tall and soft furniture stands against a wall."""
    at_wall = (
        name == "cabinet"
        or (name == "sofa" and rng.random() < 0.75)
        or (name in ("lamp", "plant") and rng.random() < 0.7)
    )
    for _ in range(12):
        wall = int(rng.integers(4))
        half = scene.room[1] if wall < 2 else scene.room[0]
        span = half - size[0] / 2 - 0.05
        if span <= 0:
            continue
        if at_wall:
            x, y, yaw = wall_frame(scene.room, wall, rng.uniform(-span, span), size[1] / 2 + rng.uniform(0.01, 0.1))
        else:
            x, y, yaw = (
                rng.uniform(-1, 1) * scene.room[0],
                rng.uniform(-1, 1) * scene.room[1],
                rng.integers(4) * np.pi / 2,
            )
            yaw += rng.normal(0, 0.15) if rng.random() < 0.5 else 0.0
        c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
        half_x, half_y = (c * size[0] + s * size[1]) / 2, (s * size[0] + c * size[1]) / 2
        if abs(x) + half_x > scene.room[0] or abs(y) + half_y > scene.room[1]:
            continue
        if blocks_door(scene, x, y, half_x, half_y):
            continue
        if all(abs(x - a) > half_x + p + 0.03 or abs(y - b) > half_y + q + 0.03 for a, b, p, q, _ in scene.footprints):
            scene.footprints.append((x, y, half_x, half_y, size[2]))
            return x, y, yaw
    return None


def blocks_door(scene, x, y, half_x, half_y):
    """Tell whether a footprint stands in front of a door."""
    for group in scene.groups:
        prim = group.prims[0]
        if prim.front is not None and prim.front["kind"] == "door":
            gap_x, gap_y = abs(x - prim.center[0]) - half_x, abs(y - prim.center[1]) - half_y
            if max(gap_x, gap_y) < 0.35:
                return True
    return False


def dress_top(scene, rng, x, y, yaw, size):
    """Put a ball, a small plant or a lamp on a table or chest."""
    for side in (-0.3, 0.0, 0.3):
        if rng.random() > 0.3:
            continue
        kind = rng.integers(3)
        if kind == 0:
            name, parts, _ = furniture.ball(rng, small=True)
        elif kind == 1:
            name, parts, _ = furniture.plant(rng, rng.uniform(0.45, 0.7))
        else:
            name, parts, _ = furniture.floor_lamp(rng, rng.random() < 0.6, rng.uniform(0.35, 0.55))
        across, back = side * size[0], rng.uniform(-0.2, 0.2) * size[1]
        c, s = np.cos(yaw), np.sin(yaw)
        scene.add(name, parts, x + c * across - s * back, y + s * across + c * back, size[2], yaw)


def place_lamps(scene, rng, windows, day):
    """Hang ceiling lamps and choose one to three lights among windows and lamps."""
    for _ in range(int(rng.choice([0, 1, 1, 2]))):
        name, parts, _ = furniture.pendant(rng, rng.random() < 0.6, rng.uniform(0.2, 0.7))
        x, y = rng.uniform(-0.6, 0.6) * scene.room[0], rng.uniform(-0.6, 0.6) * scene.room[1]
        scene.add(name, parts, x, y, scene.room[2], 0.0)
    lights = []
    for center, inward in windows if day else []:
        lights.append((center, inward, tint(rng, 0.05) * np.float32([0.95, 1.0, 1.08]) * rng.uniform(2.0, 4.0), 0.5))
    for group in scene.groups:
        shade = group.prims[-1]
        if shade.material.get("glow", 0) > 0:
            for prim in group.prims:
                prim.casts = False
            glow = shade.material["a"] / shade.material["a"].mean()
            lights.append((shade.center, None, np.sqrt(glow) * np.float32(rng.uniform(0.8, 2.0)), 0.12))
    order = rng.permutation(len(lights))[: int(rng.integers(1, 3))]
    scene.lights = [lights[k] for k in order]
    if not scene.lights:
        spot = np.array([*(rng.uniform(-0.6, 0.6, 2) * scene.room[:2]), scene.room[2] - 0.25])
        scene.lights = [(spot, None, tint(rng, 0.1) * np.float32(rng.uniform(1.5, 2.5)), 0.25)]


def camera_axes(yaw, pitch, roll):
    """Return the rows right, down, forward of a camera in world coordinates."""
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward])


def place_camera(scene, rng):
    """Choose a view that shows several classes and nothing too near; the best of a few draws."""
    best = -1.0
    v, u = np.mgrid[-0.7:0.7:9j, -1:1:13j].reshape(2, -1)
    for _ in range(16):
        corner = rng.choice([-1, 1], 2) * np.sqrt(rng.uniform(0, 1, 2))
        eye = np.array([*(corner * (np.array(scene.room[:2]) - 0.3)), rng.uniform(1.05, 1.85)])
        target = np.array([*(-rng.uniform(-0.2, 0.8, 2) * eye[:2]), 0.0])
        yaw = np.arctan2(target[1] - eye[1], target[0] - eye[0]) + rng.normal(0, 0.3)
        pitch = np.clip(rng.normal(-0.14, 0.12), -0.349, 0.349)
        axes = camera_axes(yaw, pitch, np.clip(rng.normal(0, 0.025), -0.06, 0.06))
        focal = 1 / np.tan(np.radians(rng.uniform(50, 75)) / 2)
        if any(abs(eye[0] - a) < p + 0.3 and abs(eye[1] - b) < q + 0.3 for a, b, p, q, _ in scene.footprints):
            continue
        d = (axes.T @ np.stack([u / focal, v / focal, np.ones_like(u)])).astype(np.float32)
        depth, index = cast(scene.groups, eye, d, hit_room(scene.room, eye, d)[0])
        labels = [scene.prims[k].label for k in index if k >= 0]
        seen = sum(min(np.count_nonzero(np.equal(labels, c)), 3) / 3 for c in set(labels))
        score = seen + 2 * min(float(np.median(depth)) / 3, 1.0) - 4 * float(np.mean(depth < 0.6))
        if score > best or scene.eye is None:
            best, scene.eye, scene.axes, scene.focal = score, eye, axes, float(focal)
        if score > 6.5:
            break
    if scene.eye is None:
        scene.eye, scene.axes, scene.focal = np.array([0.0, 0.0, 1.5]), camera_axes(0.0, -0.1, 0.0), 1.6
