"""How fast plugins are by themselves in the sandbox, as the table of docs/performance.md.

    make bench-plugins

Each plugin runs alone, with fuel on, by `weir plugin bench`: lines that weir makes, or those of a golden case, again and
again, in batches as an agent has them. RUNS of all of them take turns, and the best of each is shown: what else the machine
does makes a run slower and never faster.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RUNS = 3

MAIN = '{"format": "main"}'
GROK = '{"patterns": ["%{COMBINEDAPACHELOG}"]}'

# What the row is called, the plugin, and what it is measured with.
ROWS = [
    ("nginx", "nginx", ["--lines", "nginx", "--settings", MAIN]),
    ("json", "json", ["--lines", "json", "--settings", "{}"]),
    ("syslog, RFC 3164", "syslog", ["--lines", "syslog", "--settings", "{}"]),
    ("syslog, RFC 5424", "syslog", ["--case", "rfc5424"]),
    ("logfmt", "logfmt", ["--case", "go"]),
    ("delimiter", "delimiter", ["--case", "csv"]),
    ("regex, nginx lines", "regex", ["--case", "nginx"]),
    ("grok, `%{COMBINEDAPACHELOG}`", "grok", ["--lines", "apache", "--settings", GROK]),
    ("Python, nginx lines", "python", ["--lines", "nginx", "--settings", MAIN]),
    ("JavaScript, nginx lines", "js", ["--lines", "nginx", "--settings", MAIN]),
]


def measured(weir: str, wasm: Path, arguments: list[str]) -> tuple[int, dict[str, float]]:
    command = [weir, "plugin", "bench", str(wasm), "--json", *arguments]
    plugin = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["plugins"][0]
    (case,) = plugin["cases"]
    assert case["failed"] == 0 and not case["fault"], f"{wasm} {arguments}: {case}"
    return plugin["size"], case


def main() -> None:
    weir, plugins, project = sys.argv[1], Path(sys.argv[2]), Path(__file__).parent.parent.parent
    built = {}
    for language in ("python", "js"):
        out = plugins / f"examples-{language}"
        example = project / "sdk" / language / "examples" / "nginx"
        subprocess.run([weir, "plugin", "build", example, "--out", out], check=True, stdout=subprocess.DEVNULL)
        built[language] = out / "nginx.wasm"
    best: dict[str, tuple[int, dict[str, float]]] = {}
    for _ in range(RUNS):
        for row, name, arguments in ROWS:
            size, case = measured(weir, built.get(name, plugins / f"{name}.wasm"), arguments)
            if row not in best or case["megabytes_per_second"] > best[row][1]["megabytes_per_second"]:
                best[row] = (size, case)
    print("| plugin | bytes a line | MB/s | fuel a byte | KB |")
    print("|---|---:|---:|---:|---:|")
    for row, (size, case) in best.items():
        rate, length = case["megabytes_per_second"], case["bytes"] / case["events"]
        print(f"| {row} | {length:.0f} | {rate:.0f} | {case['fuel_per_byte']:.1f} | {size / 1000:.0f} |")


if __name__ == "__main__":
    main()
