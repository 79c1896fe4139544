"""From raw measurements to the table: medians over rounds, ratios, and what they were measured under."""

from statistics import median

DDP = ("ddp 2x1", "ddp 2x1 cl")
SINGLE = ("single 1x2", "single 1x2 cl")
STOCK = ("stock ddp 2x1", "stock single 1x2")
OURS, ALONE, SAME_BITS = "phalanx 2", "phalanx 1", "phalanx 2 reproducible"

# what two ranks should reach, as a multiple of DDP
TARGETS = {
    "mlp 128": 2.5,
    "mlp 1024": 1.3,
    "lenet5 128": 2.0,
    "lenet5 1024": 2.0,
    "cnn 128": 1.3,
    "cnn 1024": 1.3,
    "gpt 128": 1.3,
    "gpt 1024": 1.3,
}


class Samples:
    """The measurements of one row, by variant and in the order of the rounds."""

    def __init__(self, records):
        self.by_variant = {}
        for record in records:
            self.by_variant.setdefault(record["variant"], []).append(record)

    def value(self, variant, key):
        """The median over rounds, or None where the variant did not run or does not know."""
        found = [r[key] for r in self.by_variant.get(variant, []) if r.get(key) is not None]
        return median(found) if found else None

    def best(self, variants, key="samples_s_median"):
        """The fastest of some variants."""
        ran = [v for v in variants if self.value(v, key) is not None]
        return max(ran, key=lambda v: self.value(v, key), default=None)

    def ratio(self, variant, base, key="samples_s_median"):
        """How many times `base` the variant is."""
        ours, theirs = self.value(variant, key), self.value(base, key)
        return ours / theirs if ours and theirs else None

    def spread(self, variant, base):
        """The ratio's least and greatest value over rounds run side by side."""
        by_round = {r["round"]: r["samples_s_median"] for r in self.by_variant.get(base, [])}
        pairs = [(r["samples_s_median"], by_round.get(r["round"])) for r in self.by_variant.get(variant, [])]
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        return f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "-"


def summary(records, failures):
    """The page of a run, in markdown; a measurement that failed is a line of it."""
    rows = {}
    for record in records:
        rows.setdefault(record["row"], []).append(record)
    rows = {name: Samples(found) for name, found in rows.items()}
    rounds = max(r["round"] for r in records)
    busy = sum(r["foreign_cores"] > 0.2 for r in records)
    stolen = sum(r["stolen_cores"] > 0.02 for r in records)
    return "\n\n".join(
        [
            "# phalanx and PyTorch, the same step on the same cores",
            f"Medians over {rounds} rounds, variants interleaved. A sample of gpt is a sequence of 128 bytes. "
            f"During {busy} of {len(records)} measurements others used more than 0.2 cores, "
            f"during {stolen} the host took more than 0.02.",
            _table(_speed, rows),
            "`DDP`: the faster of plain and channels-last (cl), two processes of one thread, gloo, allocator tuned. "
            "`single`: the same for one process of two threads. `/ DDP` in brackets: least and greatest round. "
            "`calm`: the same ratio from each side's quickest half second.",
            "## Every variant, samples/s: median (calm)",
            _table(_variants, rows),
            "## Peak memory, MB, processes summed",
            _table(_memory, rows),
            "`without import and data`: PyTorch less what `import torch` takes and its data set, for the share that training itself needs.",
            *(f"Failed: {failure}" for failure in failures),
        ]
    ) + "\n"


def _speed(name, row):
    ddp, single = row.best(DDP), row.best(SINGLE)
    target = TARGETS.get(name)
    return {
        "row": name,
        "phalanx": _count(row.value(OURS, "samples_s_median")),
        "DDP": _named(row, ddp),
        "single": _named(row, single),
        "/ DDP": f"{_times(row.ratio(OURS, ddp))} ({row.spread(OURS, ddp)})",
        "target": f"{target}x" if target else "-",
        "calm": _times(row.ratio(OURS, row.best(DDP, "samples_s_calm"), "samples_s_calm")),
        "/ single": _times(row.ratio(OURS, single)),
        "/ stock DDP": _times(row.ratio(OURS, STOCK[0])),
        "2 ranks / 1": _times(row.ratio(OURS, ALONE)),
        "reproducible / fast": _times(row.ratio(SAME_BITS, OURS)),
    }


def _variants(name, row):
    def cell(variant):
        middle, calm = row.value(variant, "samples_s_median"), row.value(variant, "samples_s_calm")
        return f"{_count(middle)} ({_count(calm)})" if middle else "-"

    return {"row": name} | {variant: cell(variant) for variant in (OURS, ALONE, SAME_BITS, *DDP, *SINGLE, *STOCK)}


def _memory(name, row):
    ddp = row.best(DDP)
    ours, theirs = row.value(OURS, "peak_rss_mb"), row.value(ddp, "peak_rss_mb")
    fixed = row.value(ddp, "fixed_mb")
    used, predicted = row.value(OURS, "arena_mb"), row.value(OURS, "arena_predicted_mb")
    return {
        "row": name,
        "phalanx": _count(ours),
        "DDP": _count(theirs),
        "phalanx / DDP": f"{ours / theirs:.3f}" if ours and theirs else "-",
        "DDP without import and data": _count(theirs - fixed) if theirs and fixed else "-",
        "stock DDP": _count(row.value(STOCK[0], "peak_rss_mb")),
        "best single": _count(row.value(row.best(SINGLE), "peak_rss_mb")),
        "arena": _count(used),
        "predicted": _count(predicted),
        "arena / predicted": f"{used / predicted:.3f}" if used and predicted else "-",
    }


def _table(line, rows):
    lines = [line(name, row) for name, row in rows.items()]
    heads = list(lines[0])
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, rule, *(list(cells.values()) for cells in lines)])


def _named(row, variant):
    if variant is None:
        return "-"
    return _count(row.value(variant, "samples_s_median")) + (" cl" if variant.endswith(" cl") else "")


def _count(value):
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _times(value):
    return "-" if value is None else f"{value:.2f}x"
