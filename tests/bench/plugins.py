"""How fast plugins are by themselves in the sandbox, as the table of docs/performance.md.

    make bench-plugins

Each plugin runs alone, with fuel on, by `weir plugin bench`: lines that weir makes, or those of a golden case, again and
again, in batches as an agent has them. RUNS of all of them take turns, and the best of each is shown: what else the machine
does makes a run slower and never faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

RUNS = 3

MAIN = '{"format": "main"}'
GROK = '{"pattern": "%{COMBINEDAPACHELOG}"}'
CSV = '{"fields": ["time", "level", "host", "method", "path", "status", "bytes", "seconds", "user", "note"]}'
REGEX = (Path(__file__).parent.parent.parent / "plugins/regex/tests/golden/nginx.settings.json").read_text()

# Lines that weir does not make: each a thousand times, with the second that it was written in.
LINES = {
    "rfc5424": '<165>1 2024-05-01T12:%02d:%02d.003Z web-1.example.com shop 8710 ID47 '
    '[origin@32473 ip="10.1.2.3" software="shop"][meta sequenceId="29"] order 4711 paid in 12 ms',
    "logfmt": 'ts=2024-05-01T12:%02d:%02d.123Z level=info caller=main.go:42 msg="order is paid" order=4711 user=jo '
    "duration=12.5ms status=200 bytes=5120 path=/api/orders/4711/pay trace=0af7651916cd43dd8448eb211c80319c",
    "csv": "2024-05-01T12:%02d:%02dZ,info,web-1.example.com,POST,/api/orders/4711/pay,200,5120,0.125,jo,"
    '"order 4711, paid in 12 ms by card ""visa"""',
}

# What the row is called, the plugin, and what it is measured with.
ROWS = [
    ("nginx", "nginx", ["--lines", "nginx", "--settings", MAIN]),
    ("json", "json", ["--lines", "json", "--settings", "{}"]),
    ("syslog, RFC 3164", "syslog", ["--lines", "syslog", "--settings", "{}"]),
    ("syslog, RFC 5424", "syslog", ["--input", "rfc5424", "--settings", "{}"]),
    ("logfmt, ten pairs", "logfmt", ["--input", "logfmt", "--settings", "{}"]),
    ("delimiter, CSV of ten columns", "delimiter", ["--input", "csv", "--settings", CSV]),
    ("regex, nginx lines", "regex", ["--lines", "nginx", "--settings", REGEX]),
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
    built, tools = {}, {**os.environ, "WEIR_TOOLS": str(plugins.resolve().parent / "tmp" / "tools")}
    for language in ("python", "js"):
        out = plugins / f"examples-{language}"
        example = project / "sdk" / language / "examples" / "nginx"
        subprocess.run([weir, "plugin", "build", example, "--out", out], check=True, stdout=subprocess.DEVNULL, env=tools)
        built[language] = out / "nginx.wasm"
    inputs = plugins / "lines"
    inputs.mkdir(exist_ok=True)
    for name, line in LINES.items():
        (inputs / name).write_text("".join(line % (i // 60 % 60, i % 60) + "\n" for i in range(1000)))
    best: dict[str, tuple[int, dict[str, float]]] = {}
    for _ in range(RUNS):
        for row, name, arguments in ROWS:
            arguments = [str(inputs / a) if a in LINES else a for a in arguments]
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
