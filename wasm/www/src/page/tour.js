/** Five steps that explain the idea with the page's own controls. */

import { h, setAttribute, setText } from "../dom/element.js";
import { STOPS } from "./tour-stops.js";

export class Tour {
  #state;
  #at = 0;
  #opener = null;
  #target = null;
  #count = h("p", { class: "count" });
  #title = h("h2", { id: "tour-title" });
  #text = h("p", { id: "tour-text" });
  #back = h("button", { type: "button", onclick: () => this.#go(this.#at - 1) }, "Back");
  #next = h("button", { type: "button", class: "primary", onclick: () => this.#go(this.#at + 1) });

  /** @param {import("./state.js").PageState} state */
  constructor(state) {
    this.#state = state;
    const close = h("button", { type: "button", class: "quiet", onclick: () => this.#end() }, "×");
    setAttribute(close, "aria-label", "End the tour");
    this.element = h(
      "div",
      { class: "tour", role: "dialog", "aria-labelledby": "tour-title", "aria-describedby": "tour-text", tabindex: -1 },
      h("div", { class: "tour-head" }, this.#count, close),
      this.#title,
      this.#text,
      h("div", { class: "form-buttons" }, this.#back, this.#next),
    );
    this.element.hidden = true;
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  begin() {
    this.#opener = document.activeElement;
    this.element.hidden = false;
    this.#go(0);
  }

  #go(to) {
    if (to >= STOPS.length) {
      this.#end();
      return;
    }
    this.#at = Math.max(0, to);
    const { title, text, target, show } = STOPS[this.#at];
    setText(this.#count, `${this.#at + 1} of ${STOPS.length}`);
    setText(this.#title, title);
    setText(this.#text, text.replace(/\s+/g, " "));
    setText(this.#next, this.#at === STOPS.length - 1 ? "Done" : "Next");
    this.#back.disabled = this.#at === 0;
    show(this.#state);
    this.#point(document.querySelector(target));
    this.element.focus({ preventScroll: true });
  }

  #point(element) {
    if (this.#target) setAttribute(this.#target, "data-toured", null);
    this.#target = element;
    if (!element) return;
    setAttribute(element, "data-toured", true);
    const { left, width } = element.getBoundingClientRect();
    setAttribute(this.element, "data-side", left + width / 2 > innerWidth / 2 ? "left" : null);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    element.scrollIntoView({ block: "center", behavior: still ? "auto" : "smooth" });
  }

  #end() {
    this.element.hidden = true;
    this.#point(null);
    this.#opener?.focus();
  }

  #key(event) {
    const actions = {
      Escape: () => this.#end(),
      ArrowRight: () => this.#go(this.#at + 1),
      ArrowLeft: () => this.#go(this.#at - 1),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }
}
