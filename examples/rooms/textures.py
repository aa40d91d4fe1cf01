"""Procedural textures: (material, u, v in metres) -> linear albedo (n, 3) and emission (n,)."""

import numpy as np


def lattice(i, j, seed):
    """Hash integer lattice points to [0, 1)."""
    h = i.astype(np.int32).astype(np.uint32) * np.uint32(0x9E3779B1)
    h ^= j.astype(np.int32).astype(np.uint32) * np.uint32(0x85EBCA77)
    h += np.uint32(seed & 0xFFFFFFFF)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> np.uint32(12)
    h *= np.uint32(0x297A2D39)
    h ^= h >> np.uint32(15)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def noise(u, v, seed):
    """Return smooth value noise in [0, 1] of unit grid."""
    i, j = np.floor(u), np.floor(v)
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    low = lattice(i, j, seed) * (1 - a) + lattice(i + 1, j, seed) * a
    high = lattice(i, j + 1, seed) * (1 - a) + lattice(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b


def fractal(u, v, seed):
    """Return three octaves of `noise`, in [0, 1]."""
    return (noise(u, v, seed) + 0.5 * noise(2 * u, 2 * v, seed + 1) + 0.25 * noise(4 * u, 4 * v, seed + 2)) / 1.75


def mix(material, amount):
    """Blend the material's two colours."""
    amount = np.clip(amount, 0, 1)[:, None]
    return material["a"] * (1 - amount) + material["b"] * amount


def edge(position, period, width):
    """Return 1 within `width` of the multiples of `period`, else 0."""
    rest = np.mod(position, period)
    return (np.minimum(rest, period - rest) < width).astype(np.float32)


def plain(m, u, v):
    return mix(m, 0.25 * fractal(u * 3, v * 3, m["seed"]))


def checker(m, u, v):
    s = m["scale"]
    return mix(m, np.mod(np.floor(u / s) + np.floor(v / s), 2) * 0.9 + 0.1 * fractal(u * 9, v * 9, m["seed"]))


def stripes(m, u, v):
    s = m["scale"]
    return mix(m, (np.mod(u / s, 1) < m["share"]) * 0.9 + 0.1 * fractal(u * 9, v * 9, m["seed"]))


def grain(u, v, seed):
    """Return wood grain along u."""
    bend = noise(u * 0.8, v * 3, seed + 5)
    return 0.6 * noise(u * 2, v * 45 + 4 * bend, seed) + 0.4 * noise(u * 7, v * 130, seed + 3)


def wood(m, u, v):
    return mix(m, grain(v, u, m["seed"]) if m["turn"] else grain(u, v, m["seed"]))


def planks(m, u, v):
    s = m["scale"]
    row = np.floor(v / s)
    shifted = u / (s * 7) + lattice(row, row, m["seed"])
    tone = lattice(np.floor(shifted), row, m["seed"] + 9)
    seam = np.maximum(edge(v, s, 0.004), edge(shifted, 1.0, 0.003 / s / 7))
    return mix(m, 0.6 * tone + 0.5 * grain(u + 7 * tone, v, m["seed"])) * (1 - 0.6 * seam)[:, None]


def tiles(m, u, v):
    s = m["scale"]
    v = v + 0.5 * s * np.mod(np.floor(u / s), 2) * m["turn"]
    tone = lattice(np.floor(u / s), np.floor(v / s), m["seed"])
    grout = np.maximum(edge(u, s, 0.008), edge(v, s, 0.008))[:, None]
    body = mix(m, 0.5 * tone + 0.4 * fractal(u * 5, v * 5, m["seed"]))
    return body * (1 - grout) + grout * m["c"]


def brick(m, u, v):
    s = m["scale"]
    row = np.floor(v / s)
    u = u / (2.6 * s) + 0.5 * np.mod(row, 2)
    tone = lattice(np.floor(u), row, m["seed"])
    grout = np.maximum(edge(v, s, 0.006), edge(u, 1.0, 0.006 / (2.6 * s)))[:, None]
    body = mix(m, 0.7 * tone + 0.4 * fractal(u * 20, v * 20, m["seed"]))
    return body * (1 - grout) + grout * m["c"]


def cloth(m, u, v):
    return mix(m, 0.7 * fractal(u * 12, v * 12, m["seed"]) + 0.3 * noise(u * 160, v * 160, m["seed"] + 7))


def marble(m, u, v):
    bend = fractal(u * 2, v * 2, m["seed"])
    return mix(m, np.abs(np.sin(7 * bend + 4 * u / m["scale"])) ** 3)


def wallpaper(m, u, v):
    s = m["scale"]
    a, b = np.sin(u / s * 2 * np.pi), np.sin(v / s * 2 * np.pi)
    motif = (a * b + 0.3 * np.cos(u / s * 4 * np.pi) > m["share"] - 0.2).astype(np.float32)
    return mix(m, 0.8 * motif + 0.15 * fractal(u * 7, v * 7, m["seed"]))


def leaves(m, u, v):
    blade = noise(u * 30, v * 55, m["seed"])
    return mix(m, 1.6 * blade * blade) * (0.3 + 0.7 * (noise(u * 40, v * 45, m["seed"] + 4) > 0.4))[:, None]


def segments(m, u, v):
    turn = u / m["radius"] / (2 * np.pi)
    part = np.mod(np.floor(turn * m["count"]), 2)
    return mix(m, part)


def unit(m, u, v):
    """Map the metres of a front face to [0, 1] across and up."""
    return u / m["width"] + 0.5, v / m["height"] + 0.5


def drawers(m, u, v):
    body = mix(m, grain(u, v, m["seed"]) if m["turn"] else 0.2 * fractal(u * 3, v * 3, m["seed"]))
    across, up = unit(m, u, v)
    x, y = across * m["columns"], up * m["rows"]
    pitch_x, pitch_y = m["width"] / m["columns"], m["height"] / m["rows"]
    seam = np.maximum(edge(x, 1.0, 0.008 / pitch_x), edge(y, 1.0, 0.008 / pitch_y))
    tall = pitch_y > pitch_x
    du = (np.mod(x, 1) - (0.88 if tall else 0.5)) * pitch_x
    dv = (np.mod(y, 1) - (0.5 if tall else 0.7)) * pitch_y
    long, short = (dv, du) if tall else (du, dv)
    knob = ((np.abs(long) < m["knob"]) & (np.abs(short) < 0.012))[:, None]
    body = body * (1 - 0.7 * seam)[:, None]
    return np.where(knob, m["c"], body)


def books(m, u, v):
    up = unit(m, u, v)[1]
    y = up * m["rows"]
    pitch = m["height"] / m["rows"]
    row = np.floor(y)
    x = u / 0.045 + 3 * lattice(row, row, m["seed"]) + 0.8 * noise(u / 0.09, row, m["seed"] + 2)
    book = np.floor(x)
    top = 0.55 + 0.4 * lattice(book, row, m["seed"] + 3)
    tint = np.stack([lattice(book, row, m["seed"] + k) for k in (11, 12, 13)], axis=1)
    tint = (0.08 + 0.6 * tint**2) * (0.5 + 0.5 * (np.mod(x, 1) > 0.15))[:, None]
    gap = (np.mod(y, 1) > top) | (lattice(np.floor(x / 5), row, m["seed"] + 8) > 0.8)
    inside = np.where(gap[:, None], m["a"] * 0.22, tint)
    board = (np.abs(u) > m["width"] / 2 - 0.025) | (edge(y, 1.0, 0.013 / pitch) > 0)
    return np.where(board[:, None], mix(m, grain(u, v, m["seed"])), inside)


def door(m, u, v):
    body = mix(m, grain(v, u, m["seed"]) if m["turn"] else 0.15 * fractal(u * 3, v * 3, m["seed"]))
    side = m["width"] / 2 - np.abs(u)
    top = m["height"] / 2 - v
    frame = (np.minimum(side, top) < 0.07)[:, None]
    x = (u / m["width"] + 0.5) * m["columns"]
    y = (v / m["height"] + 0.5) * m["rows"]
    bevel_x = np.abs(np.mod(x, 1) - 0.5) * m["width"] / m["columns"] - (0.5 * m["width"] / m["columns"] - 0.09)
    bevel_y = np.abs(np.mod(y, 1) - 0.5) * m["height"] / m["rows"] - (0.5 * m["height"] / m["rows"] - 0.09)
    groove = np.abs(np.maximum(bevel_x, bevel_y)) < 0.014
    shade = np.where(groove & (np.minimum(side, top) > 0.1), 0.55, 1.0) * np.where(
        np.abs(np.minimum(side, top) - 0.07) < 0.007, 0.35, 1.0
    )
    out = np.where(frame, m["c"], body) * shade[:, None]
    handle = (np.abs(u - m["hinge"] * (m["width"] / 2 - 0.13)) < 0.06) & (np.abs(v + 0.02) < 0.016)
    return np.where(handle[:, None], np.float32([0.5, 0.45, 0.35]), out)


def picture(m, u, v):
    side = np.minimum(m["width"] / 2 - np.abs(u), m["height"] / 2 - np.abs(v))
    f, seed = fractal(u * 4, v * 4, m["seed"]), m["seed"]
    if m["style"] == 0:
        hill = v - 0.35 * m["height"] * (fractal(u * 3, u * 0, seed) - 0.5)
        sky = mix(m, 0.6 + v / m["height"] + 0.3 * f)
        art = np.where((hill > 0)[:, None], sky, m["c"] * (0.4 + f)[:, None])
    elif m["style"] == 1:
        i, j = np.floor(u * 5 + 2 * noise(v * 3, u, seed)), np.floor(v * 5)
        art = np.stack([lattice(i, j, seed + k) for k in (1, 2, 3)], axis=1) ** 2
    else:
        art = np.where((np.hypot(u, v * 0.8 + 0.03) < 0.25 * m["width"])[:, None], m["c"], mix(m, 1.3 * f))
    out = np.where((side < m["frame"] + m["mat"])[:, None], np.float32(0.75), art)
    return np.where((side < m["frame"])[:, None], m["rim"], out)


def window(m, u, v):
    side = np.minimum(m["width"] / 2 - np.abs(u), m["height"] / 2 - np.abs(v))
    across, up = unit(m, u, v)
    bars = np.maximum(
        edge(across * m["columns"], 1.0, 0.02 * m["columns"] / m["width"]),
        edge(up * m["rows"], 1.0, 0.02 * m["rows"] / m["height"]),
    )
    pane = (side > 0.055) & (bars == 0)
    sky = mix(m, up + 0.25 * fractal(u * 1.5, v * 3, m["seed"]))
    tree = fractal(u * 5, v * 5, m["seed"] + 1) + 0.9 * (m["horizon"] - up) > 0.5
    tint = m["d"] * (0.4 + fractal(u * 14, v * 14, m["seed"] + 2))[:, None]
    view = np.where(tree[:, None], tint, sky)
    blind = up > 1 - m["blind"]
    view = np.where(blind[:, None], m["c"] * (0.65 + 0.35 * (np.mod(v, 0.05) > 0.012))[:, None], view)
    emit = np.where(pane, np.where(blind, 0.35, 1.0) * m["emit"], 0.0)
    return np.where(pane[:, None], view, m["c"]), emit.astype(np.float32)


TEXTURES = {
    f.__name__: f
    for f in (plain, checker, stripes, wood, planks, tiles, brick, cloth, marble, wallpaper, leaves)
    + (segments, drawers, books, door, picture, window)
}


def paint(material, u, v):
    """Return albedo (n, 3) and emission (n,): what the surface sends out by itself, as a multiple of its albedo."""
    out = TEXTURES[material["kind"]](material, u.astype(np.float32), v.astype(np.float32))
    albedo, emit = out if isinstance(out, tuple) else (out, np.full(u.size, material.get("glow", 0.0), np.float32))
    if "skirting" in material:
        board = (v < material["skirting"])[:, None]
        albedo = np.where(board, material["c"] * np.where(v > material["skirting"] - 0.012, 0.5, 1)[:, None], albedo)
    return np.clip(albedo, 0.0, 0.95).astype(np.float32), emit
