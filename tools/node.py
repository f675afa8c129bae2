"""Make this machine a node of a Ray cluster that runs batches of prompts: `launch.py run --prompts FILE --ray ADDRESS`.

    launch.py node --head                        begin a cluster here; it prints the address
    launch.py node --address=HOST:PORT           join it from another machine
    launch.py run --prompts FILE --ray auto      on any of its machines

Each machine uses its own ComfyUI, models and settings, as `launch.py setup` prepared them there, and needs the same Bloom4D.
Other options go to `ray start` as they are (--port, --num-cpus, --num-gpus, --node-ip-address). Who may use the cluster is whoever
has its token, which lies in ~/.ray/auth_token of the first machine: copy that file to the others. Usage statistics and dashboard
are off. Ctrl-C ends the node.
"""

import os
import subprocess
import sys
from pathlib import Path

import version

TOOLS = Path(__file__).resolve().parent
RAY = [sys.executable, "-m", "ray.scripts.scripts"]  # the program `ray`, of this Python
LABEL = "bloom4d"  # Ray's label of a node that can run our rows: what it runs


def variables() -> dict:
    """What Ray's processes of this machine must find in their environment: our modules, and no word to anybody."""
    paths = [str(TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}


def command(arguments: list[str]) -> list[str]:
    """`ray start` for this machine."""
    quiet = ["--include-dashboard=false"] if "--head" in arguments else []
    return [*RAY, "start", "--block", "--disable-usage-stats", *quiet,
            f"--labels={LABEL}={version.label()}", *arguments]


def main() -> int:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments) or not any(word == "--head" or word.startswith("--address") for word in arguments):
        print(__doc__)
        return 0 if {"-h", "--help"} & set(arguments) else 2
    try:
        import ray  # noqa: F401
    except ImportError:
        print(f"A node needs the package ray (extra `cluster`), which {sys.executable} does not have: install it with\n"
              f"  {sys.executable} -m pip install ray", file=sys.stderr)
        return 1
    if "--head" in arguments:  # Ray makes the token when there is none yet; unasked it would let in anybody
        subprocess.run([*RAY, "get-auth-token", "--generate"], stdout=subprocess.DEVNULL, check=True, env={**os.environ, **variables()})
    os.execve(sys.executable, command(arguments), {**os.environ, **variables()})


if __name__ == "__main__":
    sys.exit(main())
