/** Every control changes what it says it changes. */

import { SHORT, expect, test } from "./lab-page.js";

/** A whole run with these settings, and what is asked of it. */
async function trained(lab, settings, measure) {
  await lab.page.goto("about:blank");
  await lab.open({ ...SHORT, ...settings });
  await lab.finish();
  return measure(lab);
}

const phases = (lab, method) =>
  lab
    .lane(method)
    .locator(".ribbon li")
    .evaluateAll((parts) => parts.map((part) => Number(/(\d+) steps/.exec(part.title)[1])));

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

test("N cuts the data into so many turns, and one turn is two-stage with an anchor", async ({ lab, page }) => {
  expect(await trained(lab, { subsets: 2 }, () => phases(lab, "hbat"))).toHaveLength(4);
  await page.locator("#set-subsets").fill("1");
  await page.locator("#set-subsets").blur();
  await expect(page.locator(".field", { has: page.locator("#set-subsets") })).toContainText("two-stage + anchor");
  await lab.another(() => lab.button("Start again with these").click());
  await expect(lab.lane("hbat").locator(".lane-name")).toHaveText("Two-stage + anchor");
  expect(await phases(lab, "hbat")).toHaveLength(2);
});

test("the third lane is a choice, and may be left out", async ({ lab, page }) => {
  await lab.open(SHORT);
  for (const [value, label] of [
    ["sft", "SFT only"],
    ["mix", "Mixed steps"],
    ["anchor-only", "Anchor only"],
    ["hbat-freeze", "HBAT-Freeze"],
    ["hbat-random", "HBAT-Random"],
  ]) {
    await page.locator("#set-lanes").selectOption(value);
    await lab.button("Start again with these").click();
    await expect(page.locator(".lane .lane-name").nth(2)).toHaveText(label);
    await lab.reached(1);
  }
  await page.locator("#set-lanes").selectOption("");
  await lab.button("Start again with these").click();
  await expect(page.locator(".lane")).toHaveCount(2);
});

test("more examples make a longer run, and a larger model has more units", async ({ lab }) => {
  const few = await trained(lab, { examples: 32 }, () => phases(lab, "hbat"));
  const many = await trained(lab, { examples: 64 }, () => phases(lab, "hbat"));
  expect(sum(many)).toBe(2 * sum(few));
  const tiny = (await lab.csv("units")).length;
  await lab.page.goto("about:blank");
  await lab.open({ ...SHORT, model: "small" });
  await lab.reached(1);
  await lab.pause();
  expect((await lab.csv("units")).length).toBeGreaterThan(tiny);
});

test("without F_max or without λ nothing is held, and more of either holds more", async ({ lab }) => {
  const penalty = async () => Math.max(...(await lab.course("penalty")).map((row) => row.HBAT));
  const drift = async () => sum((await lab.csv("units")).map((row) => row.Drift));
  const both = async () => ({ penalty: await penalty(), drift: await drift() });
  const run = { examples: 64, subsets: 1, lanes: "two-stage,hbat" };
  const label = async (settings) =>
    trained(lab, { ...run, ...settings }, async () =>
      (await lab.course("penalty")).map((row) => row["Two-stage + anchor"]),
    );
  expect(Math.max(...(await label({ f_max: 0 })))).toBe(0);
  expect(Math.max(...(await label({ lambda: 0 })))).toBe(0);
  const weak = await trained(lab, { examples: 64, f_max: 1 }, both);
  const strong = await trained(lab, { examples: 64, f_max: 1000 }, both);
  const stronger = await trained(lab, { examples: 64, f_max: 1000, lambda: 10 }, both);
  expect(weak.penalty).toBeGreaterThan(0);
  expect(strong.drift).toBeLessThan(weak.drift);
  expect(stronger.drift).toBeLessThan(strong.drift);
});

test("the importance rule decides how many units are held", async ({ lab, page }) => {
  const effective = async () => Number(await page.locator(".strips").getAttribute("data-effective"));
  const paper = await trained(lab, { importance: "paper" }, effective);
  const reference = await trained(lab, { importance: "reference" }, effective);
  const relative = await trained(lab, { importance: "relative" }, effective);
  expect(paper).toBeGreaterThan(relative);
  expect(relative).toBeGreaterThan(reference);
  expect(reference).toBeLessThan(2);
});

test("β scales the gradient of the first preference step", async ({ lab }) => {
  const first = async () => {
    const before = (await phases(lab, "two-stage"))[0];
    const metrics = await lab.download("metrics.jsonl");
    return gradient(metrics, before + 1);
  };
  const narrow = await trained(lab, { beta: 0.1, lanes: "two-stage" }, first);
  const wide = await trained(lab, { beta: 0.2, lanes: "two-stage" }, first);
  expect(wide / narrow).toBeCloseTo(2, 3);
});

test("learning rates are those that are asked for, and larger ones go further", async ({ lab }) => {
  const rates = async () => (await lab.course("learning_rate")).map((row) => row["Two-stage"]);
  const asked = await trained(lab, { sft_learning_rate: 0.002, dpo_learning_rate: 0.0001 }, rates);
  expect(Math.max(...asked)).toBeCloseTo(0.002, 6);
  const drift = async () => sum((await lab.csv("units")).map((row) => row.Drift));
  const slow = await trained(lab, { dpo_learning_rate: 0.0001 }, drift);
  const fast = await trained(lab, { dpo_learning_rate: 0.001 }, drift);
  expect(fast).toBeGreaterThan(2 * slow);
});

test("the more the teachers disagree, the less the start is liked", async ({ lab }) => {
  const reward = async () => (await lab.course("reward"))[0].HBAT;
  const agree = await trained(lab, { conflict: 0 }, reward);
  const disagree = await trained(lab, { conflict: 0.8 }, reward);
  expect(disagree).toBeLessThan(agree);
});

test("moments come as often as is asked for", async ({ lab }) => {
  const moments = async () => (await lab.course("reward")).map((row) => row.Step);
  const often = await trained(lab, { measure_every: 1 }, moments);
  const seldom = await trained(lab, { measure_every: 4 }, moments);
  expect(often).toEqual([...often.keys()]);
  expect(seldom.length).toBeLessThan(often.length);
});

test("a setting out of range is refused by name", async ({ lab, page }) => {
  await lab.open(SHORT);
  await page.locator("#set-f_max").fill("-3");
  await page.locator("#set-f_max").blur();
  await expect(page.locator(".field", { has: page.locator("#set-f_max") })).toContainText("is not between 0 and");
  await expect(page.locator("#set-f_max")).toHaveAttribute("aria-invalid", "true");
  await page.locator("#set-f_max").press("Enter");
  await expect(page.locator("#set-f_max")).toBeFocused();
  await expect(page.locator("html")).toHaveAttribute("data-run", "2");
  await page.locator("details", { has: page.locator("#set-f_max") }).evaluate((details) => (details.open = false));
  await lab.button("New seed").click();
  await expect(page.locator("#set-f_max")).toBeFocused();
  await expect(page.locator("html")).toHaveAttribute("data-run", "2");
  await page.locator("#set-beta").fill("-3");
  await page.locator("#set-beta").blur();
  await page.locator("#set-preference").selectOption("rrhf");
  await expect(page.locator("#set-beta")).toBeHidden();
  await page.locator("#set-preference").selectOption("dpo");
  await expect(page.locator("#set-beta")).not.toHaveValue("-3");
  await lab.button("Defaults").click();
  await expect(page.locator("#set-f_max")).not.toHaveAttribute("aria-invalid");
  await expect(page.locator("#set-f_max")).not.toHaveValue("-3");
});

test("the way past the masthead leaves the address alone", async ({ lab, page }) => {
  await lab.open(SHORT);
  const address = page.url();
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  await expect(page.locator("#plane")).toBeFocused();
  expect(page.url()).toBe(address);
});

test("the address is that of the run that trains, whatever is changed meanwhile", async ({ lab, page }) => {
  // Enough for a judge to take a while.
  await lab.open({ ...SHORT, examples: 512, lanes: "hbat", preference: "ppo" });
  await lab.button("Start again").click();
  await expect(page.locator(".controls .primary")).toContainText("Teaching the judge");
  await page.locator("#set-seed").fill("77");
  await page.locator("#set-seed").blur();
  await expect(page.locator("html")).toHaveAttribute("data-run", "3");
  expect(page.url()).not.toContain("77");
});

test("β is tuned for both", async ({ lab, page }) => {
  test.setTimeout(120_000);
  await lab.open({ ...SHORT, lanes: "two-stage,hbat" });
  await lab.finish();
  await lab.button("Tune β for both").click();
  const rows = page.locator("#tune tbody tr");
  await expect(rows.first()).toBeVisible({ timeout: 100_000 });
  await expect(page.locator("#tune tbody tr.best")).toHaveCount(2);
  await expect(page.locator("#tune .hint")).toContainText("each at its best");
  await expect(page.locator("g.tuned path")).toHaveCount(2);
  await page.locator("#set-seed").fill("9");
  await page.locator("#set-seed").blur();
  await lab.button("Tune β for both").click();
  await expect(page.locator("#tune .hint")).toContainText("Seed 9 alone", { timeout: 100_000 });
  await expect(page.locator("#tune .hint")).toContainText("The plane shows a run with other settings");
  await expect(page.locator("g.tuned path")).toHaveCount(0);
});

async function gradient(path, step) {
  const { readFileSync } = await import("node:fs");
  const lines = readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  return lines.find((record) => record.kind === "step" && record.global_step === step).grad_norm;
}
