"""The README's part on GPUs, written from the result files of `make gpu-check`.

python -m clustercl.benchmarks.gpu_show   rewrites what stands between the marks in README.md
"""

import json
from pathlib import Path

from clustercl.files import atomic

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("<!-- from benchmarks/results, by benchmarks/gpu_show.py -->\n", "<!-- end of benchmarks/results -->\n")
NONE = "`make gpu-check` on a machine with a GPU writes `benchmarks/results/<gpu>.json`; there is none yet.\n"


def section(results: Path) -> str:
    """Markdown of all result files in the folder: for each GPU where and when, the loss, the linkage, training."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    return "\n".join(_of_one(one) for one in found) if found else NONE


def _of_one(found: dict) -> str:
    about = found["machine"]
    failed = [step["name"] for step in found["steps"] if not step["passed"]]
    state = f"FAILED: {', '.join(failed) or 'no measurements'}" if not found["passed"] else "all checks passed"
    state += f" ({found['note']})" if "note" in found else ""  # written by hand, where a run needs explaining
    lines = [f"{about['gpu']}, driver {about['driver']}, torch {about['versions']['torch']}, CUDA {about['cuda']}, "
             f"commit {about['commit']}, {about['date']}: {state}.", ""]  # fmt: skip
    if found["loss"]:
        lines += ["| loss, n | d | products | program | forward and backward | in a CUDA graph | memory |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        form = "| {n} | {d} | {precision} | {program} | {milliseconds:.2f} ms | {replayed} | {peak_megabytes:.0f} MB |"
        lines += [form.format(**row, replayed=_replayed(row)) for row in found["loss"]] + [""]
    if found["linkage"]:
        lines += ["| linkage | data | n | d | whole tree | memory | scans per n |", "|---|---|---|---|---|---|---|"]
        form = "| {method} | {data} | {n} | {d} | {milliseconds:.1f} ms | {peak_megabytes:.0f} MB | {scans:.2f} |"
        lines += [form.format(**row) for row in found["linkage"]] + [""]
    if found.get("train"):
        lines += ["| training, task | preset | stage | batch | samples/s | memory | data, one after the other |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        form = "| {task} | {preset} | {stage} | {batch_size} | {samples_per_second:.3g} | {peak_megabytes:.0f} MB |"
        lines += [f"{form.format(**row)} {row['share'].get('data', 0.0):.0%} |" for row in found["train"]] + [""]
    return "\n".join(lines)


def _replayed(row: dict) -> str:
    return "" if (found := row["graph_milliseconds"]) is None else f"{found:.2f} ms"


def with_section(readme: str, results: Path) -> str:
    """The README with its part rewritten. ValueError where the marks are missing."""
    before, _, rest = readme.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise ValueError(f"gpu_show: README.md has no {MARKS[0].strip()} with its end")
    return before + MARKS[0] + section(results) + MARKS[1] + after


def main() -> None:
    path = ROOT / "README.md"
    text = with_section(path.read_text(), ROOT / "benchmarks/results")
    with atomic(path) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
