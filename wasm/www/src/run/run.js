/** A run: what happened in every lane, from a recording, a metrics file, or live. */

/**
 * @typedef {{ name: string, side: "sft" | "dpo" | "mix", steps: number, start: number }} Phase
 * @typedef {{ text: string, task: string, covered: boolean, right: string }} Prompt
 * @typedef {{ text: string, mark: "right" | "wrong" | "formal" | "casual" | "end" | null }} Token
 * @typedef {{ rule: string, accumulated: number[] | null,
 *   rules: Record<string, { f: number[], effective_units: number }> }} Importance
 * @typedef {{ step: number, sft_loss: number, reward: number, score?: number,
 *   generations?: { tokens: Token[] }[] }} Moment
 * @typedef {{ step: number, phase: number, loss: number, penalty: number, grad_norm: number,
 *   penalty_grad_norm: number, learning_rate: number, score?: number, kl?: number }} Step
 * @typedef {{ sft_loss: number, reward: number }} Corner
 * @typedef {{ settings: Record<string, unknown>, units: string[], prompts: Prompt[],
 *   lanes: { method: string, label: string, phases: { name: string, side: string, steps: number }[] }[],
 *   judge?: { accuracy: number }, ideal: Corner | null, nadir: Corner | null, reward?: "reward" | "margin" }} Header
 */

/** One method's way through its phases. */
export class Lane {
  /** @param {Header["lanes"][number]} lane */
  constructor({ method, label, phases }) {
    this.method = method;
    this.label = label;
    /** @type {Phase[]} */
    this.phases = [];
    let start = 0;
    for (const phase of phases) {
      this.phases.push({ ...phase, start });
      start += phase.steps;
    }
    this.length = start;
    /** @type {Step[]} */
    this.steps = [];
    /** @type {Moment[]} */
    this.moments = [];
    /** @type {{ step: number, phase: number, importance: Importance | null, frozen?: number }[]} */
    this.starts = [];
    /** @type {{ step: number, prompt: string, tokens: Token[] }[]} to the reader's own prompt */
    this.answers = [];
    this.finished = false;
  }

  /** How many steps are known. */
  get head() {
    return this.steps.at(-1)?.step ?? 0;
  }

  append(frame) {
    if (frame.kind === "step") this.steps.push(frame);
    if (frame.kind === "moment") this.moments.push(frame);
    if (frame.kind === "phase") this.starts.push(frame);
    if (frame.kind === "finished") this.finished = true;
  }

  /** Forgets what came after `step`, as a restored lab does. */
  cutBackTo({ steps, moments, starts, finished }) {
    this.steps.length = steps;
    this.moments.length = moments;
    this.starts.length = starts;
    this.finished = finished;
    this.answers = this.answers.filter((answer) => answer.step <= this.head);
  }

  /** What {@link cutBackTo} needs to come back here. */
  mark() {
    const { steps, moments, starts, finished } = this;
    return { steps: steps.length, moments: moments.length, starts: starts.length, finished };
  }

  /** The index of the last moment at or before a step, −1 if there is none. */
  momentIndexAt(step) {
    return lastAt(this.moments, step);
  }

  momentAt(step) {
    return this.moments[this.momentIndexAt(step)];
  }

  answerIndexAt(step) {
    return lastAt(this.answers, step);
  }

  stepAt(step) {
    return this.steps[lastAt(this.steps, step)];
  }

  /** The phase that the step belongs to; step 0 is the start of the first one. */
  phaseAt(step) {
    const found = this.phases.findLast((phase) => phase.start < step);
    return found ?? this.phases[0];
  }

  /** How the phase of this step began. */
  startAt(step) {
    const phase = this.phases.indexOf(this.phaseAt(step));
    return this.starts.find((start) => start.phase === phase);
  }

  /** The importances that hold in the phase of this step. */
  importanceAt(step) {
    return this.startAt(step)?.importance ?? null;
  }
}

/** @param {{ step: number }[]} items in order */
function lastAt(items, step) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].step <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Lanes side by side, and where they came from. */
export class Run {
  /**
   * @param {Header} header
   * @param {"recorded" | "live" | "imported"} source
   */
  constructor(header, source) {
    this.header = header;
    this.source = source;
    this.lanes = header.lanes.map((lane) => new Lane(lane));
  }

  append(frames) {
    for (const frame of frames) this.lanes[frame.lane].append(frame);
  }

  /** Steps from start to end, of the longest lane. */
  get length() {
    return Math.max(0, ...this.lanes.map((lane) => lane.length));
  }

  /** The last step that is known of every lane that still runs. */
  get head() {
    const running = this.lanes.filter((lane) => !lane.finished && lane.head < lane.length);
    return running.length ? Math.min(...running.map((lane) => lane.head)) : this.length;
  }

  get finished() {
    return this.head >= this.length;
  }

  /** The first phase boundary after a step, of any lane. */
  nextBoundary(step) {
    const ends = this.lanes.flatMap((lane) => lane.phases.map((phase) => phase.start + phase.steps));
    const later = ends.filter((end) => end > step);
    return later.length ? Math.min(...later) : this.length;
  }
}
