// Far Gaussians are drawn first.

const KEYS = 1 << 16;

/** Depths of all Gaussians along a camera's view at a place between two frames, into `depths`. */
export function measure(sequence, { left, right, share }, { eye, back }, depths) {
  const { data, layers } = sequence.position;
  const one = 3 * sequence.count * (layers === 1 ? 0 : left);
  const other = 3 * sequence.count * (layers === 1 ? 0 : right);
  const [a, b, c] = back.map((value, axis) => (-value * sequence.extent[axis]) / 65535);
  const base = back.reduce((total, value, axis) => total + value * (eye[axis] - sequence.low[axis]), 0);
  const rest = 1 - share;
  for (let index = 0, place = 0; index < sequence.count; index += 1, place += 3) {
    const near = a * data[one + place] + b * data[one + place + 1] + c * data[one + place + 2];
    const far = a * data[other + place] + b * data[other + place + 1] + c * data[other + place + 2];
    depths[index] = base + rest * near + share * far;
  }
}

/** Room for the sorting of `count` numbers. */
export function makeRoom(count) {
  return { depths: new Float32Array(count), keys: new Uint16Array(count), starts: new Uint32Array(KEYS + 1), order: new Uint32Array(count) };
}

/** The indices of `room.depths` from the largest to the smallest, equal to 16 bits of their range: a counting sort. */
export function farthestFirst({ depths, keys, starts, order }) {
  let [low, high] = [Infinity, -Infinity];
  for (const depth of depths) {
    if (depth < low) low = depth;
    if (depth > high) high = depth;
  }
  const scale = high > low ? (KEYS - 1) / (high - low) : 0;
  starts.fill(0);
  for (let index = 0; index < depths.length; index += 1) {
    keys[index] = (high - depths[index]) * scale;
    starts[keys[index] + 1] += 1;
  }
  for (let key = 0; key < KEYS; key += 1) starts[key + 1] += starts[key];
  for (let index = 0; index < depths.length; index += 1) order[starts[keys[index]]++] = index;
  return order;
}
