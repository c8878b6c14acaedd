/** Play, one step, one phase, scrub, speed, start again. */

import { h, setAttribute, setText } from "../dom/element.js";
import { SPEEDS } from "../run/player.js";

const ICONS = {
  play: "M4 2.5v11l9.5-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  step: "M3 2.5v11L10 8zM11 2.5h2v11h-2z",
  phase: "M2 2.5v11L7.5 8zM7.5 2.5v11L13 8zM13 2.5h1.6v11H13z",
  again: "M8 2a6 6 0 1 0 5.8 7.5l-2-.5A4 4 0 1 1 8 4c1.1 0 2 .4 2.8 1.2L8.5 7.5H14V2l-1.8 1.8A6 6 0 0 0 8 2z",
};

/**
 * @param {import("../page/state.js").PageState} state
 * @param {import("../page/session.js").Session} session
 * @returns {import("./panel.js").View}
 */
export function transport(state, session) {
  const { player } = state;
  const play = iconButton("play", "Play", () => player.toggle(), "primary round");
  const step = iconButton("step", "One step", () => player.step());
  const phase = iconButton("phase", "One phase", () => player.phase());
  const scrub = h("input", { type: "range", min: 0, step: 1, id: "scrub", "aria-label": "Step" });
  scrub.addEventListener("input", () => player.seek(Number(scrub.value)));
  const place = h("output", { for: "scrub", class: "place" });
  const head = h("span", { class: "head", "aria-hidden": "true" });
  const element = h(
    "div",
    { class: "transport", role: "toolbar", "aria-label": "Playback" },
    h("div", { class: "buttons" }, play, step, phase),
    h("div", { class: "scrub" }, head, scrub),
    h(
      "div",
      { class: "more" },
      place,
      speedChoice(player),
      h(
        "div",
        { class: "buttons" },
        labelled("again", "Restart", () => session.again()),
        labelled(null, "New seed", () => session.newSeed()),
      ),
    ),
  );
  return { element, update: () => show(state, { play, step, phase, scrub, place, head }) };
}

function show({ player, run, live }, { play, step, phase, scrub, place, head }) {
  const cursor = Math.floor(player.cursor);
  const word = player.playing ? "Pause" : "Play";
  setAttribute(play, "aria-label", word);
  setAttribute(play, "title", `${word} (space)`);
  setAttribute(play.querySelector("path"), "d", ICONS[player.playing ? "pause" : "play"]);
  const atEnd = cursor >= run.length;
  for (const button of [step, phase]) button.disabled = atEnd;
  setAttribute(scrub, "max", run.length);
  if (Number(scrub.value) !== cursor) scrub.value = String(cursor);
  setAttribute(scrub, "aria-valuetext", `step ${cursor} of ${run.length}`);
  scrub.style.setProperty("--at", `${share(cursor, run)}%`);
  head.style.width = `${share(run.head, run)}%`;
  const pace = live?.speed ? ` · ${live.speed.toFixed(live.speed < 10 ? 1 : 0)} steps/s` : "";
  setText(place, `step ${cursor} of ${run.length}${pace}`);
}

function share(step, run) {
  return run.length ? ((100 * step) / run.length).toFixed(2) : "0";
}

function speedChoice(player) {
  const names = SPEEDS.map((speed) => (Number.isFinite(speed) ? `${speed} steps/s` : "as fast as it goes"));
  const options = names.map((name, at) => h("option", { value: at, selected: SPEEDS[at] === player.speed }, name));
  const select = h("select", { id: "speed" }, ...options);
  select.addEventListener("change", () => player.setSpeed(SPEEDS[Number(select.value)]));
  return h("label", { class: "speed" }, h("span", {}, "Speed"), select);
}

function icon(name) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  element.setAttribute("viewBox", "0 0 16 16");
  element.setAttribute("aria-hidden", "true");
  element.innerHTML = `<path d="${ICONS[name]}"/>`;
  return element;
}

function iconButton(name, label, action, className = "") {
  return h(
    "button",
    { type: "button", class: `icon ${className}`, "aria-label": label, title: label, onclick: action },
    icon(name),
  );
}

function labelled(name, label, action) {
  return h("button", { type: "button", class: "labelled", onclick: action }, name ? icon(name) : null, label);
}
