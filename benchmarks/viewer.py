"""The viewer's time for a picture at 5,000, 10,000 and 50,000 Gaussians, and the size of its file: `python benchmarks/viewer.py`.

Depth order, drawing and reading back 512 x 512 pixels in a headless Chromium with software WebGL, in turns in one page; medians and their
ratio to 5,000. "Same size": Gaussians of one size, so more of them cover more. "Same cover": smaller where there are more, as on one object.
Writes docs/viewer_benchmark.json and .md. Needs Chromium and playwright.
"""

import functools
import http.server
import json
import statistics
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "web")]

import browser  # noqa: E402
import pack  # noqa: E402

pack.load_pack()

import torch  # noqa: E402
from bloom4d.models.formats.viewer_file import ViewerSequence, pack_viewer_file  # noqa: E402

COUNTS, TIMES, SIZE, ROUNDS = (5_000, 10_000, 50_000), 16, 512, 9
LARGEST = 1_700_000  # bytes of 10,000 Gaussians at 16 times
MEASURE = """async ([counts, size, rounds]) => {
    const [{ readViewerFile }, { stage }, { RIG }, { farthestFirst, measure }, { pose }] = await Promise.all(
        ['file', 'stage', 'camera', 'order', 'camera'].map(name => import(`/viewer/${name}.mjs`)));
    const canvas = Object.assign(document.createElement('canvas'), { width: size, height: size });
    const context = canvas.getContext('2d', { willReadFrequently: false });
    const cases = {};
    for (const name of counts) {
        const sequence = readViewerFile(await (await fetch(`/files/${name}.safetensors`)).arrayBuffer());
        cases[name] = { model: stage().take(sequence), picture: [], order: [] };
    }
    const place = { left: 7, right: 8, share: 0.5 };
    for (let round = 0; round <= rounds; round += 1) for (const one of Object.values(cases)) {
        const camera = { ...RIG, azimuth: round };
        const start = performance.now();
        stage().draw(one.model, camera, place, { pointSize: 1, leastOpacity: 0 }, context);
        context.getImageData(size / 2, size / 2, 1, 1);
        const drawn = performance.now();
        measure(one.model.sequence, place, pose(camera), one.model.room.depths);
        farthestFirst(one.model.room);
        if (round) { one.picture.push(drawn - start); one.order.push(performance.now() - drawn); }
    }
    const pixels = context.getImageData(0, 0, size, size).data.filter((value, index) => index % 4 === 3 && value > 0).length;
    return { pixels, times: Object.fromEntries(Object.entries(cases).map(([name, { picture, order }]) => [name, { picture, order }])) }; }"""


def cloud(count: int, deviation: float) -> bytes:
    """A file of Gaussians in a ball that drift."""
    generator = torch.Generator().manual_seed(count)
    start = torch.randn(count, 3, generator=generator)
    start = start / start.norm(dim=-1, keepdim=True) * torch.rand(count, 1, generator=generator) ** (1 / 3) * 0.8
    drift = 0.1 * torch.randn(count, 3, generator=generator)
    times = torch.linspace(0, 1, TIMES)
    return pack_viewer_file(ViewerSequence(
        positions=start + times[:, None, None] * drift,
        rotations=torch.nn.functional.normalize(torch.randn(TIMES, count, 4, generator=generator), dim=-1),
        scales=torch.exp(torch.randn(1, count, 3, generator=generator) * 0.4) * deviation,
        opacities=torch.rand(1, count, generator=generator) * 0.8 + 0.15,
        colours=torch.rand(1, count, 3, generator=generator),
        times=times,
    ))  # fmt: skip


class Files(http.server.SimpleHTTPRequestHandler):
    """The viewer's modules, and the clouds by name."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}
    clouds: dict[str, bytes] = {}

    def do_GET(self):
        name = Path(self.path).stem
        if not self.path.startswith("/files/") or name not in self.clouds:
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.clouds[name])

    def log_message(self, *_):
        pass


@contextmanager
def served():
    """The address of a server of `web/` and the clouds."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(ROOT / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def measured() -> dict:
    """What the page measured, by the clouds' names."""
    from playwright.sync_api import sync_playwright

    with served() as address, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser.require_browser(), args=browser.FLAGS)
        try:
            page = chromium.new_page()
            page.goto(f"{address}/docs/Bloom4DPreview4D.md")
            return page.evaluate(MEASURE, [list(Files.clouds), SIZE, ROUNDS])
        finally:
            chromium.close()


def rows_of(times: dict) -> list[dict]:
    rows = []
    for name, values in times.items():
        kind, count = name.split("_")[0], int(name.split("_")[1])
        first = times[f"{kind}_{COUNTS[0]}"]
        middle = {part: statistics.median(values[part]) for part in values}
        ratio = middle["picture"] / statistics.median(first["picture"])
        rows.append({"kind": kind, "gaussians": count, "picture_ms": round(middle["picture"], 1), "ratio_to_5000": round(ratio, 2),
                     "order_ms": round(middle["order"], 2), "file_bytes": len(Files.clouds[name])})  # fmt: skip
    return rows


def table(rows: list[dict]) -> str:
    words = {"size": "same size", "cover": "same cover"}
    lines = ["# The viewer: time for a picture, size of the file", "", f"{SIZE} x {SIZE} pixels, software WebGL in a headless Chromium, medians of {ROUNDS} pictures taken in turns; 16 times. `python benchmarks/viewer.py`", "",
             "| Gaussians | | a picture | to 5,000 | of it the depth order | file |", "|---|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| {row['gaussians']:,} | {words[row['kind']]} | {row['picture_ms']} ms | {row['ratio_to_5000']} | {row['order_ms']} ms | {row['file_bytes'] / 1e6:.2f} MB |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    for count in COUNTS:
        Files.clouds[f"size_{count}"] = cloud(count, 0.02)
        Files.clouds[f"cover_{count}"] = cloud(count, 0.02 * (COUNTS[0] / count) ** 0.5)
    found = measured()
    rows = sorted(rows_of(found["times"]), key=lambda row: (row["kind"], row["gaussians"]))
    (ROOT / "docs" / "viewer_benchmark.json").write_text(json.dumps({"size": SIZE, "rounds": ROUNDS, "times": TIMES, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    (ROOT / "docs" / "viewer_benchmark.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))
    largest = max(row["file_bytes"] for row in rows if row["gaussians"] == 10_000)
    if largest > LARGEST or found["pixels"] < SIZE:
        raise SystemExit(f"10,000 Gaussians at 16 times are {largest} bytes and {found['pixels']} pixels were drawn")


if __name__ == "__main__":
    main()
