"""The label set of the rooms and the colours that show it."""

CLASSES = (
    "wall",
    "floor",
    "ceiling",
    "door",
    "window",
    "picture",
    "table",
    "cabinet",
    "sofa",
    "lamp",
    "plant",
    "ball",
)

PALETTE = (
    (190, 190, 200),
    (140, 100, 60),
    (235, 235, 215),
    (160, 60, 40),
    (90, 190, 240),
    (200, 60, 180),
    (240, 150, 40),
    (70, 80, 170),
    (200, 40, 70),
    (250, 230, 60),
    (50, 160, 60),
    (60, 220, 190),
)

LABEL = {name: label for label, name in enumerate(CLASSES)}
