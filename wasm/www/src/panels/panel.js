/** A titled part of the page with a chart, the table behind it, and both as files. */

import { h, setAttribute, setText } from "../dom/element.js";
import { csv, tableElement } from "../charts/table.js";
import { download } from "../page/download.js";

/** A table that is looked at while the run goes on is made anew this often, in milliseconds. */
const TABLE_EVERY = 500;

/**
 * @typedef {{ element: HTMLElement, update: () => void }} View
 *
 * @param {object} parts
 * @param {string} parts.id
 * @param {string} parts.title
 * @param {string} parts.note what the chart shows, in a sentence or two
 * @param {Node[]} parts.content
 * @param {Node[]} [parts.tools] further controls in the title's row
 * @param {() => Promise<Blob>} [parts.picture] the chart as a PNG
 * @param {() => import("../charts/table.js").Table} parts.table
 * @param {() => void} parts.update
 * @returns {View}
 */
export function chartPanel({ id, title, note, content, tools = [], picture, table, update }) {
  const chartBox = h("div", { class: "chart" }, ...content);
  const tableBox = h("div", {
    class: "table",
    hidden: true,
    tabindex: 0,
    role: "region",
    "aria-label": `${title}: table`,
  });
  let madeAt = -Infinity;
  const fill = () => {
    madeAt = performance.now();
    tableBox.replaceChildren(tableElement(table()));
  };
  const toggle = h("button", { class: "quiet", type: "button", "aria-pressed": "false", onclick: swap }, "Table");
  function swap() {
    const shown = tableBox.hidden;
    if (shown) fill();
    tableBox.hidden = !shown;
    chartBox.hidden = shown;
    setAttribute(toggle, "aria-pressed", String(shown));
    setText(toggle, shown ? "Chart" : "Table");
  }
  const saveCsv = () => download(`${id}.csv`, csv(table()), "text/csv");
  const savePng = async () => download(`${id}.png`, await picture(), "image/png");
  const files = h(
    "span",
    { class: "tools" },
    ...tools,
    toggle,
    h("button", { class: "quiet", type: "button", onclick: saveCsv, "aria-label": `${title} as CSV` }, "CSV"),
    picture
      ? h("button", { class: "quiet", type: "button", onclick: savePng, "aria-label": `${title} as PNG` }, "PNG")
      : null,
  );
  const element = section(id, title, note, [chartBox, tableBox], files);
  return {
    element,
    update() {
      update();
      if (!tableBox.hidden && performance.now() - madeAt > TABLE_EVERY) fill();
    },
  };
}

/**
 * A titled part of the page.
 * @param {string} id
 * @param {string} title
 * @param {string | null} note
 * @param {Node[]} content
 * @param {Node | null} [tools]
 */
export function section(id, title, note, content, tools = null) {
  return h(
    "section",
    { class: "panel", id, "aria-labelledby": `${id}-title` },
    h("header", {}, h("h2", { id: `${id}-title` }, title), tools),
    note ? h("p", { class: "note" }, note) : null,
    ...content,
  );
}
