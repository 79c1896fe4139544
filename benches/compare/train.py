"""Trains the same models with phalanx and PyTorch in turns, and writes how they compare.

    python3 benches/compare/train.py --text shakespeare.txt

Needs `install_peers.sh` and a release build of phalanx; itself it needs nothing but Python. Rounds are the
outer loop and variants the inner one, so that a machine that slows down slows all of them down.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import machine
import table
from variants import ROWS, VARIANTS, Phalanx

REPOSITORY = Path(__file__).resolve().parents[2]
PHALANX = (
    "target/release/phalanx bench-step benches/compare/runs/{model}.toml --set data.path={data} --set train.batch={batch}"
    " --set train.ranks={ranks} --steps {steps}"
)
COLUMNS = ["row", "model", "batch", "round", "variant", "steps", "samples_s_median", "samples_s_calm", "peak_rss_mb"]
COLUMNS += ["fixed_mb", "arena_mb", "arena_predicted_mb", "first_step_s", "foreign_before", "foreign_cores", "stolen_cores", "at"]


class Arguments(argparse.Namespace):
    """The command line as meant."""

    def steps_of(self, row):
        """The steps timed in one round, never fewer than two."""
        return max(2, round(row.steps * self.scale))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of a round")
    parser.add_argument("--rows", help="of these models or rows only, as `cnn` or `mlp-128`, with commas between")
    parser.add_argument("--variants", help="of these variants only, with commas between")
    parser.add_argument("--python", default=str(REPOSITORY / "target/peers/bin/python"), help="has torch")
    parser.add_argument("--phalanx", default=PHALANX, help="command; also knows {data}, {text} and {images}")
    parser.add_argument("--torch-only", action="store_true")
    parser.add_argument("--images", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--text", type=lambda path: Path(path).resolve(), help="text for gpt, any UTF-8 file")
    parser.add_argument("--quiet-wait", type=float, default=60, help="seconds to wait for a quiet machine")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one measurement")
    parser.add_argument("--machine", default=machine.slug(), help="names the directory of the run")
    parser.add_argument("--out", type=Path, help="default: benches/runs/DATE-MACHINE")
    args = parser.parse_args(namespace=Arguments())
    if args.text is None and any(row.model == "gpt" for row in chosen_rows(args)):
        parser.error("gpt needs --text")
    return args


def chosen_rows(args):
    wanted = args.rows.split(",") if args.rows else None
    return [row for row in ROWS if wanted is None or row.model in wanted or f"{row.model}-{row.batch}" in wanted]


def chosen_variants(args):
    wanted = args.variants.split(",") if args.variants else [variant.name for variant in VARIANTS]
    return [v for v in VARIANTS if v.name in wanted and not (args.torch_only and isinstance(v, Phalanx))]


def measure(row, variant, args):
    """Runs one variant once; its JSON line with the sums over processes."""
    before = machine.wait_until_quiet(args.quiet_wait)
    with machine.Load() as load:
        report = together(variant.commands(row, args), args.timeout)
    if isinstance(report["peak_rss_mb"], list):
        processes = len(report["peak_rss_mb"])
        report["peak_rss_mb"] = sum(report["peak_rss_mb"])
        report["fixed_mb"] = processes * (report["import_rss_mb"] + report["data_mb"])
    facts = {"row": row.name, "model": row.model, "batch": row.batch, "variant": variant.name, "steps": args.steps_of(row)}
    load_facts = {"foreign_before": round(before, 3), "foreign_cores": round(load.cores, 3)}
    load_facts["stolen_cores"] = round(load.stolen_cores, 3)
    return report | facts | load_facts | {"at": time.strftime("%Y-%m-%dT%H:%M:%S")}


def together(commands, timeout):
    """Starts all processes of a variant, waits for them, and reads what the first one printed."""
    started = []
    try:
        for argv, env in commands:
            argv = [str(part) for part in argv]
            pipe = subprocess.DEVNULL if started else subprocess.PIPE
            started.append(subprocess.Popen(argv, env=env, stdout=pipe, text=True, cwd=REPOSITORY))
        end = time.monotonic() + timeout
        printed, _ = started[0].communicate(timeout=timeout)
        for process in started:
            process.wait(max(1.0, end - time.monotonic()))
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    failed = [process.returncode for process in started if process.returncode]
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if failed or not lines:
        command = shlex.join(str(word).replace(f"{REPOSITORY}/", "") for word in commands[0][0])
        raise RuntimeError(f"{command}: exit codes {[p.returncode for p in started]}, no figures")
    return json.loads(lines[-1])


def main():
    args = arguments()
    out = args.out or REPOSITORY / "benches" / "runs" / f"{time.strftime('%Y-%m-%d')}-{args.machine}"
    out.mkdir(parents=True, exist_ok=True)
    (out / "SETUP").write_text(machine.setup(args.python, "not run" if args.torch_only else args.phalanx))
    records, failures = [], []
    with open(out / "raw.csv", "w", newline="") as file:
        raw = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        raw.writeheader()
        for number in range(1, args.rounds + 1):
            for row in chosen_rows(args):
                for variant in chosen_variants(args):
                    if not variant.suits(row):
                        continue
                    try:
                        record = measure(row, variant, args) | {"round": number}
                    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
                        # one variant that runs out of memory or time does not cost the others their sitting
                        failures.append(f"{number}/{args.rounds} {row.name}, {variant.name}: {error}")
                        print(failures[-1], file=sys.stderr)
                        continue
                    records.append(record)
                    raw.writerow(record)
                    file.flush()
                    print(
                        f"{number}/{args.rounds} {row.name}, {variant.name}: {record['samples_s_median']:,.0f} samples/s, "
                        f"{record['peak_rss_mb']:,.0f} MB, others {record['foreign_cores']:.2f} cores",
                        file=sys.stderr,
                    )
                # again after each row, so that an interrupted sitting leaves a table too
                if records:
                    (out / "summary.md").write_text(table.summary(records, failures))
    if not records:
        sys.exit("nothing could be measured")
    print(table.summary(records, failures))


if __name__ == "__main__":
    main()
