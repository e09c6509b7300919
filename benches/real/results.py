"""The sets, and results as JSON: one file in results/ for each method, set and seed. Needs nothing but Python."""
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "results"
EMOJI = ["emoji-without-facebook", "emoji-without-google", "emoji-without-twitter"]
SETS = [*EMOJI, "stamps", "speech"]
# The splits that are asked about.
TESTS = {**dict.fromkeys(EMOJI, ["test_style"]), "stamps": ["test_recording", "test_stamp"], "speech": ["test_word"]}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def commit():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, text=True, stdout=subprocess.PIPE).stdout.strip()


def save(name, folder=FOLDER, **what):
    """FOLDER/NAME.json, with date, machine and commit."""
    stamp = {"date": datetime.date.today().isoformat(), "machine": f"{processor()}, {os.cpu_count()} cores", "commit": commit()}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    partial = file.with_suffix(".tmp")  # a result is there whole, or not
    partial.write_text(json.dumps({**what, **stamp}, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    partial.replace(file)
    print(file, file=sys.stderr)


def load(folder=FOLDER):
    return [json.loads(file.read_text(encoding="utf8")) for file in sorted(folder.glob("*.json"))]
