/** Shapes of lanes and colours of phases, the same in every chart. */

import { s } from "../dom/element.js";

/** The shape of the first, second and third lane. */
const SHAPES = [
  "M0-6A6 6 0 1 1 0 6A6 6 0 1 1 0-6Z",
  "M-5.4-5.4H5.4V5.4H-5.4Z",
  "M0-7L6.6 5.2H-6.6Z",
  "M0-7.2L7.2 0L0 7.2L-7.2 0Z",
];

/** What phases train on. */
export const SIDES = { sft: "demonstrations (SFT)", dpo: "preferences", mix: "both, mixed per step" };

/** @param {number} lane */
export function shape(lane) {
  return SHAPES[lane % SHAPES.length];
}

/** A small picture of a lane's shape, for text. */
export function shapeIcon(lane, className = "") {
  return s(
    "svg",
    { class: `shape ${className}`, viewBox: "-9 -9 18 18", width: 16, height: 16, "aria-hidden": "true" },
    s("path", { d: shape(lane) }),
  );
}

/** A five-pointed star around 0, 0. */
export const STAR =
  Array.from({ length: 10 }, (_, index) => {
    const radius = index % 2 ? 4 : 10;
    const angle = (index * Math.PI) / 5 - Math.PI / 2;
    return `${index ? "L" : "M"}${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
  }).join("") + "Z";
