import { readFileSync } from "node:fs";
import { SHORT, expect, test } from "./lab-page.js";

const golden = JSON.parse(readFileSync(new URL("./golden.json", import.meta.url), "utf8"));

test("twenty steps on the processor give the losses of the native program", async ({ lab, page }) => {
  await lab.open(golden.settings);
  await expect(page.locator(".source")).toContainText("processor");
  await lab.fast();
  await lab.reached(golden.losses.length);
  await lab.pause();
  const label = await page.locator(".lane .lane-name").nth(golden.lane).innerText();
  const losses = (await lab.course("loss")).map((row) => row[label.trim()]).slice(0, golden.losses.length);
  golden.losses.forEach((loss, at) => expect(Math.abs(losses[at] - loss) / loss, `step ${at + 1}`).toBeLessThan(1e-4));
});

test("a reader without a GPU is told, and trains a small model on the processor", async ({ lab, page }) => {
  await lab.open();
  await page.locator("#train").click();
  await lab.live();
  await expect(page.locator(".notice")).toContainText(/on the processor, with the tiny model/);
  await expect(page.locator(".source")).toHaveText(/^Live · seed 0 · tiny model · processor$/);
  await lab.reached(2);
});

test("a live run pauses, steps, goes back, and starts again", async ({ lab, page }) => {
  await lab.open(SHORT);
  await lab.reached(1);
  await lab.pause();
  const at = await lab.step();
  await page.waitForTimeout(300);
  expect(await lab.step()).toBe(at);
  await lab.button("One step").click();
  await lab.reached(at + 1);
  await expect(lab.button("Play")).toBeVisible();
  expect(await lab.step()).toBe(at + 1);
  await lab.finish();
  const losses = await lab.course("loss");
  await lab.scrub(1);
  await expect(page.locator(".place")).toHaveText(/^step 1 of/);
  await lab.another(() => lab.button("Restart").click());
  await lab.finish();
  expect(await lab.course("loss")).toEqual(losses);
  await lab.another(() => lab.button("New seed").click());
  await expect(page.locator(".source")).toContainText("seed 1");
  await lab.finish();
  expect(await lab.course("loss")).not.toEqual(losses);
});

test("a prompt of one's own is answered at every moment", async ({ lab, page }) => {
  await lab.open(SHORT);
  await lab.reached(2);
  await lab.pause();
  await page.getByLabel("Your own prompt").fill("copy 1 2 3 =");
  await lab.button("Ask").click();
  await expect(page.locator(".prompt.own")).toContainText("copy 1 2 3 =");
  await lab.finish();
  await expect(page.locator(".row", { has: page.locator(".prompt.own") }).locator(".answer")).toHaveCount(3);
  await page.getByLabel("Your own prompt").fill("sort pears =");
  await lab.button("Ask").click();
  await expect(page.locator(".reply")).toContainText("pears");
});

test("the main thread is never blocked while the processor trains", async ({ lab, page }) => {
  await lab.open({ examples: 2048 });
  await page.evaluate(() => {
    window.long = [];
    const keep = (list) => window.long.push(...list.getEntries().map((entry) => entry.duration));
    new PerformanceObserver(keep).observe({ type: "longtask" });
  });
  await lab.fast();
  // Another program may take the processor away from the page, but not each time.
  await expect(async () => {
    const before = await lab.step();
    await page.evaluate(() => (window.long.length = 0));
    await page.waitForTimeout(3000);
    expect(await lab.step()).toBeGreaterThan(before);
    expect(await page.evaluate(() => window.long)).toEqual([]);
  }).toPass({ timeout: 25_000 });
});

test("an address gives the same run again", async ({ lab, page }) => {
  await lab.open({ ...SHORT, seed: 3, f_max: 7, lanes: "two-stage,hbat,mix" });
  await lab.finish();
  const losses = await lab.course("loss");
  const address = page.url();
  expect(address).toContain("f_max=7");
  expect(address).not.toContain("beta");
  await page.goto("about:blank");
  await page.goto(address);
  await lab.live();
  await expect(page.locator(".lane").nth(2)).toHaveAttribute("data-method", "mix");
  await lab.finish();
  expect(await lab.course("loss")).toEqual(losses);
});

test("a mangled address is told, and its defaults are used", async ({ lab, page }) => {
  await lab.open({ ...SHORT, f_max: "much", subsets: 99, colour: "red", importance: "guess" });
  const notices = page.locator(".notices");
  await expect(notices).toContainText("f_max=much is no number");
  await expect(notices).toContainText("subsets=99 is not between 1 and 10");
  await expect(notices).toContainText("“colour” is no setting");
  await expect(notices).toContainText("importance=guess is none of");
  await lab.reached(1);
  await expect(page.locator("#set-subsets")).toHaveValue("2");
});

test("without WebGPU there is nothing to check, and the page says so", async ({ lab, page }) => {
  await lab.open();
  await lab.button("Check my GPU").click();
  await expect(page.locator("#trust .hint")).toContainText("This browser offers no WebGPU");
});

test("a module that cannot be loaded is told, and the recording plays on", async ({ lab, page }) => {
  await page.route("**/*.wasm", (route) => route.abort());
  await lab.open();
  await expect(page.locator("#controls .hint")).toContainText("The training module could not be loaded", {
    timeout: 20_000,
  });
  await expect(page.locator("#train")).toBeDisabled();
  const at = await lab.step();
  await lab.reached(at + 1);
  lab.problems.length = 0;
});

test("a judge learns from the pairs, and teaches every lane its own answers", async ({ lab, page }) => {
  await lab.open({ examples: 128, measure_every: 4, preference: "ppo", lanes: "two-stage,hbat,sft" });
  await expect(page.locator(".source")).toContainText(/its judge is right on \d+% of held-out pairs$/);
  await expect(page.locator("#set-beta")).toBeHidden();
  await expect(page.locator("#set-kl_coefficient")).toBeVisible();
  await lab.finish();
  await expect(page.locator("#plane .legend")).toContainText("preferences (PPO)");
  const scores = await lab.course("rollouts");
  expect(scores.filter((row) => Number.isFinite(row["Two-stage"]))).toHaveLength(16);
  expect(scores.every((row) => row["SFT only"] === "")).toBe(true);
  const distances = (await lab.course("kl")).map((row) => row["Two-stage"]).filter(Number.isFinite);
  expect(Math.abs(distances[0])).toBeLessThan(1e-3);
  expect(distances.at(-1)).toBeGreaterThan(0.01);
  expect(await lab.figure("hbat", "Judge")).toBeGreaterThan(-20);
});

test("the best of a lane's own answers are learned, and pairs are ranked", async ({ lab, page }) => {
  await lab.open({ examples: 128, measure_every: 8, preference: "raft", raft_answers: 3, lanes: "two-stage,hbat" });
  await expect(page.locator(".source")).toContainText("its judge is right on");
  await expect(page.locator("#set-raft_answers")).toBeVisible();
  await expect(lab.button("Tune β for both")).toBeDisabled();
  await lab.finish();
  await expect(page.locator("#plane .legend")).toContainText("preferences (RAFT)");
  await expect(page.getByText("where 20 seeds ended")).toBeHidden();
  const scores = (await lab.course("rollouts")).map((row) => row.HBAT).filter(Number.isFinite);
  expect(scores).toHaveLength(16);
  await page.locator("#set-preference").selectOption("rrhf");
  await expect(page.locator("#set-raft_answers")).toBeHidden();
  await lab.another(() => lab.button("Start again with these").click());
  await lab.finish();
  await expect(page.locator("#plane .legend")).toContainText("preferences (RRHF)");
});

test("a start that is refused leaves the run that is shown, and ppo takes no mixed steps", async ({ lab, page }) => {
  await lab.open({ ...SHORT, lanes: "two-stage,hbat,mix" });
  await lab.reached(1);
  await lab.pause();
  await page.evaluate(() => (location.hash = "#seed=0&examples=32&preference=ppo&lanes=two-stage,hbat,mix"));
  await expect(page.locator(".notices")).toContainText("Training could not start: `lanes` is a list with mix");
  await lab.finish();
  await expect(lab.lane("mix")).toBeVisible();
  await page.locator("#set-preference").selectOption("dpo");
  await page.locator("#set-preference").selectOption("ppo");
  await lab.another(() => lab.button("Start again with these").click());
  await expect(page.locator(".lane")).toHaveCount(2);
});
