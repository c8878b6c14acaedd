/** What the page has to say: facts, warnings and failures, until they are closed. */

import { h } from "../dom/element.js";

export class Notices {
  element = h("div", { class: "notices" });
  #polite = h("div", { role: "status" });
  #urgent = h("div", { role: "alert" });

  constructor() {
    this.element.append(this.#polite, this.#urgent);
  }

  /**
   * @param {string} text
   * @param {string} [topic] an earlier notice on it is replaced
   */
  tell(text, topic) {
    this.#add(this.#polite, "fact", text, topic);
  }

  warn(text) {
    this.#add(this.#polite, "warning", text);
  }

  fail(text) {
    this.#add(this.#urgent, "failure", text, "failure");
  }

  #add(place, kind, text, topic = text) {
    for (const earlier of this.element.querySelectorAll(".notice")) {
      if (earlier.dataset.topic === topic) earlier.remove();
    }
    const close = h("button", { type: "button", class: "quiet", "aria-label": "Close notice" }, "×");
    const notice = h("p", { class: `notice ${kind}`, "data-topic": topic }, h("span", {}, text), close);
    close.addEventListener("click", () => notice.remove());
    place.append(notice);
  }
}
