/** What the students write: six pinned prompts and one of the reader's own, lane beside lane. */

import { shapeIcon } from "../charts/marks.js";
import { h, setText } from "../dom/element.js";
import { answer, changes, tokenLegend } from "./tokens.js";
import { chartPanel } from "./panel.js";

/**
 * @param {import("../page/state.js").PageState} state
 * @param {(prompt: string) => Promise<void>} ask answers the reader's prompt in every lane of the live run
 * @returns {import("./panel.js").View}
 */
export function generationsPanel(state, ask) {
  const body = h("div", { class: "answers", role: "table", "aria-label": "Answers of every lane" });
  const compare = h("input", { type: "checkbox", id: "compare" });
  compare.addEventListener("change", () => state.changed());
  const own = ownPrompt(state, ask);
  const when = h("span", { class: "when" });
  let drawn = null;
  return chartPanel({
    id: "generations",
    title: "What they answer",
    note: "The same six prompts at every moment. Tasks that no preference is about show how far the damage spreads.",
    content: [tokenLegend(), own.element, body],
    tools: [when, h("label", { class: "check" }, compare, "answers of the moment before")],
    table: () => answersTable(state),
    update() {
      own.update();
      const shown = state.run.lanes.map((lane) => lane.momentIndexAt(state.step));
      setText(when, momentText(state));
      const key = [
        shown,
        compare.checked,
        state.run.lanes.map((lane) => lane.moments[0]?.own?.prompt),
        own.count(),
      ].join();
      if (drawn?.run === state.run && drawn.key === key) return;
      drawn = { run: state.run, key };
      body.replaceChildren(...rows(state, shown, compare.checked));
    },
  });
}

function momentText({ run, step }) {
  const steps = new Set(run.lanes.map((lane) => lane.momentAt(step)?.step).filter((at) => at !== undefined));
  return steps.size === 1 ? `at step ${[...steps][0]}` : "";
}

function rows(state, shown, compare) {
  const { run } = state;
  if (!run.header.prompts.length) {
    return [h("p", { class: "empty" }, "A metrics file holds numbers only: it has no answers to show.")];
  }
  const head = h(
    "div",
    { role: "row", class: "row head" },
    h("span", { role: "columnheader" }, "Prompt"),
    ...run.lanes.map((lane, index) => h("span", { role: "columnheader" }, shapeIcon(index), lane.label)),
  );
  const prompts = run.header.prompts.map((prompt, at) => ({ prompt, at }));
  const pinned = [true, false].flatMap((covered) => [
    group(covered),
    ...prompts
      .filter((each) => each.prompt.covered === covered)
      .map(({ prompt, at }) =>
        row(promptCell(prompt), run.lanes, shown, compare, (moment) => moment?.generations?.[at]),
      ),
  ]);
  const asked = run.lanes.map((lane, index) => lane.moments[shown[index]]?.own).find(Boolean);
  const own = asked ? [row(ownCell(asked.prompt), run.lanes, shown, compare, (moment) => moment?.own)] : [];
  return [head, ...pinned, ...own];
}

function row(head, lanes, shown, compare, pick) {
  const cells = lanes.map((lane, index) => {
    const [now, before] = [pick(lane.moments[shown[index]]), pick(lane.moments[shown[index] - 1])];
    const changed = changes(now?.tokens, before?.tokens);
    const earlier = compare && before ? h("div", { class: "earlier" }, "before: ", answer(before.tokens)) : null;
    const content = now ? answer(now.tokens, changed) : "–";
    return h("div", { role: "cell" }, h("span", { class: "lane-mark" }, shapeIcon(index)), content, earlier);
  });
  return h("div", { role: "row", class: "row" }, head, ...cells);
}

function group(covered) {
  const text = covered ? "Tasks that preferences cover" : "Tasks that preferences never show";
  return h("div", { role: "row", class: "group" }, h("span", { role: "cell" }, text));
}

function promptCell({ text, right }) {
  return h("div", { role: "rowheader", class: "prompt" }, h("code", {}, text), h("small", {}, `right: ${right}`));
}

function ownCell(prompt) {
  return h("div", { role: "rowheader", class: "prompt own" }, h("code", {}, prompt), h("small", {}, "your own"));
}

function ownPrompt(state, ask) {
  const input = h("input", {
    type: "text",
    id: "own-prompt",
    placeholder: "reverse 1 2 3 4 =",
    autocomplete: "off",
    spellcheck: "false",
  });
  const button = h("button", { type: "submit" }, "Ask");
  const reply = h("span", { class: "reply", role: "status" });
  let asked = 0;
  const submit = async (event) => {
    event.preventDefault();
    const prompt = input.value.trim();
    if (!prompt) return;
    button.disabled = true;
    try {
      await ask(prompt);
      asked++;
      setText(reply, "");
    } catch (error) {
      setText(reply, error.message);
    }
    button.disabled = !state.live;
    state.changed();
  };
  const element = h(
    "form",
    { class: "own-prompt", onsubmit: submit },
    h("label", { for: "own-prompt" }, "Your own prompt"),
    input,
    button,
    reply,
  );
  return {
    element,
    count: () => asked,
    update() {
      const live = state.live !== null;
      if (input.disabled === !live) return;
      input.disabled = button.disabled = !live;
      setText(reply, live ? "" : "needs a live run: a recording cannot answer");
    },
  };
}

function answersTable(state) {
  const { run, step } = state;
  const text = (tokens) => tokens?.map((token) => token.text).join(" ") ?? "";
  const rows = run.header.prompts.map((prompt, at) => [
    prompt.text,
    prompt.right,
    ...run.lanes.map((lane) => text(lane.momentAt(step)?.generations?.[at]?.tokens)),
  ]);
  return {
    caption: `Answers at step ${step}`,
    columns: ["Prompt", "Right", ...run.lanes.map((lane) => lane.label)],
    rows,
  };
}
