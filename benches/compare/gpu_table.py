"""From the raw measurements on a GPU to the page: medians over rounds, ratios, memory, what failed."""

from table import Samples, _count, _table, _times

PRECISIONS = ("f32", "tf32", "bf16")


def summary(records):
    """The page of a run, in markdown."""
    good = [record for record in records if "error" not in record]
    failed = [record for record in records if "error" in record]
    rows = {}
    for record in good:
        rows.setdefault(record["row"], []).append(record)
    rows = {name: Samples(found) for name, found in rows.items()}
    variants = list(dict.fromkeys(record["variant"] for record in good))
    parts = ["# phalanx and PyTorch, the same step on one GPU"]
    if good:
        rounds = max(record["round"] for record in good)
        parts.append(f"Medians over {rounds} rounds. A sample of gpt is a sequence of 128 bytes. f32 is without TF32.")
        for precision in PRECISIONS:
            parts += ratios(rows, [variant for variant in variants if variant.endswith(f" {precision}")], precision)
        parts += ["## Every variant, samples/s: median (calm)", _table(speeds(variants), rows)]
        parts += ["## Peak memory of the card, MB over its idle state", _table(memory(variants, "card_mb"), rows)]
        parts.append("The whole process: context, libraries and what allocators hold. PyTorch's jobs share a process, so that a "
                     "library that one has loaded is counted in those after it.")
        parts += ["## What each side says it takes, MB", _table(own_memory(variants), rows)]
        parts.append("torch: peak allocated / reserved by its allocator, the data set included where it lies on the device. "
                     "phalanx: arena / predicted.")
    parts += [f"Failed: round {r['round']}, {r['row']}, {r['variant']}: {r['error']}" for r in failed]
    return "\n\n".join(parts) + "\n"


def ratios(rows, variants, precision):
    """Each phalanx beside the best of PyTorch in its precision; nothing when either side is missing."""
    ours = [variant for variant in variants if not variant.startswith("torch ")]
    theirs = [variant for variant in variants if variant.startswith("torch ")]
    eager = [variant for variant in theirs if variant.startswith("torch eager ")]
    if not ours or not theirs:
        return []

    def line(name, row, variant):
        quick, calm = row.best(theirs), row.best(theirs, "samples_s_calm")
        plain = row.best(eager)
        return {
            "row": name,
            variant: _count(row.value(variant, "samples_s_median")),
            "best eager": _count(plain and row.value(plain, "samples_s_median")),
            "/ eager": _spread(row, variant, plain),
            "best of PyTorch": _count(quick and row.value(quick, "samples_s_median")),
            "which": quick.removeprefix("torch ").removesuffix(f" {precision}") if quick else "-",
            "/ best": _spread(row, variant, quick),
            "/ best, calm": _times(row.ratio(variant, calm, "samples_s_calm")),
        }

    parts = []
    for variant in ours:
        parts += [f"## {variant}, samples/s", _table(lambda name, row: line(name, row, variant), rows)]
    return parts


def speeds(variants):
    def line(name, row):
        return {"row": name} | {variant: _pair(row, variant, "samples_s_median", "samples_s_calm", "{} ({})") for variant in variants}

    return line


def memory(variants, key):
    return lambda name, row: {"row": name} | {variant: _count(row.value(variant, key)) for variant in variants}


def own_memory(variants):
    def line(name, row):
        keys = {v: ("allocated_mb", "reserved_mb") if v.startswith("torch ") else ("arena_mb", "arena_predicted_mb") for v in variants}
        return {"row": name} | {variant: _pair(row, variant, *keys[variant], "{} / {}") for variant in variants}

    return line


def _pair(row, variant, first, second, form):
    values = [row.value(variant, key) for key in (first, second)]
    return "-" if None in values else form.format(*map(_count, values))


def _spread(row, variant, base):
    ratio = row.ratio(variant, base)
    return "-" if ratio is None else f"{_times(ratio)} ({row.spread(variant, base)})"
