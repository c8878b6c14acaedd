/** Scales from numbers to places, with round ticks. */

/**
 * @typedef {{ (value: number): number, ticks: number[], domain: [number, number], kind: string }} Scale
 */

/**
 * @param {[number, number]} domain
 * @param {[number, number]} range
 * @param {number} [count] about how many ticks
 * @returns {Scale}
 */
export function linear([from, to], [start, end], count = 5) {
  const span = to - from || 1;
  const scale = (value) => start + ((value - from) / span) * (end - start);
  return Object.assign(scale, { ticks: linearTicks(from, to, count), domain: [from, to], kind: "linear" });
}

/**
 * A logarithmic scale; values at or below zero are placed at its start.
 * @param {[number, number]} domain both above zero
 * @param {[number, number]} range
 * @returns {Scale}
 */
export function logarithmic([from, to], range) {
  const inner = linear([Math.log(from), Math.log(to)], range);
  const scale = (value) => inner(Math.log(Math.max(value, from * 1e-3)));
  return Object.assign(scale, { ticks: logTicks(from, to), domain: [from, to], kind: "logarithmic" });
}

function linearTicks(from, to, count) {
  const step = roundStep((to - from || 1) / count);
  const first = Math.ceil(from / step - 1e-9);
  const last = Math.floor(to / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) =>
    Number(((first + index) * step).toPrecision(12)),
  );
}

function roundStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
}

function logTicks(from, to) {
  const factors = to / from > 300 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let exponent = Math.floor(Math.log10(from)); exponent <= Math.log10(to); exponent++) {
    for (const factor of factors) {
      const tick = Number((factor * 10 ** exponent).toPrecision(3));
      if (tick >= from && tick <= to) ticks.push(tick);
    }
  }
  return ticks;
}
