/** Grid lines and the numbers beside them. */

import { s } from "../dom/element.js";
import { short } from "../dom/numbers.js";

/**
 * @param {{ x: import("./scale.js").Scale, y: import("./scale.js").Scale }} scales
 * @param {{ left: number, right: number, top: number, bottom: number }} box
 */
export function grid({ x, y }, { left, right, top, bottom }) {
  const vertical = x.ticks.flatMap((tick) => [
    s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
    s("text", { class: "tick", x: x(tick), y: bottom + 16, "text-anchor": "middle" }, short(tick)),
  ]);
  const horizontal = y.ticks.flatMap((tick) => [
    s("line", { class: tick === 0 ? "grid zero" : "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
    s("text", { class: "tick", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, short(tick)),
  ]);
  return [...vertical, ...horizontal];
}

/** The path through points. */
export function line(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
