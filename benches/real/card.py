#!/usr/bin/env python3
"""Writes the tables of benches/real/README.md from benches/real/results/*.json; `--check` says whether they are those.

    python3 benches/real/card.py [--check]
"""
import statistics
import sys

sys.dont_write_bytecode = True
from results import EMOJI, HERE, load

PAGE = HERE / "README.md"
BEGIN, END = "<!-- card:begin, written by benches/real/card.py -->", "<!-- card:end -->"


def figures(results, name, split, key):
    """{method: its shares, one for each seed}, in the order of the files: ours, PyTorch's, the baselines'."""
    found = {}
    for result in results:
        if result["set"] == name:
            for row in result["rows"]:
                if row["split"] == split and key in row["scores"]:
                    found.setdefault(row["method"], []).append(row["scores"][key])
    return found


def cell(shares, best):
    if not shares:
        return "–"
    mean = statistics.mean(shares)
    text = f"{100 * mean:.1f}" + (f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else "")
    return f"**{text}**" if round(mean, 4) >= round(best, 4) else text


def table(results, columns):
    """Methods by columns `(title, [(set, split)], key)`; several sets in a column are their mean, seed by seed."""
    values, methods = [], {}
    for _, places, key in columns:
        each = [figures(results, name, split, key) for name, split in places]
        column = {}
        for method in each[0]:
            if all(method in of for of in each):
                column[method] = [statistics.mean(seed) for seed in zip(*(of[method] for of in each))]
        for of in each:
            methods.update(dict.fromkeys(of))
        values.append(column)
    best = [max((statistics.mean(shares) for shares in column.values()), default=2) for column in values]
    lines = ["| | " + " | ".join(title for title, _, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method in methods:
        lines.append(f"| {method} | " + " | ".join(cell(column.get(method), top) for column, top in zip(values, best)) + " |")
    return lines


def runs(results):
    """What was trained, and how long."""
    lines = ["| | seeds | parameters | CPU-seconds | seconds | command of the first |", "|---|---|---|---|---|---|"]
    groups = {}
    for result in results:
        if "seed" in result:
            groups.setdefault((result["what"], result["set"]), []).append(result)
    for (method, name), group in groups.items():
        mean = lambda key: f"{statistics.mean(known):.0f}" if (known := [one[key] for one in group if key in one]) else "–"
        seeds = ", ".join(str(one["seed"]) for one in group)
        lines.append(f"| {method}, {name} | {seeds} | {group[0]['parameters']:,} | {mean('cpu_seconds')} | {mean('wall_seconds')} | `{group[0]['command']}` |")
    return lines if groups else ["Nothing was trained yet."]


def card():
    order = {"trimodal": 0, "baselines": 2}
    results = sorted(load(), key=lambda result: (order.get(result["what"], 1), result["what"]))
    mean = [(name, "test_style") for name in EMOJI]
    title = lambda name: "without " + name.rsplit("-", 1)[1]
    emoji = lambda key: [("mean of the three", mean, key), *((title(name), [(name, "test_style")], key) for name in EMOJI)]
    stamps = [(f"{title}: {key}", [("stamps", split)], key) for split, title, keys in (
        ("test_recording", "new recording", ("exact", "category", "language")), ("test_stamp", "new stamp", ("category", "language"))) for key in keys]
    machines = sorted({(result["machine"], result["date"]) for result in results})
    return "\n".join([
        "### Emoji in a style never trained on: exact", "", *table(results, emoji("exact")), "",
        "### Emoji in a style never trained on: category", "", *table(results, emoji("category")), "",
        "### Stamps", "", *table(results, stamps), "",
        "### Speech, words never trained on", "", *table(results, [("exact", [("speech", "test_word")], "exact")]), "",
        "### What was trained", "", *runs(results), "",
        "Measured on: " + "; ".join(f"{machine} ({date})" for machine, date in machines) + ".",
    ])


def main():
    page = PAGE.read_text(encoding="utf8")
    before, rest = page.split(BEGIN)
    written = f"{before}{BEGIN}\n{card()}\n{rest[rest.index(END):]}"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if written == page else "benches/real/README.md is not what benches/real/results say: run `python3 benches/real/card.py`")
    PAGE.write_text(written, encoding="utf8")


if __name__ == "__main__":
    main()
