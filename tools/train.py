"""`launch.py train NAME`: train one of the shipped weight files from our own procedural data. Resumes where it stopped."""

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

TARGETS = {"prior": "train_prior", "recogniser": "train_recogniser"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="launch.py train", description=__doc__)
    parser.add_argument("name", choices=sorted(TARGETS), help="which weight file")
    name, rest = parser.parse_known_args(arguments)
    return importlib.import_module(TARGETS[name.name]).main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
