"""Prints the final test accuracy of every rule under every attack as a Markdown table.

    python3 launch/byzantine_table.py OUT

OUT is what `launch/byzantine.sh OUT` left. A run that ended with an error is a cross, one that is not there a blank; with
several seeds, the mean and the least stand there. Accuracies are in percent.
"""

import json
import re
import sys
from pathlib import Path
from statistics import fmean

ORDER = "none sign-flip ipm-0.1 ipm-100.0 opt-ipm alie opt-alie min-max min-sum mimic label-flip gaussian zero nan".split()


def accuracies(out):
    """`{rule: {attack: [accuracy or None, one a seed]}}`."""
    found = {}
    for run in sorted(out.glob("*/*-seed-*")):
        rule = re.fullmatch(r"(.*)-seed-\d+", run.name).group(1)
        ended = [run / "summary.json", run / "failure.json"]
        if ended[0].exists():
            accuracy = json.loads(ended[0].read_text()).get("test_accuracy")
        elif ended[1].exists():
            accuracy = None
        else:
            continue
        found.setdefault(rule, {}).setdefault(run.parent.name, []).append(accuracy)
    return found


def cell(values):
    if not values:
        return ""
    if None in values:
        return "x"
    mean = f"{100 * fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f})"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = accuracies(Path(sys.argv[1]))
    held = {attack for of_rule in found.values() for attack in of_rule}
    attacks = [attack for attack in ORDER if attack in held] + sorted(held - set(ORDER))
    print("| rule | " + " | ".join(attacks) + " |")
    print("|---|" + "---|" * len(attacks))
    for rule, of_rule in sorted(found.items()):
        print(f"| {rule} | " + " | ".join(cell(of_rule.get(attack)) for attack in attacks) + " |")


main()
