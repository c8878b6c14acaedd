/** Five steps that explain the idea with the page's own controls. */

import { h, setAttribute, setText } from "../dom/element.js";
import { STOPS } from "./tour-stops.js";

/**
 * @param {import("./state.js").PageState} state
 */
export function tour(state) {
  const count = h("p", { class: "count" });
  const title = h("h2", { id: "tour-title" });
  const text = h("p", { id: "tour-text" });
  const back = h("button", { type: "button", onclick: () => go(at - 1) }, "Back");
  const next = h("button", { type: "button", class: "primary", onclick: () => go(at + 1) });
  const close = h("button", { type: "button", class: "quiet", onclick: end, "aria-label": "End the tour" }, "×");
  const card = h(
    "div",
    { class: "tour", role: "dialog", "aria-labelledby": "tour-title", "aria-describedby": "tour-text", hidden: true, tabindex: -1 },
    h("div", { class: "tour-head" }, count, close),
    title,
    text,
    h("div", { class: "form-buttons" }, back, next),
  );
  let at = 0;
  let opener = null;
  let target = null;

  function go(to) {
    if (to >= STOPS.length) {
      end();
      return;
    }
    at = Math.max(0, to);
    const stop = STOPS[at];
    setText(count, `${at + 1} of ${STOPS.length}`);
    setText(title, stop.title);
    setText(text, stop.text);
    setText(next, at === STOPS.length - 1 ? "Done" : "Next");
    back.disabled = at === 0;
    stop.show(state);
    point(document.querySelector(stop.target));
    card.focus({ preventScroll: true });
  }

  function point(element) {
    if (target) setAttribute(target, "data-toured", null);
    target = element;
    if (!target) return;
    setAttribute(target, "data-toured", true);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    target.scrollIntoView({ block: "center", behavior: still ? "auto" : "smooth" });
  }

  function end() {
    card.hidden = true;
    point(null);
    opener?.focus();
  }

  card.addEventListener("keydown", (event) => {
    const action = { Escape: end, ArrowRight: () => go(at + 1), ArrowLeft: () => go(at - 1) }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });
  return {
    element: card,
    begin() {
      opener = document.activeElement;
      card.hidden = false;
      go(0);
    },
  };
}
