/** Puts the page together. */

import "./style/index.css";
import { announcer } from "./page/announcer.js";
import { pageKeys } from "./page/keyboard.js";
import { Notices } from "./page/notices.js";
import { worksOffline } from "./page/offline.js";
import { Session } from "./page/session.js";
import { sourceLine } from "./page/source-line.js";
import { PageState } from "./page/state.js";
import { themeSwitch } from "./page/theme.js";
import { Tour } from "./page/tour.js";
import { conflictPanel } from "./panels/conflict.js";
import { controlsPanel } from "./panels/controls.js";
import { coursePanel } from "./panels/course.js";
import { filesPanel } from "./panels/files.js";
import { generationsPanel } from "./panels/generations.js";
import { lanesPanel } from "./panels/lanes.js";
import { planePanel } from "./panels/plane.js";
import { transport } from "./panels/transport.js";
import { trustPanel } from "./panels/trust.js";
import { tunePanel } from "./panels/tune.js";
import { unitsPanel } from "./panels/units.js";
import { fetchGhosts, fetchRecording } from "./run/recording.js";

const state = new PageState();
const notices = new Notices();
const session = new Session(state, notices);
const guide = new Tour(state);

const views = {
  source: sourceLine(state),
  transport: transport(state, session),
  lanes: lanesPanel(state),
  controls: controlsPanel(state, session),
  plane: planePanel(state),
  conflict: conflictPanel(state),
  units: unitsPanel(state),
  course: coursePanel(state),
  generations: generationsPanel(state, (prompt) => session.ask(prompt)),
  tune: tunePanel(state, session),
  trust: trustPanel(session),
  files: filesPanel(state, session),
  announcer: announcer(state),
};

function place() {
  for (const [name, view] of Object.entries(views))
    document.querySelector(`[data-place=${name}]`).replaceWith(view.element);
  document.querySelector("[data-place=notices]").replaceWith(notices.element);
  document.querySelector("[data-place=theme]").replaceWith(themeSwitch());
  document.querySelector("#begin-tour").addEventListener("click", () => guide.begin());
  document.querySelector("#train").addEventListener("click", () => session.train());
  document.body.append(guide.element);
}

function update() {
  for (const view of Object.values(views)) view.update();
  const train = document.querySelector("#train");
  train.hidden = state.live !== null;
  train.disabled = !session.fields || session.busy;
  document.documentElement.dataset.run = String(state.runs);
  document.documentElement.dataset.step = String(Math.floor(state.player.cursor));
  document.documentElement.dataset.playing = String(state.player.playing);
}

async function openRecording() {
  try {
    const recording = await fetchRecording("recording.json");
    if (state.live) return;
    state.show(recording);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still) state.player.seek(recording.length);
    else state.player.play();
    state.set({ ghosts: await fetchGhosts("ghosts.json") });
  } catch (error) {
    notices.fail(`The recorded run could not be opened: ${error.message}`);
  }
}

/** Goes to the plane, and leaves the address to the settings. */
function skip(event) {
  event.preventDefault();
  const plane = document.querySelector("#plane");
  plane.tabIndex = -1;
  plane.focus();
}

place();
pageKeys(state);
state.addEventListener("update", update);
state.player.addEventListener("failed", ({ detail }) => notices.fail(`Training stopped: ${detail.message}`));
document.querySelector(".skip").addEventListener("click", skip);
addEventListener("hashchange", () => session.fields && session.followAddress());
await openRecording();
await session.open();
worksOffline(notices);
