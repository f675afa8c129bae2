// The viewer file in the browser: what a NumPy fixture holds comes back, and damaged files are refused before anything is made of them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { UnreadableFile, readViewerFile, sizeInWords } from "../../web/viewer/file.mjs";

const bytes = (name) => readFileSync(new URL(`fixtures/${name}`, import.meta.url));
const whole = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
const GOOD = whole(bytes("small_viewer.safetensors"));
const HELD = JSON.parse(bytes("small_viewer.json").toString());

/** The file with another header, and with `shift` bytes more before its tensors. */
function changed(change, shift = 0) {
  const length = Number(new DataView(GOOD).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(GOOD, 8, length)));
  change(header);
  const text = new TextEncoder().encode(JSON.stringify(header) + " ".repeat(shift));
  const made = new Uint8Array(8 + text.length + GOOD.byteLength - 8 - length);
  new DataView(made.buffer).setBigUint64(0, BigInt(text.length), true);
  made.set(text, 8);
  made.set(new Uint8Array(GOOD, 8 + length), 8 + text.length);
  return made.buffer;
}

const close = (one, other, error) => one.forEach((value, index) => assert.ok(Math.abs(value - other[index]) <= error, `${value} is not ${other[index]}`));

test("what NumPy holds comes back within the stated errors", () => {
  const read = readViewerFile(GOOD);
  assert.deepEqual([read.frames, read.count, read.fps, read.times], [HELD.frames, HELD.count, HELD.fps, HELD.times]);
  const positions = [...read.position.data].map((value, index) => read.low[index % 3] + (value / 65535) * read.extent[index % 3]);
  close(positions, HELD.positions, 8e-6 * Math.max(...read.extent));
  close([...read.rotation.data].map((value) => value / 127), HELD.rotations, 0.004);
  close([...read.logscale.data].map((value) => value / 16 - 10), HELD.scales.map(Math.log), 1 / 32 + 1e-6);
  const look = [...read.rgba.data].map((value) => value / 255);
  close(look.filter((_, index) => index % 4 < 3), HELD.colours, 0.002);
  close(look.filter((_, index) => index % 4 === 3), HELD.opacities, 0.002);
  assert.deepEqual([read.position.layers, read.rotation.layers, read.logscale.layers, read.rgba.layers], [3, 3, 1, 1]);
});

test("the arrays lie on the file where it is aligned, and are copied where it is not", () => {
  assert.equal(readViewerFile(GOOD).position.data.buffer, GOOD);
  const shifted = [0, 1].map((spaces) => changed(() => {}, spaces)).find((file) => new DataView(file).getBigUint64(0, true) % 2n);
  assert.deepEqual(readViewerFile(shifted).position.data, readViewerFile(GOOD).position.data);
});

test("every truncation is refused", () => {
  for (let length = 0; length < GOOD.byteLength; length += 1) assert.throws(() => readViewerFile(GOOD.slice(0, length)), UnreadableFile, `${length} bytes`);
});

const metadata = (values) => (header) => Object.assign(header.__metadata__, values);
const entry = (name, values) => (header) => Object.assign(header[name], values);
const DAMAGED = {
  "another format": metadata({ format: "other" }),
  "a later version": metadata({ version: "2" }),
  "no metadata": (header) => delete header.__metadata__,
  "more times than tensors": metadata({ frames: "4", times: "[0,0.3,0.6,1]" }),
  "a huge count": metadata({ count: "99999999999" }),
  "a count that is no number": metadata({ count: "1e3" }),
  "a negative count": metadata({ count: "-5" }),
  "times out of order": metadata({ times: "[0, 1, 0.5]" }),
  "times that are no numbers": metadata({ times: '[0, "a", 1]' }),
  "times that are no JSON": metadata({ times: "[0," }),
  "a box inside out": metadata({ aabb: "[[0,0,0],[1,-1,1]]" }),
  "a box without sides": metadata({ aabb: "[[0,0,0]]" }),
  "no pace": metadata({ fps: "0" }),
  "an infinite pace": metadata({ fps: "Infinity" }),
  "a missing tensor": (header) => delete header.rgba,
  "a tensor of another kind": entry("position", { dtype: "F32" }),
  "a tensor of another shape": entry("rotation", { shape: [3, 5, 3] }),
  "a huge shape": entry("position", { shape: [3, 4e9, 3] }),
  "offsets beyond the file": entry("rgba", { data_offsets: [1e9, 1e9 + 20] }),
  "offsets before the file": entry("rgba", { data_offsets: [-20, 0] }),
  "offsets of another size": entry("rgba", { data_offsets: [0, 4] }),
};

for (const [name, change] of Object.entries(DAMAGED)) {
  test(`refused: ${name}`, () => assert.throws(() => readViewerFile(changed(change)), UnreadableFile));
}

test("refused: a header longer than the file, and one that is no JSON", () => {
  const long = GOOD.slice(0);
  new DataView(long).setBigUint64(0, 2n ** 63n, true);
  assert.throws(() => readViewerFile(long), UnreadableFile);
  const garbled = GOOD.slice(0);
  new Uint8Array(garbled)[8] = 0x21;
  assert.throws(() => readViewerFile(garbled), UnreadableFile);
});

test("sizes are said as people read them", () => {
  assert.deepEqual([900, 52_300, 1_670_000, 334_000_000].map(sizeInWords), ["1 KB", "53 KB", "1.7 MB", "334 MB"]);
});
