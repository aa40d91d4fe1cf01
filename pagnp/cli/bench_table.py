"""What `pagnp bench` prints for people: tables of text."""

WIDEST = 44  # a longer name shifts its own row only


def network_lines(document):
    """Return the lines of the document that `pagnp bench` makes of a network."""
    network = document["network"]
    size = "x".join(map(str, network["size"]))
    lines = [f"{network['name']}, {size}: {network['macs'] / 1e9:.1f} GMAC dense, {network['gates']} gates"]
    for section in document["sections"]:
        lines += ["", *section_lines(section)]
        for name, found in section.get("layers", {}).items():
            lines += ["", *layer_lines(name, found, section)]
    return lines


def section_lines(section):
    """Return the table of one number of threads: times with their spread, ratios of medians and of rounds."""
    peaks = section["peaks"]
    lines = [
        f"{section['threads']} thread(s); peak {peaks['gflops']['best']:.1f} GFLOP/s of multiply-adds "
        f"(median {peaks['gflops']['median']:.1f}), memory {peaks['gbytes']['best']:.1f} GB/s "
        f"(median {peaks['gbytes']['median']:.1f})"
    ]
    against = list(section["rows"][0]["ratios"])
    table = [
        [
            "",
            "ms, median (least - most)",
            "kept",
            "GMAC",
            "of peak",
            "in round",
            *(f"time / {name}" for name in against),
        ],
        *([*_row(row), *_ratios(row, against)] for row in section["rows"]),
    ]
    lines += columns(table)
    lines += [f"{row['name']}: {row['detail']}" for row in section["rows"] if "detail" in row]
    lines.append("time / other: of the medians; then the median of the rounds' ratios (least - most)")
    lines.append("of peak: of the best round's; in round: the median of the shares of each round's own peak")
    return lines


def _row(row):
    shares = ["", "", "", ""]
    if "kept" in row:
        shares = [f"{100 * row['kept']:.1f} %", f"{row['macs'] / 1e9:.2f}"]
        shares += [f"{100 * row[share]:.1f} %" for share in ("share_of_peak", "share_in_round")]
    return [row["name"], spread(row["seconds"]), *shares]


def _ratios(row, against):
    return [compared(row["ratios"][name]) if "ratios" in row else "" for name in against]


def spread(seconds, scale=1e3):
    """Return "median (least - most)" in milliseconds."""
    digits = 3 if seconds["median"] * scale < 10 else 1
    return " ".join(
        (
            f"{seconds['median'] * scale:.{digits}f}",
            f"({seconds['least'] * scale:.{digits}f} - {seconds['most'] * scale:.{digits}f})",
        )
    )


def compared(found):
    """Return "ratio of medians; median of ratios (least - most)"."""
    return f"{found['of_medians']:.3f}; {found['median']:.3f} ({found['least']:.3f} - {found['most']:.3f})"


def layer_lines(name, found, section):
    """Return the table of a network's steps, the sum, and what is outside the steps."""
    total = found["total"]
    table = [["step", "kind", "ms, median (least - most)", "% of all", "MMAC", "MB", "GFLOP/s", "bound", "reached"]]
    for row in found["steps"]:
        table.append(
            [
                *(row["name"], row["kind"], spread(row["seconds"]), f"{100 * row['seconds']['median'] / total:.2f}"),
                *(f"{row['macs'] / 1e6:.1f}" if row["macs"] else "", f"{row['bytes'] / 1e6:.2f}"),
                *(f"{row['gflops']:.1f}" if row["macs"] else "", row["bound"], f"{100 * row['share']:.0f} %"),
            ]
        )
    for label, value in (("all steps", found["sum"]), ("outside the steps", found["outside"]), ("whole", total)):
        table.append([label, "", f"{value * 1e3:.1f}", f"{100 * value / total:.2f}", "", "", "", "", ""])
    head = f"steps of {name}, {section['threads']} thread(s); reached: share of the peak or of the memory's speed, "
    return [f"{head}whichever bounds (above 100 %: caches)", *columns(table)]


def ops_lines(document):
    """Return the lines of the document of `pagnp bench ops`."""
    lines = []
    for section in document["sections"]:
        alone = [group for group in section["groups"] if group["rows"][0]["name"] != "dense"]
        lines += ["", f"{section['threads']} thread(s)"]
        if alone:
            lines += ["", *alone_lines(alone)]
        for group in section["groups"]:
            if group not in alone:
                lines += ["", *group_lines(group)]
    return lines


def alone_lines(groups):
    """Return one table of all layers that stand for themselves."""
    against = list(dict.fromkeys(name for group in groups for name in group["rows"][0]["ratios"]))
    table = [[*OP_COLUMNS, *(f"time / {name}" for name in against)]]
    for group in groups:
        row = group["rows"][0]
        ratios = [compared(row["ratios"][name]) if name in row["ratios"] else "" for name in against]
        table.append([group["title"], *_work(row), *ratios])
    return columns(table)


OP_COLUMNS = ("layer", "ms, median (least - most)", "MMAC", "GFLOP/s", "bound", "reached")


def _work(row):
    speed = f"{row['gflops']:.1f}" if row["macs"] else ""
    macs = f"{row['macs'] / 1e6:.2f}" if row["macs"] else ""
    return [spread(row["seconds"]), macs, speed, row["bound"], f"{100 * row['share']:.0f} %"]


def group_lines(group):
    """Return the table of one layer in several forms, each against the dense one."""
    against = list(dict.fromkeys(name for row in group["rows"] for name in row.get("ratios", {})))
    table = [[group["title"], *OP_COLUMNS[1:], "/ dense / keep", *(f"time / {name}" for name in against)]]
    for row in group["rows"]:
        if "ratios" not in row:
            table.append([row["name"], spread(row["seconds"]), *[""] * (5 + len(against))])
            continue
        keep = row["keep"]
        ideal = f"{row['ratios']['dense']['median'] / keep:.3f}" if keep else ""
        ratios = [compared(row["ratios"][name]) if name in row["ratios"] else "" for name in against]
        table.append([row["name"], *_work(row), ideal, *ratios])
    return columns(table)


def process_lines(document):
    """Return the lines of the document of `pagnp bench process`."""
    lines = [f"{document['network']['name']}, {document['network']['image']}"]
    for section in document["sections"]:
        table = [
            [f"{section['threads']} thread(s)", "s, median (least - most)", "MiB at the peak"],
            *([row["name"], spread(row["seconds"], 1), _mebibytes(row["peak_bytes"])] for row in section["rows"]),
        ]
        lines += ["", *columns(table)]
        for name, found in section["ratios"].items():
            lines.append(f"pagnp / {name}: time {compared(found['seconds'])}, memory {compared(found['peak'])}")
        lines.append(f"import pagnp beyond NumPy's own: {spread(section['import_pagnp'], 1)} s")
    return lines


def _mebibytes(peak):
    return f"{peak['median'] / 2**20:.1f} ({peak['least'] / 2**20:.1f} - {peak['most'] / 2**20:.1f})"


def columns(table):
    """Return the rows of a table as lines, the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    widths[0] = min(widths[0], WIDEST)
    return [
        "  ".join(
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
