"""All-reduces over MPI: phalanx beside MPI_Allreduce and gloo, in turns, on one node and between virtual ones.

    cargo xtask mpi
    CARGO_TARGET_DIR=target/mpi cargo build --release -p phalanx-comm-mpi --features mpi --example all_reduce_ways
    benches/compare/install_peers.sh target/peers                            # for gloo
    sudo target/mpi/release/phalanx cluster --name bench up --slots 2 2      # for the settings between nodes
    python3 benches/compare/all_reduce.py --out benches/runs/DATE-all-reduce-mpi
    sudo target/mpi/release/phalanx cluster --name bench down

Rounds are the outer loop, settings and libraries the inner one. Within a run of `all_reduce_ways` phalanx and MPI take turns
themselves, round by round.
"""

import argparse
import csv
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import machine

REPOSITORY = Path(__file__).resolve().parents[2]
PHALANX = REPOSITORY / "target/mpi/release/phalanx"
WAYS = REPOSITORY / "target/mpi/release/examples/all_reduce_ways"
SIZES = [1 << shift for shift in range(2, 29, 2)]
SHORT = [size for size in SIZES if size <= 1 << 26]
CLUSTER = Path("/run/phalanx-cluster/bench")
BUSY = "--oversubscribe --bind-to none --mca mpi_yield_when_idle 1"

# a name, ranks, nodes, lengths
SETTINGS = [
    ("2 ranks of a node", 2, 1, SIZES),
    ("4 ranks of a node", 4, 1, SHORT),
    ("2 nodes of a rank", 2, 2, SIZES),
    ("2 nodes of 2 ranks", 4, 2, SHORT),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default=str(REPOSITORY / "target/peers/bin/python"), help="has torch")
    parser.add_argument("--only", help="settings whose names hold this")
    parser.add_argument("--timeout", type=float, default=300)
    args = parser.parse_args()
    settings = [setting for setting in SETTINGS if (args.only or "") in setting[0]]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "SETUP").write_text(machine.setup(args.python, str(WAYS.relative_to(REPOSITORY))))
    records = []
    for turn in range(args.rounds):
        for name, ranks, nodes, sizes in settings:
            print(f"round {turn + 1}: {name}", file=sys.stderr)
            found = ours(ranks, nodes, sizes, args.timeout)
            if name == SETTINGS[0][0]:
                found += gloo(args.python, sizes, args.timeout)
            records += [(name, turn, *record) for record in found]
            write(args.out, records)


def ours(ranks, nodes, sizes, timeout):
    """(bytes, way, microseconds) of all ways of `all_reduce_ways`."""
    words = f"mpirun -n {ranks} {BUSY if ranks > 2 or nodes > 1 else ''}"
    if nodes > 1:
        shell = shlex.quote(f"ssh -F {CLUSTER}/ssh_config")
        net = "10.77.0.0/24"
        words += f" --hostfile {CLUSTER}/hosts --map-by node --mca plm_rsh_agent {shell}"
        words += f" --mca btl_tcp_if_include {net} --mca oob_tcp_if_include {net}"
    # the ways are compared where hosts are nodes
    command = shlex.split(words) + [str(WAYS), "0", *map(str, sizes)]
    if nodes > 1:
        command = [str(PHALANX), "cluster", "--name", "bench", "on", "1", *command]
    lines = run(command, timeout)
    header = next(i for i, line in enumerate(lines) if line.split()[:1] == ["bytes"])
    ways = lines[header].replace("in chunks", "in-chunks").split()[1:]
    rows = [line.split() for line in lines[header + 1 :] if line.split()[0].isdigit()]
    return [(int(row[0]), way, float(micros)) for row in rows for way, micros in zip(ways, row[1:], strict=True)]


def gloo(python, sizes, timeout):
    lines = run([python, str(Path(__file__).with_name("all_reduce_gloo.py")), *map(str, sizes)], timeout)
    return [(int(size), "gloo", float(micros)) for size, micros in (line.split() for line in lines)]


def run(command, timeout):
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    env = os.environ | root | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    machine.wait_until_quiet(30)
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, cwd=REPOSITORY)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout.strip().splitlines()


def write(out, records):
    with (out / "raw.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("setting", "round", "bytes", "way", "us"), *records])
    (out / "summary.md").write_text(page(records))


def page(records):
    """Medians over rounds, and ratios of what MPI takes to what phalanx takes."""
    lines = [
        "# All-reduces over MPI",
        "",
        "Microseconds a call, medians over rounds; what ran where is in `SETUP`, every measurement in `raw.csv`. phalanx is what",
        "training calls (`start_all_reduce`, waited for at once; the faster of flat and hierarchical, as `comm.algorithm` chooses);",
        "blocking is its call for numbers that are needed at once. MPI is one `MPI_Allreduce`, chunked is that in pieces of 1 MiB.",
        "A ratio says how many times faster phalanx is (the faster of its two calls up to 16 KiB); in brackets the least and the",
        "greatest of a round.",
    ]
    for name in dict.fromkeys(record[0] for record in records):
        rows = [record for record in records if record[0] == name]
        peers = [way for way in ("allreduce", "in-chunks", "gloo") if any(row[3] == way for row in rows)]
        titles = {"allreduce": "MPI", "in-chunks": "chunked", "gloo": "gloo"}
        heads = ["bytes", "phalanx", "blocking", *(titles[way] for way in peers), *(f"x {titles[way]}" for way in peers)]
        lines += ["", f"## {name}", "", "| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
        for size in dict.fromkeys(row[2] for row in rows):
            lines.append("| " + " | ".join(cells(rows, size, peers)) + " |")
    return "\n".join(lines) + "\n"


def cells(rows, size, peers):
    turns = {}
    for _, turn, _, way, micros in (row for row in rows if row[2] == size):
        turns.setdefault(turn, {})[way] = micros

    def phalanx(ways):
        return min(ways["flat"], ways["hierarchical"])

    def fastest(ways):
        return min(phalanx(ways), ways["blocking"]) if size <= 1 << 14 else phalanx(ways)

    def median(of):
        return f"{statistics.median(of(ways) for ways in turns.values()):.4g}"

    columns = [f"{size:,}", median(phalanx), median(lambda ways: ways["blocking"])]
    columns += [median(lambda ways, peer=peer: ways[peer]) for peer in peers]
    for peer in peers:
        ratios = sorted(ways[peer] / fastest(ways) for ways in turns.values())
        columns.append(f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")
    return columns


if __name__ == "__main__":
    main()
