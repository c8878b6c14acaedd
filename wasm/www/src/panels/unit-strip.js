/** One strip: a bar per unit, drawn on a canvas, since a frame may change hundreds of them. */

import { h, setAttribute, setText } from "../dom/element.js";
import { fixed, short } from "../dom/numbers.js";

/** Pixels. */
const HEIGHT = 54;

/**
 * @param {string} title
 * @param {string} meaning
 * @param {"plain" | "diverging"} kind
 */
export function strip(title, meaning, kind) {
  const canvas = h("canvas", { class: "bars", tabindex: 0, role: "img", height: HEIGHT });
  const scaleText = h("span", { class: "most" });
  const emptyText = h("p", { class: "empty" });
  const element = h(
    "div",
    { class: "strip" },
    h("h3", {}, title, h("small", {}, meaning), scaleText),
    h("div", { class: "bar-box" }, canvas, emptyText),
  );
  const view = { canvas, kind, width: 0, values: null, range: 1, marked: null };
  new ResizeObserver(([entry]) => {
    view.width = entry.contentRect.width;
    paint(view);
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(view));
  document.addEventListener("theme", () => paint(view));
  return {
    element,
    /** What a picture of it shows. */
    picture: () => ({ title: [title, scaleText.textContent].filter(Boolean).join(", "), canvas }),
    mark(at) {
      view.marked = at;
      paint(view);
    },
    update(values, { range, empty }) {
      setText(emptyText, values ? "" : empty);
      setAttribute(canvas, "aria-label", values ? `${title}: ${summary(values)}` : `${title}: ${empty}`);
      setText(scaleText, values ? scaleLabel(values, range) : "");
      if (view.values === values) return;
      view.values = values;
      view.range = range ?? Math.max(...(values ?? [0])) ?? 1;
      paint(view);
    },
  };
}

function scaleLabel(values, range) {
  return range ? "−1 … 1" : `tallest ${short(Math.max(...values))}`;
}

function summary(values) {
  return `${values.length} units, from ${fixed(Math.min(...values), 3)} to ${fixed(Math.max(...values), 3)}`;
}

function paint({ canvas, kind, width, values, range, marked }) {
  if (!width) return;
  const sharpness = devicePixelRatio || 1;
  canvas.width = width * sharpness;
  canvas.height = HEIGHT * sharpness;
  const context = canvas.getContext("2d");
  context.scale(sharpness, sharpness);
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(name);
  const base = kind === "diverging" ? HEIGHT / 2 : HEIGHT - 1;
  context.fillStyle = colour("--line");
  context.fillRect(0, base, width, 1);
  if (!values) return;
  const step = width / values.length;
  values.forEach((value, at) => {
    if (at === marked) {
      context.fillStyle = colour("--wash");
      context.fillRect(at * step, 0, step, HEIGHT);
    }
    const size = (Math.abs(value) / (range || 1)) * (kind === "diverging" ? HEIGHT / 2 - 1 : HEIGHT - 3);
    context.fillStyle = colour(barColour(kind, value));
    const height = value === 0 ? 0 : Math.max(1.5, size);
    context.fillRect(at * step + step * 0.14, value < 0 ? base + 1 : base - height, step * 0.72, height);
  });
}

function barColour(kind, value) {
  if (kind === "plain") return "--ink-soft";
  return value < 0 ? "--against" : "--together";
}
