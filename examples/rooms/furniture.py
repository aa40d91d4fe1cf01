"""Objects as lists of solids in a frame of their own: base at z = 0, front towards -y, back (the wall's side) at +y."""

import numpy as np

from . import materials
from .classes import LABEL
from .trace import Prim


def box(low, high, material, front=None):
    """Make a box between two corners."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    return Prim("box", (low + high) / 2, tuple((high - low) / 2), material, 0, 0, front=front)


def cone(x, y, low, high, below, above, material):
    """Make an upright truncated cone between two heights."""
    return Prim("cone", np.array([x, y, (low + high) / 2]), (below, above, (high - low) / 2), material, 0, 0)


def ellipsoid(center, radii, material):
    """Make an ellipsoid."""
    return Prim("ellipsoid", np.asarray(center, float), tuple(radii), material, 0, 0)


def table(rng):
    """Make a table: a top on four legs, a pedestal or two side panels."""
    w, d, h = rng.uniform(0.7, 1.8), rng.uniform(0.5, 0.95), rng.choice([rng.uniform(0.4, 0.5), rng.uniform(0.68, 0.8)])
    top, legs = materials.solid(rng), materials.solid(rng)
    if rng.random() < 0.6:
        legs = top
    thick = rng.uniform(0.025, 0.06)
    kind, x, y = rng.random(), w / 2 - 0.05, d / 2 - 0.05
    if kind < 0.2:
        r = w / 2.4
        parts = [cone(0, 0, h - thick, h, r, r, top), cone(0, 0, 0.03, h - thick, 0.05, 0.05, legs)]
        return "table", [*parts, cone(0, 0, 0, 0.03, r * 0.6, r * 0.5, legs)], (2 * r, 2 * r, h)
    parts = [box((-w / 2, -d / 2, h - thick), (w / 2, d / 2, h), top)]
    if kind < 0.35:
        parts += [box((s * x - 0.02, -y, 0), (s * x + 0.02, y, h - thick), legs) for s in (-1, 1)]
    else:
        r, cylinder = rng.uniform(0.018, 0.04), rng.random() < 0.4
        for sx in (-x, x):
            for sy in (-y, y):
                leg = cone(sx, sy, 0, h - thick, r * 0.7, r, legs)
                parts.append(leg if cylinder else box((sx - r, sy - r, 0), (sx + r, sy + r, h - thick), legs))
    return "table", parts, (w, d, h)


def cabinet(rng):
    """Make a chest of drawers, a wardrobe or a bookcase."""
    kind = rng.random()
    body = materials.solid(rng)
    if kind < 0.45:
        w, d, h, columns, rows = (
            rng.uniform(0.6, 1.6),
            rng.uniform(0.38, 0.55),
            rng.uniform(0.55, 1.1),
            rng.integers(1, 4),
            rng.integers(2, 5),
        )
    else:
        w, d, h, columns, rows = (
            rng.uniform(0.7, 1.6),
            rng.uniform(0.3, 0.6),
            rng.uniform(1.5, 2.15),
            rng.integers(2, 4),
            rng.integers(1, 3),
        )
    if kind > 0.7:
        front = dict(body, kind="books", width=w, height=h, rows=int(rng.integers(4, 7)), gloss=0.0)
        return "cabinet", [box((-w / 2, -d / 2, 0), (w / 2, d / 2, h), body, front)], (w, d, h)
    foot = rng.choice([0.0, 0.08, 0.15])
    front = dict(
        body,
        kind="drawers",
        width=w,
        height=h - foot,
        columns=int(columns),
        rows=int(rows),
        knob=float(rng.choice([0.012, 0.06])),
    )
    front["turn"] = int(body["kind"] == "wood")
    parts = [box((-w / 2, -d / 2, foot), (w / 2, d / 2, h), body, front)]
    if foot:
        x, y = w / 2 - 0.05, d / 2 - 0.05
        parts += [box((a - 0.025, b - 0.025, 0), (a + 0.025, b + 0.025, foot), body) for a in (-x, x) for b in (-y, y)]
    return "cabinet", parts, (w, d, h)


def sofa(rng):
    """Make a sofa, an armchair or a bed."""
    cover, cushion = materials.fabric(rng), materials.fabric(rng)
    if rng.random() < 0.3:
        return bed(rng, cover, cushion)
    seats = int(rng.integers(1, 4))
    arm, seat_h, h, d = (
        rng.uniform(0.12, 0.22),
        rng.uniform(0.36, 0.45),
        rng.uniform(0.7, 0.95),
        rng.uniform(0.75, 0.95),
    )
    w = seats * rng.uniform(0.55, 0.7) + 2 * arm
    arm_h, back = seat_h + rng.uniform(0.12, 0.25), rng.uniform(0.15, 0.25)
    same = cover if rng.random() < 0.6 else cushion
    parts = [
        box((-w / 2, -d / 2, 0.06), (w / 2, d / 2, seat_h - 0.12), cover),
        box((-w / 2, d / 2 - back, 0.06), (w / 2, d / 2, h), cover),
        box((-w / 2, -d / 2, 0.06), (-w / 2 + arm, d / 2, arm_h), cover),
        box((w / 2 - arm, -d / 2, 0.06), (w / 2, d / 2, arm_h), cover),
    ]
    step = (w - 2 * arm) / seats
    for k in range(seats):
        x = -w / 2 + arm + k * step
        parts.append(box((x + 0.008, -d / 2 - 0.02, seat_h - 0.12), (x + step - 0.008, d / 2 - back, seat_h), same))
        if rng.random() < 0.35:
            center = (x + step / 2, d / 2 - back - 0.1, seat_h + 0.17)
            parts.append(ellipsoid(center, (0.21, 0.1, 0.19), materials.fabric(rng)))
    return "sofa", parts, (w, d + 0.04, h)


def bed(rng, cover, cushion):
    """Make a bed with its head at +y."""
    w, d, h = rng.uniform(0.9, 1.7), rng.uniform(1.9, 2.1), rng.uniform(0.4, 0.6)
    frame = materials.solid(rng)
    pillow = materials.material(rng, "cloth", a=materials.linear(np.full(3, rng.uniform(0.6, 0.95))), gloss=0.0)
    parts = [
        box((-w / 2, -d / 2, 0.1), (w / 2, d / 2, h - 0.2), frame),
        box((-w / 2 + 0.02, -d / 2 + 0.02, h - 0.2), (w / 2 - 0.02, d / 2 - 0.04, h), pillow),
        box((-w / 2 - 0.01, -d / 2 - 0.01, h - 0.22), (w / 2 + 0.01, d / 2 - 0.6, h + 0.03), cover),
        box((-w / 2, d / 2 - 0.05, 0), (w / 2, d / 2, h + rng.uniform(0.25, 0.6)), frame),
    ]
    pillows = 1 if w < 1.25 else 2
    for k in range(pillows):
        x = (k + 0.5) * w / pillows - w / 2
        parts.append(ellipsoid((x, d / 2 - 0.33, h + 0.05), (0.3, 0.2, 0.1), pillow if rng.random() < 0.6 else cushion))
    return "sofa", parts, (w, d, h + 0.4)


def shade_material(rng, on):
    """Make a lamp shade's cloth; lit from inside when on."""
    a = materials.near(rng, materials.linear((0.95, 0.85, 0.65)), 0.15) if rng.random() < 0.5 else materials.color(rng)
    return materials.material(
        rng, "plain", a=a, b=a * np.float32(0.8), glow=float(rng.uniform(1.2, 3.0)) if on else 0.0, gloss=0.0
    )


def floor_lamp(rng, on, height=None):
    """Make a standing lamp, or a table lamp with a small height."""
    h = height or rng.uniform(1.3, 1.75)
    metal, s = materials.solid(rng), 0.45 + 0.55 * min(h / 1.5, 1)
    r = rng.uniform(0.15, 0.24) * s
    tall = rng.uniform(0.2, 0.32) * s
    parts = [
        cone(0, 0, 0, 0.025, 0.15 * s, 0.14 * s, metal),
        cone(0, 0, 0.025, h - tall, 0.014 if height is None else 0.05, 0.014, metal),
    ]
    shade = shade_material(rng, on)
    if rng.random() < 0.75:
        parts.append(cone(0, 0, h - tall, h, r, r * rng.uniform(0.45, 0.95), shade))
    else:
        parts.append(ellipsoid((0, 0, h - r), (r, r, r), shade))
    return "lamp", parts, (0.4 * s, 0.4 * s, h)


def pendant(rng, on, drop):
    """Make a lamp hanging from the ceiling; z = 0 is the ceiling here."""
    metal, shade = materials.solid(rng), shade_material(rng, on)
    r, tall = rng.uniform(0.14, 0.28), rng.uniform(0.14, 0.28)
    parts = [cone(0, 0, -drop, 0, 0.01, 0.01, metal), cone(0, 0, -0.03, 0, 0.07, 0.06, metal)]
    kind = rng.random()
    if kind < 0.5:
        parts.append(cone(0, 0, -drop - tall, -drop, r, r * rng.uniform(0.2, 0.8), shade))
    elif kind < 0.8:
        parts.append(ellipsoid((0, 0, -drop - r * 0.8), (r, r, r * rng.uniform(0.6, 1)), shade))
    else:
        parts = [cone(0, 0, -0.09, 0, r * 1.2, r * 1.3, shade)]
    return "lamp", parts, (2 * r, 2 * r, drop + tall)


def plant(rng, scale=1.0):
    """Make a pot with a bush, a small tree or a cone-shaped shrub."""
    pot = materials.material(rng, str(rng.choice(["plain", "stripes", "marble", "cloth"])))
    r, h = rng.uniform(0.11, 0.2) * scale, rng.uniform(0.2, 0.38) * scale
    parts = [cone(0, 0, 0, h, r * rng.uniform(0.6, 1.0), r, pot)]
    a = materials.linear((rng.uniform(0.15, 0.5), rng.uniform(0.4, 0.7), rng.uniform(0.1, 0.35)))
    leaf = materials.material(rng, "leaves", a=a * np.float32(0.35), b=a, gloss=0.1)
    kind, base = rng.random(), h
    if kind < 0.25:
        tall = rng.uniform(0.5, 1.0) * scale
        for k in range(3):
            low, wide = h + k * tall * 0.28, r * (2.1 - 0.5 * k)
            parts.append(cone(0, 0, low, low + tall * 0.5, wide, wide * 0.1, leaf))
        top = h + tall * 1.06
    else:
        if kind < 0.6:
            base = h + rng.uniform(0.3, 0.6) * scale
            parts.append(cone(0, 0, h, base, 0.02 * scale, 0.015 * scale, materials.material(rng, "wood")))
        spread = rng.uniform(0.16, 0.3) * scale
        for _ in range(int(rng.integers(12, 22))):
            offset = rng.normal(0, 0.6, 3) * spread
            center = (offset[0], offset[1], base + spread * 0.6 + abs(offset[2]) * 1.3)
            parts.append(ellipsoid(center, rng.uniform(0.12, 0.5, 3) * spread, leaf))
            parts[-1].yaw = rng.uniform(0, np.pi)
        top = base + spread * 2.5
    for prim in parts:
        prim.surface = 1 if prim.material is leaf else -1
    return "plant", parts, (2.2 * r + 0.2 * scale, 2.2 * r + 0.2 * scale, top)


def ball(rng, small=False):
    """Make a ball: plain, striped or patched."""
    r = rng.uniform(0.06, 0.1) if small else rng.uniform(0.1, 0.32)
    kind = str(rng.choice(["plain", "segments", "segments", "checker", "stripes", "cloth"]))
    look = materials.material(
        rng, kind, b=materials.color(rng), radius=r, count=2 * int(rng.integers(2, 5)), scale=r * 0.6
    )
    return "ball", [ellipsoid((0, 0, r), (r, r, r), look)], (2 * r, 2 * r, 2 * r)


def panel(rng, kind, w, h):
    """Make a door, window or picture: a thin box whose front (-y) carries the texture; z = 0 is its lower edge."""
    depth = {"door": 0.04, "window": 0.05, "picture": rng.uniform(0.02, 0.05)}[kind]
    look = materials.material(rng, kind, width=w, height=h, gloss=0.05)
    if kind == "door":
        look.update(columns=int(rng.integers(1, 3)), rows=int(rng.integers(1, 4)), hinge=int(rng.choice([-1, 1])))
        look["c"] = look["a"] if rng.random() < 0.5 else materials.linear(np.full(3, rng.uniform(0.5, 0.95)))
    elif kind == "picture":
        look.update(style=int(rng.integers(3)), frame=float(rng.uniform(0.015, 0.05)), rim=materials.color(rng))
        look.update(mat=float(rng.choice([0.0, 0.05])), b=materials.color(rng))
    rim = dict(look, kind="plain", a=look.get("rim", look["c"]), b=look.get("rim", look["c"]))
    return kind, [box((-w / 2, -depth / 2, 0), (w / 2, depth / 2, h), rim, look)], (w, depth, h)


def labelled(name, parts, instance):
    """Give an object's solids its class and instance."""
    for prim in parts:
        prim.label, prim.instance = LABEL[name], instance
    return parts
