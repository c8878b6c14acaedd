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
      const key = [shown, compare.checked, state.run.lanes.map((lane) => lane.answerIndexAt(state.step))].join();
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
      .map(({ prompt, at }) => row(promptCell(prompt), pairs(run.lanes, shown, at), compare)),
  ]);
  return [head, ...pinned, ...ownRow(state, compare)];
}

/** Of every lane, its answer at the shown moment and at the one before. */
function pairs(lanes, shown, at) {
  return lanes.map((lane, index) =>
    [shown[index], shown[index] - 1].map((moment) => lane.moments[moment]?.generations?.[at]),
  );
}

/** Answers to the reader's own prompt; those to an earlier one are no moment before. */
function ownRow({ run, step }, compare) {
  const answers = run.lanes.map((lane) => {
    const [now, before] = [0, 1].map((back) => lane.answers[lane.answerIndexAt(step) - back]);
    return [now, before?.prompt === now?.prompt ? before : undefined];
  });
  const prompt = answers.find(([now]) => now)?.[0].prompt;
  return prompt === undefined ? [] : [row(ownCell(prompt), answers, compare)];
}

function row(head, answers, compare) {
  const cells = answers.map(([now, before], index) => {
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
  const submit = async (event) => {
    event.preventDefault();
    const prompt = input.value.trim();
    if (!prompt) return;
    button.disabled = true;
    try {
      await ask(prompt);
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
