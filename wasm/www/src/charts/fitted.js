/** Charts are drawn in pixels of the screen, so that their text keeps its size on a phone. */

import { h } from "../dom/element.js";

/**
 * Frames a picture, and calls `draw` with its size whenever that changes.
 * @param {SVGElement} picture
 * @param {(width: number) => number} heightFor
 * @param {(size: { width: number, height: number }) => void} draw
 * @returns {HTMLElement} the frame
 */
export function fitted(picture, heightFor, draw) {
  const frame = h("div", { class: "canvas" }, picture);
  let shown = 0;
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width === 0 || width === shown) return;
    shown = width;
    const height = Math.round(heightFor(width));
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("height", String(height));
    draw({ width, height });
  });
  observer.observe(frame);
  return frame;
}
