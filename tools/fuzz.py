"""Feed damaged files, wrong names and wrong prompts to everything that reads them, and count how they are taken.

    .venv/bin/python tools/fuzz.py                                  10,000 cases, counts to docs/fuzz.json
    .venv/bin/python tools/fuzz.py --cases 500 --reader field       one reader
    .venv/bin/python tools/fuzz.py --seed 7                         other cases

Every case must be read or refused in one line that a person understands; the first that is neither is reduced and printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host"))
RESULT = ROOT / "docs" / "fuzz.json"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/fuzz.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="cases in all (default 10,000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all cases (default 1)")
    parser.add_argument("--reader", help="only this reader, by the name that a failure prints")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the counts go when all readers ran (default docs/fuzz.json)")
    return parser.parse_args()


def import_comfy():
    """ComfyUI's modules in this process, on the CPU."""
    import compat
    import pack

    sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]
    sys.path.insert(0, str(HOST))
    if compat.needed():
        compat.apply()
    pack.load_pack()
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.sd  # noqa: F401


def run_one(reader, cases: int, seed: int, found: dict) -> None:
    """Fuzz one reader and print its counts."""
    from fuzzing.engine import fuzz

    began = time.monotonic()
    ends = fuzz(reader, cases, seed)
    refused = Counter({end: count for end, count in ends.items() if end.startswith("refused")})
    found[reader.name] = {"cases": sum(ends.values()), "taken": sum(ends.values()) - sum(refused.values()), "refused": sum(refused.values()),
                          "different ends": len(ends), "ends": dict(ends.most_common(12))}
    print("{:20} {cases:6} cases  {taken:6} taken  {refused:6} refused  {different ends:4} different ends".format(reader.name, **found[reader.name])
          + f"  {time.monotonic() - began:.0f} s", flush=True)


def run_posted(options, found: dict, wanted) -> None:
    """The readers of a running host."""
    import host
    from fuzzing import plan, posting
    from fuzzing.prompts import Pack

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "custom_nodes").mkdir()
        (base / "custom_nodes" / "bloom4d").symlink_to(ROOT, target_is_directory=True)
        with host.Host(HOST, base / "host.log", host.hermetic_arguments(base), environment={"BLOOM4D_OFFLINE": "1"}) as running:
            target = posting.Target(running.url, None, posting.waiting_run(running.url))
            target.pack = Pack(target.get("/object_info"), "embedded_prior.safetensors")
            for share in plan.of_room("host"):
                reader = share.make(target)
                if not wanted(reader.name):
                    continue
                with posting.watched_host(target, base, share.make is posting.posted_prompts):
                    run_one(reader, share.of(options.cases) if options.reader is None else options.cases, options.seed, found)


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def main() -> int:
    options, tree = arguments(), commit()
    import_comfy()
    from fuzzing import engine, plan

    wanted = lambda name: options.reader in (None, name)  # noqa: E731
    found = {}
    try:
        for share in (*plan.of_room("files"), *plan.of_room("comfy")):
            with tempfile.TemporaryDirectory() as folder:
                reader = share.make(Path(folder))
                if wanted(reader.name):
                    run_one(reader, share.of(options.cases) if options.reader is None else options.cases, options.seed, found)
        run_posted(options, found, wanted)
    except (engine.Broken, BaseExceptionGroup) as broken:
        problems = broken.exceptions if isinstance(broken, BaseExceptionGroup) else [broken]
        print("\n\n".join(str(problem) for problem in problems), file=sys.stderr)
        return 1
    if options.reader is None:
        total = {key: sum(entry[key] for entry in found.values()) for key in ("cases", "taken", "refused")}
        options.out.write_text(json.dumps({"seed": options.seed, "commit": tree, **total, "readers": found}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{total['cases']} cases, {total['taken']} taken, {total['refused']} refused, none broke a rule; counts in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
