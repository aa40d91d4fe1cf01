"""Random materials: one colour distribution shared by all classes, so that a colour alone gives nothing away."""

import colorsys

import numpy as np


def linear(rgb):
    """Turn display colours in [0, 1] into linear light, float32."""
    return np.asarray(rgb, np.float32) ** np.float32(2.2)


def color(rng):
    """Draw a colour: wood, neutral, muted or vivid."""
    kind = rng.random()
    if kind < 0.25:
        return linear(colorsys.hsv_to_rgb(rng.uniform(0.05, 0.11), rng.uniform(0.25, 0.7), rng.uniform(0.3, 0.85)))
    if kind < 0.5:
        return linear(np.full(3, rng.uniform(0.12, 0.95)) * (1 + rng.uniform(-0.04, 0.04, 3)))
    if kind < 0.85:
        return linear(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.45), rng.uniform(0.35, 0.95)))
    return linear(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.5, 0.9), rng.uniform(0.35, 0.9)))


def near(rng, rgb, spread):
    """Draw a colour close to another: brighter or darker and a little tinted."""
    return np.clip(rgb * np.exp(rng.normal(0, spread)) * (1 + rng.normal(0, spread / 4, 3)), 0.01, 0.9).astype(
        np.float32
    )


def material(rng, kind, **extra):
    """Draw the colours and parameters of a texture of that kind; `extra` overrides."""
    a = color(rng)
    base = {
        "kind": kind,
        "a": a,
        "b": near(rng, a, 0.45),
        "c": near(rng, color(rng), 0.2),
        "seed": int(rng.integers(1 << 20)),
        "scale": float(rng.uniform(0.1, 0.4)),
        "share": float(rng.uniform(0.25, 0.75)),
        "turn": int(rng.integers(2)),
        "gloss": float(rng.choice([0.0, 0.05, 0.2, 0.5])),
    }
    base.update(extra)
    return base


def solid(rng):
    """Draw the material of a piece of furniture."""
    kind = str(rng.choice(["plain", "wood", "wood", "marble"]))
    return material(rng, kind)


def fabric(rng):
    """Draw the material of something soft."""
    kind = str(rng.choice(["cloth", "cloth", "stripes", "checker", "plain"]))
    return material(rng, kind, scale=float(rng.uniform(0.05, 0.2)), gloss=0.0)


def wall(rng):
    """Draw a wall's material; walls are mostly light and quiet."""
    kind = str(rng.choice(["plain", "plain", "plain", "wallpaper", "stripes", "brick", "tiles", "planks", "cloth"]))
    a = color(rng)
    if rng.random() < 0.6:
        a = np.sqrt(a) * np.float32(0.6) + np.float32(0.3)
    spread = 0.12 if kind in ("wallpaper", "stripes") else 0.25
    extra = {"skirting": float(rng.uniform(0.06, 0.14))} if rng.random() < 0.7 else {}
    if kind in ("brick", "planks"):
        extra["scale"] = float(rng.uniform(0.07, 0.16))
    return material(rng, kind, a=np.clip(a, 0, 0.9), b=near(rng, a, spread), gloss=0.0, **extra)


def floor(rng):
    """Draw a floor's material."""
    kind = str(rng.choice(["planks", "planks", "planks", "tiles", "tiles", "checker", "cloth", "marble", "brick"]))
    a = color(rng) * np.float32(0.8)
    b = near(rng, a, 0.35)
    return material(rng, kind, a=a, b=b, c=near(rng, a, 0.5), gloss=float(rng.choice([0.0, 0.15, 0.4])))


def ceiling(rng):
    """Draw a ceiling's material: mostly white and plain, now and then boards or panels."""
    kind = str(rng.choice(["plain", "plain", "plain", "plain", "planks", "tiles"]))
    a = linear(np.full(3, rng.uniform(0.75, 0.97))) if rng.random() < 0.75 else color(rng)
    return material(
        rng, kind, a=a, b=near(rng, a, 0.15), c=near(rng, a, 0.2), gloss=0.0, scale=float(rng.uniform(0.15, 0.6))
    )
