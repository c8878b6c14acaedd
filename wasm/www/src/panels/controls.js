/** The settings of the next live run. */

import { h, setAttribute, setText } from "../dom/element.js";
import { FIELDS, GROUPS, METHOD_NAMES } from "./field-names.js";
import { numberField } from "./number-field.js";
import { section } from "./panel.js";

/**
 * @param {import("../page/state.js").PageState} state
 * @param {import("../page/session.js").Session} session
 * @returns {import("./panel.js").View}
 */
export function controlsPanel(state, session) {
  const form = h("form", { class: "controls", novalidate: true });
  const train = h("button", { type: "submit", class: "primary" }, "Train it yourself");
  const defaults = h("button", { type: "button", onclick: () => session.resetDraft() }, "Defaults");
  const hint = h("p", { class: "hint", role: "status" });
  const buttons = h("div", { class: "form-buttons" }, train, defaults);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    session.train();
  });
  let rows = null;
  return {
    element: section("controls", "Settings", null, [form]),
    update() {
      if (!rows) {
        if (!session.fields && !state.run.header.settings) return;
        rows = makeRows(session);
        form.replaceChildren(...rows.groups, hint, buttons);
      }
      const values = session.draft ?? state.run.header.settings ?? {};
      for (const row of rows.all) {
        row.element.hidden = row.of !== undefined && row.of !== (values.preference ?? "dpo");
        // What nobody sees stops nobody.
        if (row.element.hidden) session.refused.delete(row.name);
        row.update(values, session.fields);
      }
      train.disabled = !session.fields || session.busy;
      setText(train, trainWord(state, session));
      setAttribute(train, "data-pending", session.pending);
      setText(hint, hintText(state, session));
    },
  };
}

function trainWord({ live }, { busy, judging, pending }) {
  if (judging) return `Teaching the judge: ${judging.done} of ${judging.total}`;
  if (busy) return "Preparing …";
  if (!live) return "Train it yourself";
  return pending ? "Start again with these" : "Start again";
}

function hintText({ live }, { fields, pending, failure }) {
  if (failure) return `The training module could not be loaded: ${failure}`;
  if (!fields) return "The training module is loading …";
  return live && pending ? "Changed settings hold from the next start on." : "";
}

function makeRows(session) {
  const all = [];
  const groups = GROUPS.map(({ title, names, open }) => {
    const rows = names.map((name) => ({ ...rowOf(name, session), name, of: FIELDS[name].of }));
    all.push(...rows);
    return h("details", { open }, h("summary", {}, title), ...rows.map((row) => row.element));
  });
  return { all, groups };
}

function rowOf(name, session) {
  const change = (value) => session.change(name, value);
  if (name === "backend") return backendField(session);
  if (name === "lanes") return laneField(session);
  if (FIELDS[name].kind === "choice") return choiceField(name, change);
  return numberField(name, FIELDS[name], session);
}

/** A select with its label and help. */
function selectField({ id, label, help = "" }, change) {
  const select = h("select", { id, "aria-describedby": `${id}-help` });
  select.addEventListener("change", () => change(select.value));
  const note = h("small", { id: `${id}-help`, class: "help" }, help);
  return { select, note, element: h("div", { class: "field" }, h("label", { for: id }, label), select, note) };
}

function choiceField(name, change) {
  const { select, note, element } = selectField({ id: `set-${name}`, label: FIELDS[name].label }, change);
  return {
    element,
    update(values, fields) {
      fillOptions(select, fields?.[name]?.choices ?? [values[name]], (choice) => choice);
      if (select.value !== values[name]) select.value = values[name];
      select.disabled = !fields;
      setText(note, fields?.[name]?.help ?? "");
    },
  };
}

/** The third lane is a choice; the first two are what the page is about. */
function laneField(session) {
  const change = (third) => session.change("lanes", [...session.draft.lanes.slice(0, 2), ...(third ? [third] : [])]);
  const { select, element } = selectField(
    { id: "set-lanes", label: "Third lane", help: "beside two-stage and HBAT" },
    change,
  );
  return {
    element,
    update(values, fields) {
      const [first, second, third = ""] = values.lanes ?? [];
      const fits = (choice) => choice === third || choice !== "mix" || values.preference === "dpo";
      const others = (fields?.lanes.choices ?? [third]).filter((choice) => choice !== first && choice !== second);
      const choices = others.filter(fits);
      fillOptions(select, [...choices.filter(Boolean), ""], (choice) => METHOD_NAMES[choice] ?? choice);
      if (select.value !== third) select.value = third;
      select.disabled = !fields;
    },
  };
}

function backendField(session) {
  const names = { auto: "automatic", cpu: "processor (SIMD)", webgpu: "WebGPU" };
  const help = "automatic: WebGPU where there is a GPU";
  const { select, element } = selectField({ id: "set-backend", label: "Trains on", help }, (wish) =>
    session.setBackend(wish),
  );
  fillOptions(select, Object.keys(names), (choice) => names[choice]);
  return {
    element,
    update(_, fields) {
      select.value = session.wish;
      select.disabled = !fields;
    },
  };
}

function fillOptions(select, choices, name) {
  const key = choices.join();
  if (select.dataset.choices === key) return;
  select.dataset.choices = key;
  select.replaceChildren(...choices.map((choice) => h("option", { value: choice }, name(choice))));
}
