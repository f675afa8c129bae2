"""Print the scores of a batch over its grid, mean and spread over seeds, and write OUT/table.png, table.json and table.csv."""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="launch.py table", description=__doc__)
    parser.add_argument("out", type=Path, help="the --out folder of `launch.py run --prompts FILE`")
    out = parser.parse_args().out
    from batch import manifest, plot, table

    try:
        found = table.table_of(out)
        (out / "table.json").write_text(table.as_json(found) + "\n", encoding="utf-8")
        (out / "table.csv").write_text(table.as_csv(found), encoding="utf-8")
        plot.draw(found).save(out / "table.png", optimize=True)
    except (table.TableError, manifest.ManifestError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the table cannot be written to {out}: {error.strerror}.", file=sys.stderr)
        return 1
    print(table.printed(found))
    print(f"{out / 'table.png'}\n{out / 'table.json'}\n{out / 'table.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
