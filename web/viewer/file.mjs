// The file that the browser plays (models/formats/viewer_file.py), checked before anything is made of it.

/** What is wrong with a file, in words for the page. */
export class UnreadableFile extends Error {}

const KINDS = { U16: Uint16Array, I8: Int8Array, U8: Uint8Array };
const TENSORS = {
  position: { kind: "U16", width: 3, still: false },
  rotation: { kind: "I8", width: 4, still: false },
  logscale: { kind: "U8", width: 3, still: true },
  rgba: { kind: "U8", width: 4, still: true },
};

/**
 * A viewer file as typed arrays that lie on its bytes.
 * @param {ArrayBuffer} buffer the whole file
 * @returns {{frames: number, count: number, fps: number, times: number[], low: number[], extent: number[],
 *   bytes: number, position: Part, rotation: Part, logscale: Part, rgba: Part}}
 * @typedef {{data: Uint16Array|Int8Array|Uint8Array, width: number, layers: number}} Part layers: 1, or one per time
 */
export function readViewerFile(buffer) {
  const { header, start } = readHeader(buffer);
  const metadata = readMetadata(header.__metadata__);
  const sequence = { ...metadata, bytes: buffer.byteLength };
  for (const name of Object.keys(TENSORS)) sequence[name] = readTensor(buffer, header, start, name, metadata);
  return sequence;
}

function readHeader(buffer) {
  if (buffer.byteLength < 8) throw new UnreadableFile("The file is empty or cut off.");
  const length = new DataView(buffer).getBigUint64(0, true);
  if (length > BigInt(buffer.byteLength - 8)) throw new UnreadableFile("The file is cut off, or no viewer file.");
  const start = 8 + Number(length);
  const header = parse(new TextDecoder().decode(new Uint8Array(buffer, 8, Number(length))));
  if (!isRecord(header) || !isRecord(header.__metadata__)) throw new UnreadableFile("The file does not describe itself: it is no viewer file.");
  return { header, start };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new UnreadableFile("The file's description is no readable JSON.");
  }
}

const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isNumbers = (value, length) => Array.isArray(value) && value.length === length && value.every(Number.isFinite);

function readMetadata(texts) {
  if (texts.format !== "bloom4d viewer" || texts.version !== "1") throw new UnreadableFile("This is no viewer file of version 1.");
  const [frames, count] = [whole(texts.frames), whole(texts.count)];
  const [times, box, fps] = [parse(texts.times ?? ""), parse(texts.aabb ?? ""), Number(texts.fps)];
  if (!isNumbers(times, frames) || times.some((time, index) => time < times[index - 1])) throw new UnreadableFile("The file's times are out of order or missing.");
  if (!Array.isArray(box) || !isNumbers(box[0], 3) || !isNumbers(box[1], 3) || box[1].some((side) => side < 0)) throw new UnreadableFile("The file's box is out of range.");
  if (!(fps > 0 && fps <= 1000)) throw new UnreadableFile("The file's pictures per second are out of range.");
  return { frames, count, fps, times, low: box[0], extent: box[1] };
}

function whole(text) {
  if (typeof text !== "string" || !/^[1-9][0-9]{0,10}$/.test(text)) throw new UnreadableFile("The file's counts are no whole numbers above 0.");
  return Number(text);
}

/** One tensor, after its declared shape was held against the counts and against the file's size. */
function readTensor(buffer, header, start, name, { frames, count }) {
  const { kind, width, still } = TENSORS[name];
  const entry = Object.hasOwn(header, name) ? header[name] : undefined;
  if (!isRecord(entry) || entry.dtype !== kind || !Array.isArray(entry.shape) || !isNumbers(entry.data_offsets, 2)) {
    throw new UnreadableFile(`The file's ${name} is missing or of another kind.`);
  }
  const shape = still && entry.shape.length === 2 ? [1, ...entry.shape] : entry.shape;
  const layers = shape[0];
  if (shape.length !== 3 || (layers !== 1 && layers !== frames) || shape[1] !== count || shape[2] !== width) {
    throw new UnreadableFile(`The file's ${name} does not suit ${frames} times of ${count} Gaussians.`);
  }
  const items = layers * count * width;
  const [from, to] = entry.data_offsets;
  const size = KINDS[kind].BYTES_PER_ELEMENT;
  if (from < 0 || to - from !== items * size || start + to > buffer.byteLength) throw new UnreadableFile(`The file is cut off in its ${name}.`);
  const aligned = (start + from) % size === 0;
  const data = aligned ? new KINDS[kind](buffer, start + from, items) : new KINDS[kind](buffer.slice(start + from, start + to));
  return { data, width, layers };
}

/** A size for people. */
export function sizeInWords(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
