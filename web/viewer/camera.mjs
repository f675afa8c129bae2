// The camera that orbits: Y up, azimuth 0 in front (+Z) and growing towards +X, as everywhere in the pack.

export const RIG = { azimuth: 0, elevation: (15 * Math.PI) / 180, distance: 2.9, fov: (42 * Math.PI) / 180, target: [0, 0, 0] };
const STEEPEST = Math.PI / 2;
const NEAREST = 1e-3;
const FARTHEST = 1e6;
const NARROWEST = (1 * Math.PI) / 180;
const WIDEST = (150 * Math.PI) / 180;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const sum = (a, b, factor = 1) => a.map((value, axis) => value + factor * b[axis]);
const norm = (vector) => Math.hypot(...vector);

/** Axes of the camera in the world and its place. */
export function pose({ azimuth, elevation, distance, target }) {
  const [sinA, cosA, sinE, cosE] = [Math.sin(azimuth), Math.cos(azimuth), Math.sin(elevation), Math.cos(elevation)];
  const right = [cosA, 0, -sinA];
  const back = [cosE * sinA, sinE, cosE * cosA];
  const up = [-sinE * sinA, cosE, -sinE * cosA];
  return { right, up, back, eye: sum(target, back, distance) };
}

/** A camera that shows the whole box: the usual rig where the box suits it, else one that fits. */
export function fitted(low, extent) {
  const radius = norm(extent) / 2;
  const middle = sum(low, extent, 0.5);
  if (!(radius > 0)) return { ...RIG, target: middle };
  const reach = norm(middle) + radius;
  if (reach <= 1.8 && reach >= 0.4) return { ...RIG };
  return { ...RIG, target: middle, distance: radius / Math.sin(RIG.fov / 2) };
}

/** Dragged by pixels: half a turn across the view's height. */
export function turned(camera, right, down, height) {
  const pace = Math.PI / height;
  return { ...camera, azimuth: wrapped(camera.azimuth - right * pace), elevation: clamp(camera.elevation + down * pace, -STEEPEST, STEEPEST) };
}

const wrapped = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));

/** The target moves so that it stays under the pointer. */
export function panned(camera, right, down, height) {
  const axes = pose(camera);
  const pace = (2 * camera.distance * Math.tan(camera.fov / 2)) / height;
  return { ...camera, target: sum(sum(camera.target, axes.right, -right * pace), axes.up, down * pace) };
}

export function zoomed(camera, factor) {
  return { ...camera, distance: clamp(camera.distance * factor, NEAREST, FARTHEST) };
}

/** The host's LOAD3D_CAMERA of a view. */
export function toLoad3D(camera, aspect) {
  const { eye } = pose(camera);
  const [sinA, cosA] = [Math.sin(camera.azimuth / 2), Math.cos(camera.azimuth / 2)];
  const [sinE, cosE] = [Math.sin(-camera.elevation / 2), Math.cos(camera.elevation / 2)];
  return {
    position: xyz(eye),
    target: xyz(camera.target),
    quaternion: { x: cosA * sinE, y: sinA * cosE, z: -sinA * sinE, w: cosA * cosE },
    fov: (camera.fov * 180) / Math.PI,
    zoom: 1,
    cameraType: "perspective",
    aspect,
    near: 0.01,
    far: 1000,
  };
}

const xyz = ([x, y, z]) => ({ x, y, z });

/** A view out of a LOAD3D_CAMERA, without its roll; null when it is none. */
export function fromLoad3D(info) {
  const [position, target] = [vector(info?.position), vector(info?.target) ?? [0, 0, 0]];
  if (!position) return null;
  const offset = sum(position, target, -1);
  const distance = norm(offset);
  if (!(distance > NEAREST)) return null;
  const back = turnedBack(info.quaternion) ?? offset.map((value) => value / distance);
  const fov = Number.isFinite(info.fov) ? (info.fov * Math.PI) / 180 : RIG.fov;
  const zoom = Number.isFinite(info.zoom) && info.zoom > 0 ? info.zoom : 1;
  return checked({
    azimuth: Math.atan2(back[0], back[2]),
    elevation: Math.asin(clamp(back[1], -1, 1)),
    distance,
    target: sum(position, back, -distance),
    fov: 2 * Math.atan(Math.tan(clamp(fov, NARROWEST, WIDEST) / 2) / zoom),
  });
}

function vector(value) {
  const numbers = [value?.x, value?.y, value?.z];
  return numbers.every(Number.isFinite) ? numbers : null;
}

/** The +Z axis of a rotation, which points from the target to the camera. */
function turnedBack(quaternion) {
  const axis = vector(quaternion);
  if (!axis || !Number.isFinite(quaternion.w)) return null;
  const length = Math.hypot(...axis, quaternion.w);
  if (!(length > 1e-6)) return null;
  const [x, y, z, w] = [...axis, quaternion.w].map((value) => value / length);
  return [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)];
}

/** A stored view with every number finite and in range; null when it is none. */
export function checked(view) {
  const numbers = [view?.azimuth, view?.elevation, view?.distance, view?.fov];
  if (!numbers.every(Number.isFinite) || !Array.isArray(view.target) || view.target.length !== 3 || !view.target.every(Number.isFinite)) return null;
  return {
    azimuth: wrapped(view.azimuth),
    elevation: clamp(view.elevation, -STEEPEST, STEEPEST),
    distance: clamp(view.distance, NEAREST, FARTHEST),
    fov: clamp(view.fov, NARROWEST, WIDEST),
    target: view.target.map((value) => clamp(value, -FARTHEST, FARTHEST)),
  };
}

/** Whether two views are the same picture. */
export function sameView(one, other) {
  if (!one || !other) return one === other;
  const numbers = (view) => [view.azimuth, view.elevation, view.distance, view.fov, ...view.target];
  const others = numbers(other);
  return numbers(one).every((value, index) => Math.abs(value - others[index]) < 1e-4);
}
