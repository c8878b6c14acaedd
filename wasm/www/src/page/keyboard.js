/** Keys that work anywhere on the page, unless something that takes keys has the focus. */

const BUSY = "input:not([type=range]), select, textarea, button, summary, a, [role=slider], [role=dialog], canvas";

/** @param {import("./state.js").PageState} state */
export function pageKeys(state) {
  const { player } = state;
  const actions = {
    " ": () => player.toggle(),
    ".": () => player.step(),
    ">": () => player.phase(),
  };
  document.addEventListener("keydown", (event) => {
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || !state.run) return;
    if (event.target.closest(BUSY)) return;
    event.preventDefault();
    action();
  });
}
