"""Times one aggregation of ByzFL or Flower over made-up vectors; prints a line of JSON.

    python robust_peers.py LIBRARY RULE N D F SECONDS

LIBRARY is byzfl-numpy, byzfl-torch, flower or flower-messages, or `reference` for what neither has. Threads are set by
the caller's environment.
"""

import json
import os
import resource
import sys
import time

import numpy as np

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
MEMORY_LIMIT = 16 << 30


def byzfl_rules(library, x, f):
    """ByzFL's objects are made anew for each call: centered clipping keeps state."""
    import byzfl
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    vectors = torch.from_numpy(x) if library == "byzfl-torch" else x
    d = x.shape[1]
    makers = {
        "mean": byzfl.Average,
        "median": byzfl.Median,
        "trimmed-mean": lambda: byzfl.TrMean(f=f),
        "mea-med": lambda: byzfl.Meamed(f=f),
        "krum": lambda: byzfl.Krum(f=f),
        "multi-krum": lambda: byzfl.MultiKrum(f=f),
        "geometric-median": lambda: byzfl.GeometricMedian(nu=0.1, T=8),
        "centered-clipping": lambda: byzfl.CenteredClipping(L=3, tau=float(d) ** 0.5),
        "mda": lambda: byzfl.MDA(f=f),
        "caf": lambda: byzfl.CAF(f=f),
        "nnm": lambda: byzfl.NNM(f=f),
        "arc": lambda: byzfl.ARC(f=f),
        "nnm-trimmed-mean": lambda: lambda v: byzfl.TrMean(f=f)(byzfl.NNM(f=f)(v)),
    }
    # ARC clips its input in place
    copy = (lambda v: v.clone() if library == "byzfl-torch" else v.copy()) if "arc" in sys.argv else (lambda v: v)
    return {name: (lambda make=make: make()(copy(vectors))) for name, make in makers.items()}


def flower_rules(x, f):
    from flwr.server.strategy import aggregate

    n = len(x)
    results = [([row], 100) for row in x]
    return {
        "mean": lambda: aggregate.aggregate(results),
        "median": lambda: aggregate.aggregate_median(results),
        "trimmed-mean": lambda: aggregate.aggregate_trimmed_avg(results, f / n),
        "krum": lambda: aggregate.aggregate_krum(results, f, 0),
        "multi-krum": lambda: aggregate.aggregate_krum(results, f, n - f),
        "bulyan": lambda: aggregate.aggregate_bulyan(list(results), f, aggregate.aggregate_krum, to_keep=0),
    }


def flower_message_rules(x, f):
    from flwr.common import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.multikrum import select_multikrum
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    def record(row):
        return RecordDict({"arrays": ArrayRecord({"w": Array(row)}), "metrics": MetricRecord({"num-examples": 100})})

    contents = [record(row) for row in x]

    def selected(count):
        return aggregate_arrayrecords(select_multikrum(contents, f, count), "num-examples")["w"].numpy()

    return {"krum": lambda: selected(1), "multi-krum": lambda: selected(len(x) - f)}


def reference_rules(x, _):
    """The published filter, written out in NumPy: no library has it."""
    w0 = np.random.default_rng(1).standard_normal(x.shape[1], dtype=np.float32)

    def multi_metrics():
        models = w0 + x
        cosine = models @ w0 / (np.linalg.norm(models, axis=1) * np.linalg.norm(w0))
        features = np.stack([np.abs(x).sum(axis=1), np.linalg.norm(x, axis=1), cosine]).astype(np.float64)
        gaps = np.abs(features[:, :, None] - features[:, None, :]).sum(axis=2)
        inverse = np.linalg.pinv(np.cov(gaps))
        scores = np.einsum("mk,mj,jk->k", gaps, inverse, gaps)
        kept = np.argsort(scores)[: max(1, int(0.3 * len(x)))]
        return x[kept].mean(axis=0)

    return {"multi-metrics": multi_metrics}


def rules_of(library, x, f):
    if library.startswith("byzfl"):
        return byzfl_rules(library, x, f)
    return {"flower": flower_rules, "flower-messages": flower_message_rules, "reference": reference_rules}[library](x, f)


def main():
    library, rule, n, d, f, seconds = sys.argv[1:]
    n, d, f, seconds = int(n), int(d), int(f), float(seconds)
    x = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    rules = rules_of(library, x, f)
    if rule not in rules:
        print(json.dumps({"error": "not there"}))
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times, started = [], time.perf_counter()
    try:
        while len(times) < 3 or time.perf_counter() - started < seconds:
            begun = time.perf_counter()
            rules[rule]()
            times.append((time.perf_counter() - begun) * 1e3)
            if time.perf_counter() - started > 20 * seconds:
                break
    except (MemoryError, RuntimeError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"}))
        return
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times.sort()
    print(json.dumps({"ms_best": times[0], "ms_median": times[len(times) // 2], "runs": len(times), "extra_mb": extra}))


if __name__ == "__main__":
    main()
