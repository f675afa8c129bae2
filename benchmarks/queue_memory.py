"""Thirty different prompts queued on one ComfyUI: does its memory stay flat, and what stays on the disk?

`.venv/bin/python benchmarks/queue_memory.py` writes docs/queue_memory.json and docs/queue_memory.png. The text to 4D workflow at
smoke size, with the settings that the launcher gives its hosts, once with each of ComfyUI's caches: the default one keeps every
result until memory is short, --cache-classic those of the last prompt, --cache-none nothing. At the end POST /free.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "host"), str(ROOT / "tests" / "nodes")]

import pack  # noqa: E402

pack.load_pack()

import demo_workflows as demo  # noqa: E402
import faults  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402

TREE = ROOT / ".host" if (ROOT / ".host" / "main.py").is_file() else None  # COMFYUI_PATH otherwise
CACHES = {"default": (), "classic": ("--cache-classic",), "none": ("--cache-none",)}
COLOURS = {"default": (31, 119, 180), "classic": (44, 160, 44), "none": (214, 39, 40)}
WARM = 5  # prompts until every allocation pool, cache and thread is there
WIDTH, HEIGHT, MARGIN = 900, 420, 64


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--caches", nargs="+", default=list(CACHES), choices=CACHES)
    parser.add_argument("--environment", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the host beside the launcher's, to compare")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "queue_memory")
    return parser.parse_args()


def memory(server) -> dict:
    """Resident and unshared megabytes of the host's process."""
    info = psutil.Process(server.host.process.pid).memory_full_info()
    return {"rss": round(info.rss / 1e6), "uss": round(info.uss / 1e6)}


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*")) if folder.is_dir() else 0


def measured(server, number: int, prompt: dict) -> dict:
    started = time.monotonic()
    server.run(prompt)
    row = {"prompt": number, "seconds": round(time.monotonic() - started, 1), **memory(server)}
    row |= {"run_files": files(server.base / "output" / "bloom4d" / "runs"), "temp_files": files(server.base / "temp")}
    print(json.dumps(row), flush=True)
    return row


def tensors(server) -> float:
    """Megabytes of tensors that are alive in the host."""
    return round(server.get("/test/objects")["tensor_bytes"] / 1e6, 1)


def queue(name: str, options, folder: Path) -> dict:
    """One host, all prompts, then POST /free."""
    print(name, flush=True)
    base = faults.prepare(folder)
    demo.give_prior(base)
    server = real_host.start(TREE or host.tree(), base, CACHES[name], dict(pair.split("=", 1) for pair in options.environment))
    try:
        started = memory(server)
        rows = [measured(server, number, faults.varied(number)) for number in range(1, options.prompts + 1)]
        held = tensors(server)
        faults.free(server)
        freed = {"tensors": tensors(server), "uss": memory(server)["uss"]}
    finally:
        server.host.stop()
    result = {"growth": round(growth(rows), 4), "started_uss": started["uss"], "tensors": held, "after_free": freed}
    print(json.dumps(result), flush=True)
    return {**result, "prompts": rows}


def growth(rows: list[dict]) -> float:
    """Resident memory after the last five prompts against the five from prompt 5 on (medians)."""
    late, early = rows[-WARM:], rows[WARM - 1 : 2 * WARM - 1]
    return statistics.median(row["rss"] for row in late) / statistics.median(row["rss"] for row in early) - 1.0


def draw(results: dict) -> Image.Image:
    """Resident memory over the prompts, a line for each cache."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    rows = {name: result["prompts"] for name, result in results.items()}
    last = max(len(values) for values in rows.values()) + 1
    top = 1.15 * max(row["rss"] for values in rows.values() for row in values)

    def at(number, megabytes):
        return MARGIN + (WIDTH - 2 * MARGIN) * number / last, HEIGHT - 48 - (HEIGHT - 96) * megabytes / top

    for step in range(6):
        level = top * step / 5
        pen.line([at(0, level), at(last, level)], fill=(225, 225, 225))
        pen.text((6, at(0, level)[1] - 8), f"{level:.0f}", fill="black", font=font)
    for place, (name, values) in enumerate(rows.items()):
        pen.line([at(row["prompt"], row["rss"]) for row in values], fill=COLOURS[name], width=3)
        label = f"{name} cache: {results[name]['growth']:+.1%} after prompt {WARM}"
        pen.text((MARGIN + 270 * place, 28), label, fill=COLOURS[name], font=font)
    pen.text((MARGIN, 6), "resident memory of one ComfyUI in MB, after each of its prompts", fill="black", font=font)
    for number in range(5, last, 5):
        pen.text((at(number, 0)[0] - 8, HEIGHT - 42), str(number), fill="black", font=font)
    pen.text((WIDTH // 2 - 30, HEIGHT - 24), "prompts", fill="black", font=font)
    return sheet


def main() -> int:
    options = parse()
    results = {}
    for name in options.caches:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = queue(name, options, Path(folder) / "base")
    command = "benchmarks/queue_memory.py " + " ".join(sys.argv[1:])
    settings = {**host.CPU_SETTINGS, **dict(pair.split("=", 1) for pair in options.environment)}
    document = {"command": command.strip(), "environment": settings, "caches": results}
    options.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(results).save(options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
