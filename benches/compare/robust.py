"""Times rules over ranks beside ByzFL and Flower, two threads each, and writes how they compare.

    python3 benches/compare/robust.py

Needs `install_peers.sh --robust` and `cargo build --release -p phalanx-benches --bin rules`. Rounds are the outer loop
and programs the inner one, so that a machine that slows down slows all of them down. A figure is the median over
rounds of each program's best call, so that neither pays for the other's load.
"""

import argparse
import csv
import json
import os
import subprocess
import time
from pathlib import Path
from statistics import median

import machine

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = ("byzfl-numpy", "byzfl-torch", "flower", "flower-messages", "reference")
COLUMNS = ["rule", "n", "d", "f", "round", "program", "ms_best", "ms_median", "runs", "extra_mb", "error", "foreign_cores", "at"]

# what a rule should reach, as a multiple of the faster peer
USUAL = 10.0
EASIER = {("trimmed-mean", 50): 5.0, ("trimmed-mean", 100): 5.0, ("krum", 50): 5.0}

RULES = {
    "median": ("byzfl-numpy", "byzfl-torch", "flower"),
    "trimmed-mean": ("byzfl-numpy", "byzfl-torch", "flower"),
    "mea-med": ("byzfl-numpy", "byzfl-torch"),
    "krum": ("byzfl-numpy", "byzfl-torch", "flower", "flower-messages"),
    "multi-krum": ("byzfl-numpy", "byzfl-torch", "flower", "flower-messages"),
    "bulyan": ("flower",),
    "geometric-median": ("byzfl-numpy", "byzfl-torch"),
    "centered-clipping": ("byzfl-numpy", "byzfl-torch"),
    "mda": ("byzfl-numpy", "byzfl-torch"),
    "caf": ("byzfl-numpy", "byzfl-torch"),
    "nnm": ("byzfl-numpy", "byzfl-torch"),
    "nnm-trimmed-mean": ("byzfl-numpy", "byzfl-torch"),
    "multi-metrics": ("reference",),
}
# timed, with no target
UNTARGETED = ("mea-med", "caf", "nnm-trimmed-mean")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of calls in one measurement")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a program is given up")
    parser.add_argument("--rules", default=",".join(RULES), help="these rules only, with commas between")
    parser.add_argument("--n", default="10,25,50,100")
    parser.add_argument("--d", default="100000,1000000,10000000", help="sizes whose n d is above the limit are left out")
    parser.add_argument("--limit", type=float, default=2.5e8, help="the greatest n d")
    parser.add_argument("--python", default=str(REPOSITORY / "target/peers/bin/python"), help="has byzfl and flwr")
    parser.add_argument("--program", default=str(REPOSITORY / "target/release/rules"))
    parser.add_argument("--machine", default=machine.slug(), help="names the directory of the run")
    parser.add_argument("--out", type=Path, help="default: benches/runs/DATE-MACHINE-robust")
    return parser.parse_args()


def hostile(rule, n):
    """A fifth of the vectors; for Bulyan as many as it bears."""
    return max(1, (n - 3) // 4) if rule == "bulyan" else n // 5


def measure(command, args):
    """What a program printed, or why it did not."""
    env = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "FLWR_TELEMETRY_ENABLED": "0"}
    # the data are made within the limit as well
    limit = args.timeout + 30
    try:
        with machine.Load() as load:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=env, cwd=REPOSITORY)
    except subprocess.TimeoutExpired:
        return {"error": f"over {args.timeout:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": f"exit code {done.returncode}"}
    return json.loads(lines[-1]) | {"foreign_cores": round(load.cores, 3)}


def sizes(args):
    pairs = [(int(n), int(d)) for d in args.d.split(",") for n in args.n.split(",")]
    return [(n, d) for n, d in pairs if n * d <= args.limit]


def main():
    args = arguments()
    out = args.out or REPOSITORY / "benches" / "runs" / f"{time.strftime('%Y-%m-%d')}-{args.machine}-robust"
    out.mkdir(parents=True, exist_ok=True)
    (out / "SETUP").write_text(machine.setup(args.python, args.program))
    records, given_up = [], set()
    with open(out / "raw.csv", "w", newline="") as file:
        raw = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        raw.writeheader()
        for number in range(1, args.rounds + 1):
            for n, d in sizes(args):
                for rule in ["read", *args.rules.split(",")]:
                    f = hostile(rule, n)
                    command = [args.program, rule, n, d, f if rule != "read" else 0, 2, args.seconds]
                    programs = {"phalanx": command}
                    for peer in RULES.get(rule, ()):
                        if (rule, n, d, peer) not in given_up:
                            here = Path(__file__).with_name("robust_peers.py")
                            programs[peer] = [args.python, here, peer, rule, n, d, f, args.seconds]
                    for program, argv in programs.items():
                        found = measure([str(part) for part in argv], args)
                        if "error" in found:
                            given_up.add((rule, n, d, program))
                        facts = {"rule": rule, "n": n, "d": d, "f": f, "round": number, "program": program}
                        record = facts | found | {"at": time.strftime("%Y-%m-%dT%H:%M:%S")}
                        records.append(record)
                        raw.writerow(record)
                        file.flush()
                        print(record, flush=True)
            (out / "summary.md").write_text(summary(records))
    print(out / "summary.md")


def summary(records):
    """The table, in markdown."""
    cells, errors = {}, {}
    for record in records:
        key = (record["rule"], record["n"], record["d"])
        if record.get("ms_best") is not None:
            cells.setdefault(key, {}).setdefault(record["program"], []).append(record)
        else:
            errors.setdefault(key, {})[record["program"]] = record["error"]
    lines = [
        "# Rules over ranks beside ByzFL and Flower",
        "",
        "Milliseconds of the best call, the median over rounds; two threads each. *read*: the time to read the input once,",
        "in the same sitting. *share*: of the bandwidth of reading. *extra*: peak memory above the input, as a share of it;",
        "`nnm` returns its vectors, which are 1.00 of it.",
        "",
        "| rule | n | d | phalanx | read | share | extra | best peer | its ms | times | target |",
        "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for key, programs in cells.items():
        rule, n, d = key
        if rule == "read" or "phalanx" not in programs:
            continue
        best = {program: median(r["ms_best"] for r in found) for program, found in programs.items()}
        ours = best.pop("phalanx")
        reading = median(r["ms_best"] for r in cells[("read", n, d)]["phalanx"])
        extra = median(r["extra_mb"] for r in programs["phalanx"]) * 2**20 / (n * d * 4)
        peer = min(best, key=best.get, default=None)
        failed = "; ".join(f"{p}: {why}" for p, why in errors.get(key, {}).items() if why != "not there")
        name = (peer or "-") + (f" ({failed})" if failed else "")
        target = "-" if rule in UNTARGETED else f"{EASIER.get((rule, n), USUAL):.0f}x"
        times = f"{best[peer] / ours:.1f}x" if peer else "met"
        theirs = f"{best[peer]:.1f}" if peer else "-"
        share = f"{reading / ours:.2f}"
        lines.append(f"| {rule} | {n} | {d:,} | {ours:.2f} | {reading:.2f} | {share} | {extra:.2f} | {name} | {theirs} | {times} | {target} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
