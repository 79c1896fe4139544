"""Training on two ranks over MPI: beside two ranks that are threads, and between two virtual nodes.

    cargo xtask mpi
    sudo target/mpi/release/phalanx cluster --name bench up --slots 2 2
    python3 benches/compare/mpi_train.py --text shakespeare.txt --out benches/runs/DATE-mpi-train
    sudo target/mpi/release/phalanx cluster --name bench down

The share of the communication that backward hides is one less what is exposed, as a share of what is exposed when the whole gradient
leaves as one bucket, after the backward pass. Rounds are the outer loop.
"""

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import machine

REPOSITORY = Path(__file__).resolve().parents[2]
PHALANX = REPOSITORY / "target/mpi/release/phalanx"
CLUSTER = Path("/run/phalanx-cluster/bench")
LINK = "1gbit"

# model, global batch, steps
LOCAL = [("mlp", 128, 800), ("mlp", 1024, 200), ("lenet5", 128, 300), ("cnn", 128, 60), ("cnn", 1024, 10), ("gpt", 128, 6)]
LINKED = [("mlp", 1024, 60), ("lenet5", 1024, 40), ("cnn", 128, 40), ("cnn", 1024, 8), ("gpt", 128, 5)]
SENT = {
    "none": "",
    "fp16": "--set compression.kind=fp16",
    "powersgd": "--set compression.kind=powersgd --set compression.rank=4",
    "topk": "--set compression.kind=topk --set compression.fraction=0.01",
}
ONE_BUCKET = "--set train.first_bucket_bytes=1GiB --set train.bucket_bytes=1GiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text", type=lambda path: Path(path).resolve(), help="for gpt; without, its rows are left out")
    parser.add_argument("--images", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--part", choices=["node", "nodes", "both"], default="both")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "SETUP").write_text(machine.setup(sys.executable, str(PHALANX.relative_to(REPOSITORY))))
    records = []
    for turn in range(args.rounds):
        for part, name, row, command in jobs(args):
            print(f"round {turn + 1}: {part} {name} {row}", file=sys.stderr)
            found = run(command)
            records.append((part, row, name, turn, found["step_ms_median"], found["exposed_share"]))
            write(args.out, records)


def jobs(args):
    """(part, variant, row, command) of a round, in turns."""
    if args.part != "nodes":
        for model, batch, steps in rows(LOCAL, args):
            step = bench_step(model, batch, steps, args)
            yield "one node", "threads", f"{model} {batch}", [*step, "--set", "train.ranks=2"]
            yield "one node", "processes", f"{model} {batch}", ["mpirun", "-n", "2", *step]
    if args.part != "node":
        for rate in ("off", LINK):
            for node in ("1", "2"):
                subprocess.run([str(PHALANX), "cluster", "--name", "bench", "rate", node, rate], check=rate != "off")
            shown = "free link" if rate == "off" else "1 Gbit/s"
            for model, batch, steps in rows(LINKED, args):
                for sent, words in SENT.items() if rate != "off" else [("none", "")]:
                    command = over_nodes(bench_step(model, batch, steps, args) + shlex.split(words))
                    yield shown, sent, f"{model} {batch}", command
                    if rate != "off" and sent == "none":
                        yield shown, "one bucket", f"{model} {batch}", [*command, *shlex.split(ONE_BUCKET)]


def rows(all_rows, args):
    return [row for row in all_rows if row[0] != "gpt" or args.text]


def bench_step(model, batch, steps, args):
    data = args.text if model == "gpt" else args.images
    words = f"bench-step benches/compare/runs/{model}.toml --steps {steps} --set data.path={data} --set train.batch={batch}"
    return [str(PHALANX), *shlex.split(words)]


def over_nodes(command):
    net = "10.77.0.0/24"
    words = f"mpirun -n 2 --bind-to none --hostfile {CLUSTER}/hosts --map-by node --wdir {shlex.quote(str(REPOSITORY))}"
    words += f" --mca plm_rsh_agent {shlex.quote(f'ssh -F {CLUSTER}/ssh_config')}"
    words += f" --mca btl_tcp_if_include {net} --mca oob_tcp_if_include {net}"
    return [str(PHALANX), "cluster", "--name", "bench", "on", "1", *shlex.split(words), *command]


def run(command):
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    machine.wait_until_quiet(30)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | root, cwd=REPOSITORY)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(lines[-1])


def write(out, records):
    with (out / "raw.csv").open("w", newline="") as file:
        head = ("part", "row", "variant", "round", "step_ms", "exposed_share")
        csv.writer(file).writerows([head, *records])
    (out / "summary.md").write_text(page(records))


def page(records):
    lines = ["# Training over MPI", "", "Milliseconds a step on two ranks, medians over rounds of the median step; `SETUP` tells what ran."]
    names = dict.fromkeys(record[1] for record in records)

    def values(part, row, variant, of):
        return [of(record) for record in records if record[:3] == (part, row, variant)]

    def median(*key, of=lambda record: record[4]):
        found = values(*key, of)
        return statistics.median(found) if found else None

    if any(record[0] == "one node" for record in records):
        lines += ["", "## One node: ranks as threads and as processes", ""]
        lines += ["| | threads | processes | threads / processes, of rounds |", "|---|---:|---:|---:|"]
        for row in names:
            pair = [values("one node", row, variant, lambda record: record[4]) for variant in ("threads", "processes")]
            if all(pair):
                ratios = sorted(a / b for a, b in zip(*pair))
                shown = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})"
                lines.append(f"| {row} | {statistics.median(pair[0]):.3f} | {statistics.median(pair[1]):.3f} | {shown} |")
    if any(record[0] == "1 Gbit/s" for record in records):
        lines += ["", "## Two virtual nodes, 1 Gbit/s each way", ""]
        lines += ["Exposed is what of a step the rank waited for others. Hidden is one less what is exposed as a share of what is when"]
        lines += ["the gradient leaves as one bucket after the backward pass.", ""]
        heads = ["", "free link", *SENT, "one bucket", "exposed", "exposed, one bucket", "hidden"]
        lines += ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
        for row in names:
            steps = [median("free link", row, "none"), *(median("1 Gbit/s", row, sent) for sent in [*SENT, "one bucket"])]
            exposed = [median("1 Gbit/s", row, sent, of=lambda r: r[4] * r[5]) for sent in ("none", "one bucket")]
            if None in steps + exposed:
                continue
            hidden = f"{1 - exposed[0] / exposed[1]:.0%}" if exposed[1] else "-"
            lines.append("| " + " | ".join([row, *(f"{ms:.2f}" for ms in steps + exposed), hidden]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
