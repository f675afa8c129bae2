// The viewer's maths: sorting, time, and the camera, each against closed forms or the plain way of doing it.
import assert from "node:assert/strict";
import test from "node:test";

import { RIG, checked, fitted, fromLoad3D, panned, pose, sameView, toLoad3D, turned, zoomed } from "../../web/viewer/camera.mjs";
import { checkedSettings } from "../../web/viewer/controls.mjs";
import { located, show } from "../../web/viewer/forming.mjs";
import { farthestFirst, makeRoom, measure } from "../../web/viewer/order.mjs";
import { advanced, between, frameInWords, phaseOf, stepped } from "../../web/viewer/timeline.mjs";

const near = (value, expected, error = 1e-9) => assert.ok(Math.abs(value - expected) <= error, `${value} is not ${expected}`);
const allNear = (values, expected, error) => values.forEach((value, index) => near(value, expected[index], error));

/** Pseudo-random numbers in [0, 1), the same each time. */
function* numbers(seed = 1) {
  for (let state = seed; ; yield state / 2 ** 32) state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
}

function sorted(depths) {
  const room = makeRoom(depths.length);
  room.depths.set(depths);
  return [...farthestFirst(room)];
}

test("the counting sort gives what Array.sort gives, up to depths that 16 bits cannot tell apart", () => {
  const source = numbers();
  const depths = Float32Array.from({ length: 5000 }, () => source.next().value * 7 - 2);
  const order = sorted(depths);
  assert.deepEqual([...order].sort((a, b) => a - b), [...depths.keys()], "each one once");
  const exact = [...depths.keys()].sort((a, b) => depths[b] - depths[a]);
  order.forEach((index, place) => near(depths[index], depths[exact[place]], (2 * 7) / 65535));
});

test("equal depths keep their order; one and none are sorted too", () => {
  assert.deepEqual(sorted([3, 3, 3]), [0, 1, 2]);
  assert.deepEqual(sorted([1, 5, 1, 5]), [1, 3, 0, 2]);
  assert.deepEqual(sorted([2]), [0]);
  assert.deepEqual(sorted([]), []);
});

test("depths are the distances in front of the camera of positions between two frames", () => {
  const sequence = { count: 2, low: [-1, -2, 0], extent: [2, 4, 1], position: { layers: 2, data: Uint16Array.from([0, 0, 0, 65535, 65535, 65535, 65535, 0, 0, 0, 65535, 0]) } };
  const depths = new Float32Array(2);
  const front = pose({ ...RIG, azimuth: 0, elevation: 0, distance: 3 });
  measure(sequence, { left: 0, right: 1, share: 0.25 }, front, depths); // z of the first: 0 and 0; of the second: 1 and 0
  allNear(depths, [3, 3 - 0.75], 1e-5);
  const side = pose({ ...RIG, azimuth: Math.PI / 2, elevation: 0, distance: 3 });
  measure(sequence, { left: 0, right: 1, share: 0.25 }, side, depths); // x: -1 and 1; 1 and -1
  allNear(depths, [3 + 0.5, 3 - 0.5], 1e-5);
});

test("a phase lies between two frames, also of uneven times", () => {
  assert.deepEqual(between([0, 0.5, 1], 0.25), { left: 0, right: 1, share: 0.5 });
  assert.deepEqual(between([0, 0.5, 1], 1), { left: 1, right: 2, share: 1 });
  assert.deepEqual(between([0, 0.2, 1], 0.6), { left: 1, right: 2, share: (0.6 - 0.2) / 0.8 });
  assert.deepEqual(between([2, 3, 6], 0.5), { left: 1, right: 2, share: 1 / 3 });
  assert.deepEqual(between([0.3], 0.7), { left: 0, right: 0, share: 0 });
  assert.deepEqual(between([0, 1], 7), { left: 0, right: 1, share: 1 });
});

test("steps go to whole frames and around the ends", () => {
  const times = [0, 0.25, 0.5, 1];
  near(stepped(times, 0, 1), 0.25);
  near(stepped(times, 0.3, 1), 0.5);
  near(stepped(times, 0.3, -1), 0.25);
  near(stepped(times, 1, 1), 0);
  near(stepped(times, 0, -1), 1);
  near(stepped([0], 0, 1), 0);
  near(phaseOf([1, 2, 5], 1), 0.25);
});

test("time is never skipped, however long a picture takes", () => {
  const pace = { mode: "loop", speed: 2, duration: 4 };
  let small = { phase: 0.2, direction: 1, playing: true };
  for (let index = 0; index < 100; index += 1) small = advanced(small, 0.053, pace);
  near(small.phase, advanced({ phase: 0.2, direction: 1, playing: true }, 5.3, pace).phase, 1e-9);
  near(small.phase, (0.2 + (5.3 * 2) / 4) % 1, 1e-9);
});

test("ping-pong turns at both ends", () => {
  const pace = { mode: "ping-pong", speed: 1, duration: 1 };
  const from = (phase, direction, seconds) => advanced({ phase, direction, playing: true }, seconds, pace);
  near(from(0.9, 1, 0.2).phase, 0.9);
  assert.equal(from(0.9, 1, 0.2).direction, -1);
  near(from(0.1, -1, 0.2).phase, 0.1);
  assert.equal(from(0.1, -1, 0.2).direction, 1);
  near(from(0.5, 1, 2).phase, 0.5);
  assert.equal(from(0.5, 1, 2).direction, 1);
  let state = { phase: 0, direction: 1, playing: true };
  for (let index = 0; index < 1000; index += 1) {
    state = advanced(state, 0.037, pace);
    assert.ok(state.phase >= 0 && state.phase <= 1);
  }
});

test("once stops at the end; one frame never plays; what stands still stays", () => {
  assert.deepEqual(advanced({ phase: 0.9, direction: 1, playing: true }, 1, { mode: "once", speed: 1, duration: 1 }), { phase: 1, direction: 1, playing: false });
  assert.equal(advanced({ phase: 0, direction: 1, playing: true }, 1, { mode: "loop", speed: 1, duration: 0 }).playing, false);
  assert.equal(advanced({ phase: 0.4, direction: 1, playing: false }, 9, { mode: "loop", speed: 1, duration: 1 }).phase, 0.4);
});

test("frames are counted from one", () => {
  assert.equal(frameInWords([0, 0.5, 1], 0.25), "frame 1.5 of 3");
  assert.equal(frameInWords([0], 0), "frame 1 of 1");
});

test("the camera stands where azimuth and elevation say, with upright axes", () => {
  const { right, up, back, eye } = pose({ ...RIG, azimuth: Math.PI / 2, elevation: 0, distance: 2, target: [0, 1, 0] });
  allNear(eye, [2, 1, 0]);
  allNear(right, [0, 0, -1]);
  allNear(up, [0, 1, 0]);
  allNear(back, [1, 0, 0]);
  const above = pose({ ...RIG, azimuth: 0, elevation: Math.PI / 2, distance: 1 });
  allNear(above.eye, [0, 1, 0]);
  allNear(above.up, [0, 0, -1]);
});

test("turning, panning and zooming", () => {
  near(turned(RIG, 100, 0, 400).azimuth, -Math.PI / 4); // the object follows the pointer
  near(turned(RIG, 0, 4000, 400).elevation, Math.PI / 2); // not over the pole
  near(turned({ ...RIG, azimuth: 3 }, -200, 0, 400).azimuth, 3 + Math.PI / 2 - 2 * Math.PI); // around the back
  const flat = { ...RIG, elevation: 0 };
  const across = 2 * flat.distance * Math.tan(flat.fov / 2);
  allNear(panned(flat, 400, 0, 400).target, [-across, 0, 0]); // as much as the view is high
  allNear(panned(flat, 0, 400, 400).target, [0, across, 0]);
  near(zoomed(RIG, 0.5).distance, 1.45);
  assert.ok(zoomed(RIG, 0).distance > 0 && zoomed(RIG, Infinity).distance < Infinity);
});

test("objects in the unit ball have the usual rig, others one that fits", () => {
  assert.deepEqual(fitted([-1, -1, -1], [2, 2, 2]), RIG);
  const far = fitted([90, 0, 0], [20, 0, 0]);
  allNear(far.target, [100, 0, 0]);
  near(far.distance, 10 / Math.sin(RIG.fov / 2));
  assert.ok(fitted([0, 0, 0], [0, 0, 0]).distance > 0, "a single point");
});

test("LOAD3D_CAMERA there and back, with place, aim and field of view", () => {
  const view = { azimuth: 2.1, elevation: -0.7, distance: 3.5, target: [0.1, -0.2, 0.3], fov: 0.6 };
  assert.ok(sameView(fromLoad3D(toLoad3D(view, 1.5)), view));
  const { position, target, fov, quaternion } = toLoad3D({ ...RIG, elevation: 0 }, 1);
  allNear([position.x, position.y, position.z, target.x, fov], [0, 0, 2.9, 0, 42]);
  allNear([quaternion.x, quaternion.y, quaternion.z, quaternion.w], [0, 0, 0, 1]); // looks along -Z
  assert.ok(sameView(fromLoad3D({ position: { x: 0, y: 0, z: 2.9 } }), { ...RIG, elevation: 0 }), "without the rest");
  near(fromLoad3D({ position: { x: 0, y: 0, z: 2 }, fov: 90, zoom: 2 }).fov, 2 * Math.atan(0.5));
});

test("its quaternion wins over its target", () => {
  const half = Math.SQRT1_2;
  const view = fromLoad3D({ position: { x: 2, y: 0, z: 0 }, target: { x: 0, y: 0, z: 0 }, quaternion: { x: 0, y: half, z: 0, w: half } });
  near(view.azimuth, Math.PI / 2);
  const away = fromLoad3D({ position: { x: 2, y: 0, z: 0 }, target: { x: 0, y: 0, z: 0 }, quaternion: { x: 0, y: 0, z: 0, w: 1 } });
  allNear(away.target, [2, 0, -2]);
});

test("what is no camera is none", () => {
  const origin = { x: 0, y: 0, z: 0 };
  for (const bad of [null, undefined, "", {}, { position: { x: 1, y: "2", z: 3 } }, { position: origin, target: origin }, { position: { x: NaN, y: 0, z: 0 } }]) assert.equal(fromLoad3D(bad), null);
  for (const bad of [null, {}, { ...RIG, distance: NaN }, { ...RIG, target: [0, 0] }, { ...RIG, target: "abc" }]) assert.equal(checked(bad), null);
  assert.deepEqual(checked(RIG), RIG);
});

test("stored settings are held within their ranges, whatever a file says", () => {
  const bad = checkedSettings({ mode: "<img>", speed: 1e9, background: "url(x)", colour: "red;background:url(x)", pointSize: -4, leastOpacity: "x", open: "yes" });
  assert.deepEqual(bad, { mode: "loop", speed: 1, background: "theme", colour: "#ffffff", pointSize: 0.05, leastOpacity: 0, open: false });
  const good = { mode: "once", speed: 2, background: "colour", colour: "#12AB34", pointSize: 0.5, leastOpacity: 0.2, open: true };
  assert.deepEqual(checkedSettings(good), good);
  for (const nothing of [undefined, null, 3]) assert.equal(checkedSettings(nothing).mode, "loop");
});

/** A graph of the few things that are asked of one. */
const graphOf = (nodes) => ({ getNodeById: (id) => nodes[id] ?? null });

test("viewers are found by the ids of a run, in subgraphs too, and told", async () => {
  const told = [];
  const viewer = (name) => ({ bloom4dViewer: Promise.resolve({ show: (file, more) => told.push([name, file, more]) }) });
  const [outer, inner] = [viewer("outer"), viewer("inner")];
  const graph = graphOf({ 7: outer, 9: { subgraph: graphOf({ 3: { subgraph: graphOf({ 2: inner }) } }) }, 8: {} });
  assert.equal(located(graph, "7"), outer);
  assert.equal(located(graph, "9:3:2"), inner);
  assert.equal(located(graph, "9:4:2"), null);
  assert.equal(located(graph, "7:1"), null);
  await show(graph, { viewers: ["7", "9:3:2", "8", "55"], file: { filename: "a" } });
  assert.deepEqual(told, [["outer", { filename: "a" }, { forming: true }], ["inner", { filename: "a" }, { forming: true }]]);
});
