/** The numbers behind a chart, as a table and as CSV. */

import { h } from "../dom/element.js";
import { short } from "../dom/numbers.js";

/**
 * @typedef {{ caption: string, columns: string[], rows: (string | number | null | undefined)[][] }} Table
 */

/**
 * @param {Table} table
 * @returns {HTMLElement}
 */
export function tableElement({ caption, columns, rows }) {
  const head = h("tr", {}, ...columns.map((column) => h("th", { scope: "col" }, column)));
  const body = rows.map((row) => h("tr", {}, ...row.map(cell)));
  return h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...body));
}

function cell(value, index) {
  if (index === 0) return h("th", { scope: "row" }, String(value ?? ""));
  if (typeof value === "number") return h("td", { class: "number" }, short(value));
  return h("td", {}, value ?? "–");
}

/** @param {Table} table */
export function csv({ columns, rows }) {
  return [columns, ...rows].map((row) => row.map(field).join(",")).join("\n") + "\n";
}

function field(value) {
  const text = String(value ?? "");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
