"""The whole of text to 4D at its full size, once undisturbed and once with its ComfyUI killed three times: are the bytes the same?

`.venv/bin/python benchmarks/kill_and_resume.py` (some twelve minutes on two cores). SIGKILL in stage 1, inside the write of a
checkpoint, and in stage 3; every time a new ComfyUI on the same folders gets the same graph.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "host")]

import demo_workflows as demo  # noqa: E402
import faults  # noqa: E402
import host  # noqa: E402
import kills  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=None, help="ComfyUI tree (default COMFYUI_PATH, or the one the launcher made)")
    parser.add_argument("--prior", type=Path, help="another prior file than the shipped one")
    return parser.parse_args()


def tree(options) -> Path:
    return options.host or (ROOT / ".host" if (ROOT / ".host" / "main.py").is_file() else host.tree())


def graph(options) -> dict:
    """Everything that Save Field depends on, at full size."""
    prompt = demo.only(demo.load("text_to_4d_demo"), "Save field")
    return demo.change(prompt, {"Prior": {"prior": options.prior.name}}) if options.prior else prompt


def base_folder(folder: Path, options) -> Path:
    faults.prepare(folder)
    if options.prior:
        (folder / "models" / "bloom4d").mkdir(parents=True)
        shutil.copy(options.prior, folder / "models" / "bloom4d")
    return folder


def timed(name: str, action):
    started = time.monotonic()
    result = action()
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return result


def describe(events: list, prompt: dict) -> str:
    """How far the last stage that reported had come."""
    states = [state for event in events if event.kind == "progress_state" for state in event.data["nodes"].values() if state["max"] > 1]
    if not states:
        return "a moment before the first step"
    last = states[-1]
    return f"{prompt[last['node_id']]['_meta']['title']}, step {int(last['value'])} of {int(last['max'])}"


def killed(where: Path, prompt: dict, place: Path, name: str, **moment) -> None:
    events = timed(name, lambda: kills.run_until_killed(place, where, prompt, **moment))
    print(f"  killed at {describe(events, prompt)}", flush=True)


def main() -> int:
    options = parse()
    prompt, place = graph(options), tree(options)
    steps = {name: prompt[demo.titled(prompt, name)]["inputs"]["steps"] for name in demo.STAGES}
    with tempfile.TemporaryDirectory() as folder:
        calm, disturbed = base_folder(Path(folder) / "calm", options), base_folder(Path(folder) / "disturbed", options)
        whole = timed("undisturbed", lambda: kills.run_to_the_end(place, calm, prompt))
        killed(disturbed, prompt, place, "first kill, in stage 1", title=demo.STAGES[0], step=steps[demo.STAGES[0]] // 2)
        killed(disturbed, prompt, place, "second kill, inside a checkpoint", write=2)
        print(f"  left on the disk: {', '.join(path.name for path in kills.unfinished(disturbed))}", flush=True)
        killed(disturbed, prompt, place, "third kill, in stage 3", title=demo.STAGES[2], step=steps[demo.STAGES[2]] // 2)
        last = timed("to the end", lambda: kills.run_to_the_end(place, disturbed, prompt))
        files = demo.saved_field(whole, prompt, calm), demo.saved_field(last, prompt, disturbed)
        hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    print("\n".join(hashes), "the same bytes" if hashes[0] == hashes[1] else "DIFFERENT", sep="\n")
    return int(hashes[0] != hashes[1])


if __name__ == "__main__":
    sys.exit(main())
