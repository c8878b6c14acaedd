/** Tokens of an answer, marked by colour and by shape. */

import { h } from "../dom/element.js";

const MARKS = {
  right: "right digit",
  wrong: "wrong digit",
  formal: "formal word, as demonstrations end",
  casual: "casual word, as preferences want",
  end: "end of the answer",
};

/**
 * @param {import("../run/run.js").Token[]} tokens
 * @param {boolean[]} [changed] which differ from the moment before
 */
export function answer(tokens, changed = []) {
  const parts = tokens.map(({ text, mark }, at) => {
    const difference = changed[at] ? ", changed" : "";
    const meaning = `${MARKS[mark] ?? "digit that nothing was asked about"}${difference}`;
    return h("span", { class: `token ${mark ?? "unjudged"}`, "data-changed": changed[at], title: meaning }, text);
  });
  return h("span", { class: "answer" }, ...parts.flatMap((part) => [part, " "]));
}

/** Which tokens differ from those at the same place the moment before; none if there was none. */
export function changes(now, before) {
  if (!now || !before) return [];
  return now.map((token, at) => token.text !== before[at]?.text);
}

export function tokenLegend() {
  const item = (text, mark, meaning) => h("li", {}, h("span", { class: `token ${mark}` }, text), meaning);
  return h(
    "ul",
    { class: "legend tokens", "aria-label": "Marks" },
    item("7", "right", "right"),
    item("3", "wrong", "wrong"),
    item("kind regards", "formal", "formal, as demonstrations end"),
    item("see ya", "casual", "casual, as preferences want"),
    h("li", {}, h("span", { class: "token right", "data-changed": "" }, "5"), "changed since the moment before"),
  );
}
