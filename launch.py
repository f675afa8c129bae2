#!/usr/bin/env python3
"""Bloom4D from a bare machine: prepare ComfyUI and Python packages once, then run one of our tools with them.

    python3 launch.py run [WORKFLOW]    queue a workflow in a real ComfyUI and copy its results here
    python3 launch.py run --prompts F   the same for every row of a txt, csv or jsonl file
    python3 launch.py table OUT         show the scores of such a batch over its grid
    python3 launch.py node              make this machine a node of a Ray cluster for batches
    python3 launch.py ui                open the same ComfyUI in a browser
    python3 launch.py test [--fast]     run the tests
    python3 launch.py train NAME        train a weight file that the pack ships
    python3 launch.py ablate NAME       run and score the variants of a workflow
    python3 launch.py evaluate NAME     run a paper's prompts and score them beside its numbers
    python3 launch.py setup             only prepare

An existing ComfyUI is used when one is given (--comfyui PATH or COMFYUI_PATH) or when this folder lies in its custom_nodes;
otherwise everything goes into .venv and .host beside this file. `launch.py COMMAND --help` explains a command.
"""

import os
import subprocess
import sys

if sys.version_info < (3, 10):
    sys.exit("Bloom4D needs Python 3.10 or newer, this is %d.%d: install a newer one and start it by name, "
             "for example `python3.12 launch.py run`." % sys.version_info[:2])

ROOT = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import environment  # noqa: E402  (needs the version checked above)

EXTRAS = {"run": ("fast",), "table": ("fast",), "node": ("fast", "cluster"), "ui": ("fast",), "setup": ("fast",), "ablate": ("fast",), "evaluate": ("fast",),
          "test": ("fast", "test", "train", "metrics", "cluster"), "train": ("fast", "train")}  # the same in all but the rare ones, so that one set-up serves


def extras_of(command, arguments):
    """The optional groups of packages that a command needs; only a batch on a cluster needs Ray."""
    cluster = command == "run" and any(word.split("=")[0] == "--ray" for word in arguments)
    return (*EXTRAS[command], "cluster") if cluster else EXTRAS[command]


def split_arguments(arguments):
    """(options of the launcher, command, arguments of the command); the launcher's options may stand on either side."""
    options, rest = {}, list(arguments)
    for name in ("comfyui", "python"):
        for position, word in enumerate(rest):
            if word == f"--{name}" and position + 1 < len(rest):
                options[name] = rest[position + 1]
                del rest[position : position + 2]
                break
            if word.startswith(f"--{name}="):
                options[name] = rest.pop(position).split("=", 1)[1]
                break
    return options, rest[0] if rest else "", rest[1:]


def become(command, variables):
    """Hand this process over to `command`; Windows cannot, so there we wait for it and pass its exit code on."""
    merged = {**os.environ, **variables}
    if os.name != "nt":
        sys.stdout.flush()
        os.execve(command[0], command, merged)
    child = subprocess.Popen(command, env=merged)
    while True:
        try:
            sys.exit(child.wait())
        except KeyboardInterrupt:  # the child has received it too and ends in its own way
            continue


def main():
    options, command, rest = split_arguments(sys.argv[1:])
    if command not in EXTRAS:
        print(__doc__)
        sys.exit(0 if command in ("", "-h", "--help") else f"launch.py knows no command {command!r}")
    tool = os.path.join(ROOT, "tools", f"{command}.py")
    if {"-h", "--help"} & set(rest):
        if command == "setup":
            print(__doc__)
            return
        become([sys.executable, tool, *rest], {})
    try:
        ready = environment.prepare(options.get("comfyui"), options.get("python"), extras_of(command, rest))
    except environment.SetupError as error:
        sys.exit(f"Set-up stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("\nSet-up interrupted; the same command goes on where it stopped.")
    if command == "setup":
        print(f"Ready: ComfyUI at {ready.tree}, Python {ready.python}")
        return
    become([str(ready.python), tool, *rest], ready.variables())


if __name__ == "__main__":
    main()
