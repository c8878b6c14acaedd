/** Pointing at a moment of the plane, by pointer or keyboard: the page shows that moment until it is left. */

/** How near the pointer must be, in pixels. */
const REACH = 18;

/**
 * @param {SVGElement} picture
 * @param {{ state: import("../page/state.js").PageState, scales: any }} view
 */
export function pointerInspection(picture, view) {
  const { state } = view;
  const inspect = (event) => {
    const found = nearest(picture, view, event);
    if (found?.step === state.inspected?.step && found?.lane === state.inspected?.lane) return;
    state.set({ inspected: found });
  };
  for (const kind of ["pointermove", "pointerdown"]) picture.addEventListener(kind, inspect);
  picture.addEventListener("pointerleave", () => state.set({ inspected: null }));
  picture.addEventListener("click", () => {
    const { inspected } = state;
    if (!inspected) return;
    state.set({ lane: inspected.lane });
    state.player.seek(inspected.step);
  });
}

/** The moment under the pointer, of those that the player has reached. */
function nearest(picture, { state, scales }, event) {
  if (!scales) return null;
  const corner = picture.getBoundingClientRect();
  const [left, top] = [event.clientX - corner.left, event.clientY - corner.top];
  let best = null;
  let reach = REACH;
  state.run.lanes.forEach((lane, index) => {
    for (const moment of lane.moments) {
      if (moment.step > state.player.cursor) break;
      const distance = Math.hypot(scales.x(moment.sft_loss) - left, scales.y(moment.reward) - top);
      if (distance < reach) [best, reach] = [{ step: moment.step, lane: index }, distance];
    }
  });
  return best;
}

/**
 * Arrow keys on a lane's head go from moment to moment, Enter moves the player there, Escape comes back.
 * @param {HTMLElement} frame around the picture; an SVG group that listens to focus would be focusable itself
 * @param {{ state: import("../page/state.js").PageState }} view
 */
export function keyboardInspection(frame, { state }) {
  frame.addEventListener("focusin", (event) => {
    state.set({ lane: Number(event.target.dataset.lane) });
  });
  frame.addEventListener("focusout", () => state.set({ inspected: null }));
  frame.addEventListener("keydown", (event) => {
    const index = Number(event.target.dataset.lane);
    const lane = state.run.lanes[index];
    const known = lane.momentIndexAt(state.player.cursor);
    const to = target(event.key, lane.momentIndexAt(state.step), known);
    if (to !== null) state.set({ inspected: { step: lane.moments[to].step, lane: index } });
    else if (event.key === "Enter") state.player.seek(state.step);
    else if (event.key === "Escape") state.set({ inspected: null });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

function target(key, now, last) {
  const to = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, Home: 0, End: last }[key];
  return to === undefined ? null : Math.max(0, Math.min(to, last));
}
