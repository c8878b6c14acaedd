/** The stops of the tour. Each one brings the page to where its text is true. */

export const STOPS = [
  {
    title: "Two teachers",
    text: `One teacher shows demonstrations: right answers with a formal ending. The other only says which of two
      answers it prefers: the casual one, even where its digits are wrong. Every student here starts from the same
      weights and hears both. These are its answers before any lesson.`,
    target: "#generations",
    show: (state) => state.player.seek(0),
  },
  {
    title: "One after the other",
    text: `Two-stage training, the usual way, finishes with one teacher and then goes to the other. Watch it in the
      plane: the second stage gains reward, and the loss on demonstrations, which it no longer sees, runs away to the
      right.`,
    target: "#plane",
    show: (state) => playLane(state, "two-stage"),
  },
  {
    title: "In turns",
    text: `HBAT cuts both data sets into N parts and alternates. Each ribbon is one lane's schedule: IFA phases follow
      the demonstrations, HPA phases the preferences. The budget is the same for all.`,
    target: ".lanes",
    show: (state) => playLane(state, "hbat"),
  },
  {
    title: "Holding on to what the other one taught",
    text: `In each phase a penalty pulls the weights back to where the other teacher left them, each tensor by its
      importance F, which grows with how much the other teacher had changed it. Switch the rule: the paper's softmax
      holds all units alike, the released code's holds one, as the effective units say.`,
    target: "#units",
    show: showImportance,
  },
  {
    title: "Now you",
    text: `The whole trainer runs in this page. Set how far the teachers disagree, how firmly to hold, how often to
      alternate, and train it yourself. Before you believe a winner, let both methods tune β, and try other seeds.`,
    target: "#controls",
    show: (state) => state.player.pause(),
  },
];

function playLane(state, method) {
  const lane = Math.max(
    0,
    state.run.lanes.findIndex((each) => each.method === method),
  );
  state.set({ lane });
  state.player.seek(0);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) state.player.seek(state.run.head);
  else state.player.play(state.run.head);
}

/** The middle of the first phase that holds anything. */
function showImportance(state) {
  const lane = state.run.lanes.findIndex((each) => each.starts.some((start) => start.importance));
  if (lane < 0) return;
  const start = state.run.lanes[lane].starts.find((each) => each.importance);
  const phase = state.run.lanes[lane].phases[start.phase];
  state.set({ lane, rule: null });
  state.player.seek(Math.round(phase.start + phase.steps / 2));
}
