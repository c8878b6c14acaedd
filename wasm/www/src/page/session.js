/** From settings to a live run: loads the module, holds the draft of the settings, starts training. */

import { chooseBackend } from "../lab/backend.js";
import { LabWorker } from "../lab/lab-worker.js";
import { Live } from "../lab/live.js";
import { defaultSettings, fromFragment, toFragment } from "../run/settings.js";

/** The model, where the reader chose none. */
const MODELS = { cpu: "tiny", webgpu: "small" };

export class Session {
  /** @type {import("../run/settings.js").Fields | null} */
  fields = null;
  /** @type {Record<string, any> | null} the settings of the next run */
  draft = null;
  /** @type {import("../lab/backend.js").Wish} */
  wish = "auto";
  busy = false;
  /** @type {{ done: number, total: number } | null} how far the judge is trained, before the run begins */
  judging = null;
  /** Whether the draft differs from the run that is shown. */
  pending = false;
  failure = null;
  /** @type {Set<string>} settings whose fields hold something that is refused */
  refused = new Set();
  /** Whether an address or the reader has said what to train. */
  #chosen = false;
  #spare = null;

  /**
   * @param {import("./state.js").PageState} state
   * @param {import("./notices.js").Notices} notices
   */
  constructor(state, notices) {
    this.state = state;
    this.notices = notices;
  }

  /** Loads the training module, and trains at once if the address says what. */
  async open() {
    const worker = new LabWorker();
    try {
      this.fields = await worker.call("start", { backend: "cpu" });
    } catch (error) {
      this.failure = error.message;
      worker.terminate();
      this.state.changed();
      return;
    }
    this.#spare = worker;
    this.draft = defaultSettings(this.fields);
    this.state.changed();
    if (location.hash.length > 1) await this.followAddress();
  }

  /** Trains what the address says. */
  async followAddress() {
    // A place of the page is no setting.
    if (document.getElementById(location.hash.slice(1))) return;
    const { settings, given, complaints } = fromFragment(this.fields, location.hash);
    for (const complaint of complaints) this.notices.warn(`The link: ${complaint}.`);
    if (!given) return;
    this.#chosen = true;
    this.refused.clear();
    this.draft = settings;
    await this.train();
  }

  /** Tells that a setting's field holds something that it cannot be. */
  refuse(name) {
    this.refused.add(name);
    this.state.changed();
  }

  change(name, value) {
    this.refused.delete(name);
    this.draft = fitting({ ...this.draft, [name]: value });
    this.#chosen = true;
    this.#compare();
  }

  resetDraft() {
    this.refused.clear();
    this.draft = { ...defaultSettings(this.fields), seed: this.draft.seed };
    this.#compare();
  }

  setBackend(wish) {
    this.wish = wish;
    this.pending = true;
    this.state.changed();
  }

  /** The address of the run that is shown, or else of the draft. */
  get link() {
    const settings = this.state.live?.run.header.settings ?? this.draft;
    const url = new URL(location.href);
    url.hash = settings ? toFragment(this.fields, settings) : "";
    return url.href;
  }

  /** Whether settings are those of the run that is shown, but for some. */
  isOfShown(settings, but) {
    const { header, source } = this.state.run;
    const same = Object.fromEntries(but.map((name) => [name, header.settings[name]]));
    return source !== "imported" && this.#alike(header.settings, { ...settings, ...same });
  }

  /** From the start once more: trained again if it is live, else replayed. */
  again() {
    if (this.state.live) return this.train();
    this.state.player.seek(0);
    this.state.player.play();
    return Promise.resolve();
  }

  newSeed() {
    if (!this.fields) return;
    const { seed } = this.draft;
    this.change("seed", seed < this.fields.seed.max ? seed + 1 : 0);
    this.train();
  }

  /** Has the reader's own prompt answered, now and at every moment from now on. */
  async ask(prompt) {
    const { live, player } = this.state;
    await live.ask(prompt);
    if (!player.playing) player.seek(live.run.head);
  }

  /** Starts the draft, from step 0, unless something that was typed is not in it. */
  async train() {
    if (this.busy || !this.fields) return;
    if (this.refused.size) {
      showField([...this.refused][0]);
      return;
    }
    this.busy = true;
    this.state.player.pause();
    try {
      await this.#start();
    } catch (error) {
      this.notices.fail(`Training could not start: ${error.message}`);
    }
    this.busy = false;
    this.judging = null;
    this.#compare();
  }

  async #start() {
    const { backend, notice } = await chooseBackend(this.wish);
    const smaller = this.#chosen ? "" : `, with the ${MODELS.cpu} model`;
    if (!this.#chosen) this.draft = { ...this.draft, model: MODELS[backend] };
    if (notice) this.notices.tell(`${notice}${smaller}.`, "backend");
    const worker = await this.#worker(backend);
    const live = await this.#live(backend, worker);
    // Only now: what is shown goes on to be what it was if there is nothing to take its place.
    this.state.live?.stop();
    live.addEventListener("recovered", ({ detail }) => this.#recovered(live, detail));
    this.state.show(live.run, live);
    // What trains, not what the reader has changed meanwhile.
    history.replaceState(null, "", toFragment(this.fields, live.run.header.settings));
    this.state.player.play();
  }

  async #live(backend, worker) {
    try {
      return await Live.start(this.draft, backend, worker, (judging) => this.#tell(judging));
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  #tell(judging) {
    this.judging = judging;
    this.state.changed();
  }

  /** The worker that the page opened with knows the processor only. */
  async #worker(backend) {
    if (backend === "cpu" && this.#spare) {
      const spare = this.#spare;
      this.#spare = null;
      return spare;
    }
    const worker = new LabWorker();
    await worker.call("start", { backend });
    return worker;
  }

  #recovered(live, { lostAt, step, backend }) {
    if (this.state.live !== live) return;
    const where = backend === "webgpu" ? "on the GPU again" : "on the processor";
    this.notices.tell(
      `The GPU was lost at step ${lostAt}. Training goes on from the snapshot of step ${step}, ${where}.`,
      "loss",
    );
    const { player } = this.state;
    if (player.cursor > live.run.head) player.cursor = live.run.head;
    this.state.changed();
  }

  #alike(one, other) {
    return toFragment(this.fields, one) === toFragment(this.fields, other);
  }

  #compare() {
    const shown = this.state.live?.run.header.settings;
    this.pending = !(shown && this.#alike(shown, this.draft));
    this.state.changed();
  }
}

/** Goes to the field of a setting, wherever it is folded away. */
function showField(name) {
  const box = document.getElementById(`set-${name}`);
  const folded = box.closest("details");
  if (folded) folded.open = true;
  box.focus();
}

/** Mixed steps are on pairs, by DPO. */
function fitting(draft) {
  if (draft.preference === "dpo") return draft;
  return { ...draft, lanes: draft.lanes.filter((method) => method !== "mix") };
}
