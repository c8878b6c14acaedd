/** A number to type, with a slider beside it. */

import { h, setAttribute, setText } from "../dom/element.js";
import { readOne } from "../run/settings.js";

/** Places of a logarithmic slider. */
const PLACES = 100;

/**
 * @param {string} name
 * @param {object} about its label; whether it has a slider, and whether that moves by factors; a note about a value
 * @param {import("../page/session.js").Session} session
 */
export function numberField(name, about, session) {
  const change = (value) => session.change(name, value);
  const id = `set-${name}`;
  const label = h("label", { for: id }, about.label, about.sub ? h("sub", {}, about.sub) : null);
  const box = h("input", { type: "number", id, name, inputmode: "decimal", "aria-describedby": `help-${name}` });
  const slider = about.slider === false ? null : h("input", { type: "range", "aria-label": `${about.label}, slider` });
  const help = h("small", { id: `help-${name}`, class: "help" });
  const note = h("small", { class: "field-note", role: "status" });
  let field = null;
  box.addEventListener("change", () => {
    const { value, problem } = readOne(box.value, field);
    setAttribute(box, "aria-invalid", problem ? "true" : null);
    if (!problem) return change(value);
    setText(note, `“${box.value}” ${problem}`);
    session.refuse(name);
  });
  slider?.addEventListener("input", () => change(fromPlace(Number(slider.value), field, about)));
  return {
    element: h("div", { class: "field number" }, label, box, slider, note, help),
    update(values, fields) {
      const value = values[name];
      if (fields && field !== fields[name]) {
        field = fields[name];
        limit(box, slider, field, about);
      }
      box.disabled = !fields;
      if (slider) slider.disabled = !fields;
      const forgotten = box.hasAttribute("aria-invalid") && !session.refused.has(name);
      if (box.dataset.shown === String(value) && field && !forgotten) return;
      box.dataset.shown = String(value);
      box.value = value === undefined ? "" : String(value);
      setAttribute(box, "aria-invalid", null);
      if (slider && field && value !== undefined) slider.value = String(toPlace(value, field, about));
      setText(note, about.note?.(value) ?? "");
      setText(help, field?.help ?? "");
    },
  };
}

function limit(box, slider, field, { logarithmic }) {
  delete box.dataset.shown;
  const { min, max, step } = field;
  setAttribute(box, "min", min);
  setAttribute(box, "max", max);
  setAttribute(box, "step", "any");
  if (!slider) return;
  setAttribute(slider, "min", logarithmic ? 0 : min);
  setAttribute(slider, "max", logarithmic ? PLACES : max);
  setAttribute(slider, "step", logarithmic ? 1 : (step ?? "any"));
}

function toPlace(value, { min, max, step }, { logarithmic }) {
  if (!logarithmic) return value;
  const low = Math.max(min, step ?? max / 1e4);
  return Math.round((PLACES * Math.log(Math.max(value, low) / low)) / Math.log(max / low));
}

function fromPlace(place, { min, max, step }, { logarithmic }) {
  if (!logarithmic) return place;
  if (place === 0) return min;
  const low = Math.max(min, step ?? max / 1e4);
  return Number((low * (max / low) ** (place / PLACES)).toPrecision(2));
}
