"""Draw the contact sheet of the procedural objects: python tools/sheet.py [--size 112] [--times 6] [--seed 0] [--out FILE]."""

import argparse
from pathlib import Path

from pack import ROOT, load_pack


def main():
    parser = argparse.ArgumentParser(description="Contact sheet of the procedural 4D objects.")
    parser.add_argument("--size", type=int, default=112, help="pixels of one picture")
    parser.add_argument("--times", type=int, default=6, help="times from the front")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "procedural_objects.png")
    options = parser.parse_args()
    load_pack()
    from bloom4d.models.data.sheet import contact_sheet
    from PIL import Image

    pixels = (contact_sheet(options.size, options.times, options.seed) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
