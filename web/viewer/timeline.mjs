// Time in the viewer: a phase in [0, 1] over the object's times, and how it moves.

export const MODES = ["loop", "ping-pong", "once"];
export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];

/**
 * Which two frames a phase lies between.
 * @param {number[]} times ascending
 * @param {number} phase in [0, 1]
 * @returns {{left: number, right: number, share: number}} share: of `right`
 */
export function between(times, phase) {
  const last = times.length - 1;
  const time = times[0] + Math.min(Math.max(phase, 0), 1) * (times[last] - times[0]);
  let right = 1;
  while (right < last && times[right] < time) right += 1;
  right = Math.min(right, last);
  const left = Math.max(right - 1, 0);
  const span = times[right] - times[left];
  return { left, right, share: span > 0 ? (time - times[left]) / span : 0 };
}

/** The phase of a whole frame. */
export function phaseOf(times, frame) {
  const last = times.length - 1;
  const span = times[last] - times[0];
  return span > 0 ? (times[Math.min(Math.max(frame, 0), last)] - times[0]) / span : 0;
}

/** The next whole frame before (-1) or after (1) a phase, around the ends. */
export function stepped(times, phase, direction) {
  const { left, share } = between(times, phase);
  const at = left + share;
  const next = direction > 0 ? Math.floor(at + 1e-6) + 1 : Math.ceil(at - 1e-6) - 1;
  return phaseOf(times, (next + times.length) % times.length);
}

/**
 * The phase after some real seconds: frames may be skipped, time never is.
 * @param {{phase: number, direction: number, playing: boolean}} state
 * @param {number} seconds
 * @param {{mode: string, speed: number, duration: number}} pace duration: seconds of one pass at speed 1
 */
export function advanced(state, seconds, { mode, speed, duration }) {
  if (!state.playing || !(duration > 0)) return { ...state, playing: state.playing && duration > 0 };
  const moved = state.phase + (state.direction * seconds * speed) / duration;
  if (mode === "ping-pong") {
    const turned = ((moved % 2) + 2) % 2;
    const flips = Math.floor(moved) % 2 !== 0;
    return { ...state, phase: turned > 1 ? 2 - turned : turned, direction: flips ? -state.direction : state.direction };
  }
  if (mode === "once" && moved >= 1) return { phase: 1, direction: 1, playing: false };
  return { ...state, phase: mode === "once" ? moved : moved - Math.floor(moved), direction: 1 };
}

/** Words for a phase: "frame 4.5 of 16". */
export function frameInWords(times, phase) {
  const { left, share } = between(times, phase);
  return `frame ${Number((left + share + 1).toFixed(2))} of ${times.length}`;
}
