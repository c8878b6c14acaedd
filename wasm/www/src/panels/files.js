/** Take a run away, or bring one from the command line. */

import { h, setText } from "../dom/element.js";
import { download } from "../page/download.js";
import { runOfFiles } from "../run/metrics-file.js";
import { section } from "./panel.js";

const NOTE =
  "The link holds seed and settings: it trains the same run. " +
  "Files are of the chosen lane; charts have their own CSV and PNG.";

/** Larger files are no metrics of a run that could be looked at here. */
const MOST_BYTES = 64 * 1024 * 1024;

/**
 * @param {import("../page/state.js").PageState} state
 * @param {import("../page/session.js").Session} session
 * @returns {import("./panel.js").View}
 */
export function filesPanel(state, session) {
  const status = h("p", { class: "hint", role: "status" });
  const copy = h("button", { type: "button", onclick: () => copyLink(session, status) }, "Copy link");
  const saves = [
    ["metrics.jsonl", "metricsJsonl", "application/jsonl"],
    ["run.toml", "runToml", "application/toml"],
    ["judge.toml", "judgeToml", "application/toml"],
    ["model.safetensors", "safetensors", "application/octet-stream"],
  ].map(([name, method, type]) => ({ name, button: saveButton(state, status, { name, method, type }) }));
  const which = h("span", { class: "which" });
  const input = h("input", {
    type: "file",
    id: "import",
    accept: ".jsonl,.json,.txt",
    multiple: true,
    class: "visually-hidden",
  });
  input.addEventListener("change", () =>
    importFiles(state, [...input.files], status).finally(() => (input.value = "")),
  );
  const drop = h(
    "label",
    { class: "drop", for: "import" },
    "Open metrics.jsonl of ",
    h("code", {}, "hbat train"),
    " …",
  );
  dropTarget(drop, (files) => importFiles(state, files, status));
  const content = [
    h("div", { class: "row-buttons" }, copy, ...saves.map(({ button }) => button)),
    which,
    h("h3", {}, "From the command line"),
    h("div", { class: "import" }, input, drop),
    status,
  ];

  return {
    element: section("files", "Take it with you", NOTE, content),
    update() {
      copy.disabled = !session.fields || state.run.source === "imported";
      for (const { name, button } of saves) {
        button.disabled = !state.live;
        button.hidden = name === "judge.toml" && !state.run.header.judge;
      }
      setText(which, state.live ? `Files of ${state.shownLane.label}.` : "Files need a live run.");
    },
  };
}

function saveButton(state, status, { name, method, type }) {
  const save = async () => {
    const lane = state.run.lanes.indexOf(state.shownLane);
    try {
      const content = await state.live.worker.call(method, { lane });
      download(name, content, type);
      const { label, head } = state.shownLane;
      setText(
        status,
        name === "judge.toml" ? `${name}, which comes before run.toml.` : `${name} of ${label}, step ${head}.`,
      );
    } catch (error) {
      setText(status, `${name} could not be made: ${error.message}`);
    }
  };
  return h("button", { type: "button", onclick: save }, name);
}

async function copyLink(session, status) {
  try {
    await navigator.clipboard.writeText(session.link);
    setText(status, "The link is copied.");
  } catch {
    setText(status, session.link);
  }
}

async function importFiles(state, files, status) {
  if (!files.length) return;
  try {
    const large = files.find((file) => file.size > MOST_BYTES);
    if (large) throw new Error(`${large.name} is larger than ${MOST_BYTES / 1024 / 1024} MB`);
    const texts = await Promise.all(files.map(async (file) => ({ name: file.name, text: await file.text() })));
    const run = runOfFiles(texts);
    state.live?.stop();
    state.show(run);
    state.player.seek(run.length);
    setText(status, `Shown above: ${run.lanes.map((lane) => `${lane.label}, ${lane.head} steps`).join("; ")}.`);
    document.querySelector("#plane").scrollIntoView({ block: "center" });
  } catch (error) {
    setText(status, `Not opened. ${error.message}.`);
  }
}

function dropTarget(element, open) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.dataset.over = "";
  });
  element.addEventListener("dragleave", () => delete element.dataset.over);
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    delete element.dataset.over;
    open([...event.dataTransfer.files]);
  });
}
