/** Time in a run: play, one step, one phase, scrub. Where a live run's known steps end, the player asks for more. */

/** Steps per second to choose from; the last one is as fast as it goes. */
export const SPEEDS = [2, 8, 24, 72, Infinity];

/** Steps per second of a replay that is to go as fast as it can. */
const FASTEST_REPLAY = 400;

export class Player extends EventTarget {
  #run = null;
  #source = null;
  #target = Infinity;
  #turn = 0;

  cursor = 0;
  playing = false;
  speed = SPEEDS[2];

  get run() {
    return this.#run;
  }

  /**
   * Shows another run, from its start.
   * @param {import("./run.js").Run} run
   * @param {{ advance: () => Promise<void> } | null} [source] trains one more step of every lane
   */
  load(run, source = null) {
    this.pause();
    this.#run = run;
    this.#source = source;
    this.cursor = 0;
    this.#changed();
  }

  /** @param {number} [target] the step to stop at */
  play(target = Infinity) {
    this.#target = target;
    if (this.cursor >= this.#run.length) this.cursor = 0;
    if (!this.playing) {
      this.playing = true;
      this.#go(++this.#turn);
    }
    this.#changed();
  }

  pause() {
    this.playing = false;
    this.#turn++;
    this.#changed();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** One optimizer step of every lane. */
  step() {
    if (this.cursor < this.#run.length) this.play(Math.floor(this.cursor) + 1);
  }

  /** To the next end of a phase, of any lane. */
  phase() {
    if (this.cursor < this.#run.length) this.play(this.#run.nextBoundary(this.cursor));
  }

  /** To a step that is known. */
  seek(step) {
    this.playing = false;
    this.#turn++;
    this.cursor = Math.max(0, Math.min(step, this.#run.head));
    this.#changed();
  }

  setSpeed(speed) {
    this.speed = speed;
    this.#changed();
  }

  async #go(turn) {
    let before = performance.now();
    let exact = this.cursor;
    while (turn === this.#turn && this.cursor < Math.min(this.#target, this.#run.length)) {
      if (this.cursor < this.#run.head) {
        const now = await nextFrame();
        if (turn !== this.#turn) return;
        exact += (Math.min(now - before, 100) / 1000) * Math.min(this.speed, FASTEST_REPLAY);
        before = now;
        exact = Math.min(exact, this.#run.head, this.#target);
        this.cursor = Math.max(this.cursor, Math.floor(exact));
      } else {
        const trained = await this.#train(before, turn);
        if (turn !== this.#turn) return;
        if (!trained) break;
        before = performance.now();
        this.cursor = exact = Math.min(this.#run.head, this.#target);
      }
      this.#changed();
    }
    if (turn === this.#turn) this.pause();
  }

  /** Trains a step, not sooner after the last one than the speed says; whether there was one to train. */
  async #train(before, turn) {
    if (!this.#source || this.#run.finished) return false;
    await delay(1000 / this.speed - (performance.now() - before));
    try {
      await this.#source.advance();
      return true;
    } catch (error) {
      // What fails after another run was loaded was stopped on purpose.
      if (turn === this.#turn) this.dispatchEvent(new CustomEvent("failed", { detail: error }));
      return false;
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function nextFrame() {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}

function delay(milliseconds) {
  return milliseconds > 0 ? new Promise((resolve) => setTimeout(resolve, milliseconds)) : Promise.resolve();
}
