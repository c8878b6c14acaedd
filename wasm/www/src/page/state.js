/** What the page shows: one run at one moment, and what is chosen to look at. */

import { Player } from "../run/player.js";

export class PageState extends EventTarget {
  player = new Player();
  /** @type {{ lanes: import("../run/recording.js").GhostLane[] } | null} */
  ghosts = null;
  /** The moment under the pointer or the keyboard's focus: it is shown instead of the player's. */
  inspected = null;
  /** The lane whose units are shown. */
  lane = 0;
  /** The importance rule that is shown; null: the one that the run uses. */
  rule = null;
  /** @type {import("../lab/live.js").Live | null} */
  live = null;
  /** Points of *tune β for both*, drawn in the plane of the run that they belong to. */
  tuned = null;

  /** How many runs have been shown. */
  runs = 0;

  #asked = false;

  constructor() {
    super();
    this.player.addEventListener("change", () => this.changed());
  }

  /** @returns {import("../run/run.js").Run} */
  get run() {
    return this.player.run;
  }

  /** The step that is shown. */
  get step() {
    return this.inspected?.step ?? this.player.cursor;
  }

  get shownLane() {
    return this.run.lanes[this.lane] ?? this.run.lanes[0];
  }

  /**
   * Shows another run.
   * @param {import("../run/run.js").Run} run
   * @param {import("../lab/live.js").Live | null} [live]
   */
  show(run, live = null) {
    this.runs++;
    this.inspected = null;
    this.live = live;
    this.rule = null;
    this.tuned = null;
    const hbat = run.lanes.findIndex((lane) => lane.method === "hbat");
    this.lane = Math.max(0, hbat);
    this.player.load(run, live);
  }

  set(values) {
    Object.assign(this, values);
    this.changed();
  }

  /** Asks for one update of the page, in the next frame. */
  changed() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      if (this.run) this.dispatchEvent(new Event("update"));
    });
  }
}
