/** What the page writes the program reads, and the other way round. */

import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SHORT, expect, test } from "./lab-page.js";

const hbat = process.env.HBAT ?? new URL("../../../target/release/hbat", import.meta.url).pathname;

test("a run file of the page trains the same run natively, and its metrics come back into the page", async ({
  lab,
  page,
  folder,
}) => {
  await lab.open({ ...SHORT, seed: 2 });
  await lab.finish();
  await lab.lane("hbat").locator(".lane-name").click();
  copyFileSync(await lab.download("run.toml"), join(folder, "run.toml"));
  const live = readFileSync(await lab.download("metrics.jsonl"), "utf8");
  execFileSync(hbat, ["train", "run.toml", "--quiet", "--output", "out"], { cwd: folder });
  const path = join(folder, "out", "metrics.jsonl");
  const [ours, theirs] = [steps(live), steps(readFileSync(path, "utf8"))];
  expect(ours).toHaveLength(theirs.length);
  ours.forEach((loss, at) => expect(Math.abs(loss - theirs[at]) / theirs[at], `step ${at + 1}`).toBeLessThan(1e-3));

  await page.locator("#import").setInputFiles(path);
  await expect(page.locator(".source")).toHaveText("Opened from a file");
  await expect(page.locator(".lane")).toHaveCount(1);
  await expect(page.locator(".trails .dot").first()).toBeVisible();
  expect(await lab.course("loss")).toHaveLength(theirs.length);
  await expect(page.locator(".answers")).toContainText("numbers only");
});

test("a run by PPO takes its judge along", async ({ lab, page, folder }) => {
  await lab.open({ ...SHORT, preference: "ppo", lanes: "hbat" });
  await lab.finish();
  for (const name of ["run.toml", "judge.toml"]) copyFileSync(await lab.download(name), join(folder, name));
  const live = readFileSync(await lab.download("metrics.jsonl"), "utf8");
  execFileSync(hbat, ["train", "judge.toml", "--quiet", "--output", "judge"], { cwd: folder });
  execFileSync(hbat, ["train", "run.toml", "--quiet", "--output", "out"], { cwd: folder });
  const path = join(folder, "out", "metrics.jsonl");
  const [ours, theirs] = [live, readFileSync(path, "utf8")].map((text) => steps(text, "grad_norm"));
  expect(ours).toHaveLength(theirs.length);
  // Answers that are drawn are others some day, for a last bit's difference.
  ours
    .slice(0, 4)
    .forEach((norm, at) => expect(Math.abs(norm - theirs[at]) / theirs[at], `step ${at + 1}`).toBeLessThan(1e-3));
  await page.locator("#import").setInputFiles(path);
  await expect(page.locator("#plane .legend")).toContainText("preferences (PPO)");
  await lab.course("rollouts");
});

test("the page's own metrics can be opened again, several lanes at once", async ({ lab, page, folder }) => {
  await lab.open(SHORT);
  await lab.finish();
  const files = [];
  for (const method of ["two-stage", "hbat"]) {
    await lab.lane(method).locator(".lane-name").click();
    const file = join(folder, `${method}.jsonl`);
    copyFileSync(await lab.download("metrics.jsonl"), file);
    files.push(file);
  }
  await page.locator("#import").setInputFiles(files);
  await expect(page.locator(".lane")).toHaveCount(2);
  await expect(page.locator("g.head")).toHaveCount(2);
});

test("the exported model gives the program the page's own answers", async ({ lab, folder }) => {
  await lab.open({ ...SHORT, model: "tiny" });
  await lab.finish();
  await lab.lane("hbat").locator(".lane-name").click();
  copyFileSync(await lab.download("run.toml"), join(folder, "run.toml"));
  execFileSync(hbat, ["train", "run.toml", "--quiet", "--output", "out"], { cwd: folder });
  const model = join(folder, "out", "last");
  copyFileSync(await lab.download("model.safetensors"), join(model, "model.safetensors"));
  const answers = await lab.csv("generations");
  writeFileSync(join(folder, "prompts.txt"), answers.map((row) => row.Prompt).join("\n"));
  const told = execFileSync(hbat, ["generate", "-m", model, "--prompts", "prompts.txt", "--max-new-tokens", "9"], {
    cwd: folder,
    encoding: "utf8",
  });
  for (const { Prompt, HBAT } of answers) expect(told).toContain(`> ${Prompt}\n${HBAT}\n`);
});

for (const [name, text, says] of [
  ["torn", '{"kind":"evaluation","method":"hbat","sft_nll":1,"margin":0}\n{"kind":"st', "line 2 is no JSON"],
  ["foreign", '{"loss": 3}\n', "is no kind of record that hbat writes"],
  [
    "null",
    '{"kind":"evaluation","method":"hbat","sft_nll":null,"margin":0}\n',
    "“sft_nll” is null: no demonstrations were validated",
  ],
  ["empty", "", "has no evaluation"],
  ["young", '{"kind":"evaluation","method":"hbat","sft_nll":1,"margin":0}\n', "has no phase yet"],
]) {
  test(`a broken file is told: ${name}`, async ({ lab, page, folder }) => {
    await lab.open();
    await lab.reached(1);
    const file = join(folder, "metrics.jsonl");
    writeFileSync(file, text);
    await page.locator("#import").setInputFiles(file);
    await expect(page.locator("#files .hint").last()).toContainText(says);
    await expect(page.locator(".source")).toContainText("Recorded run");
  });
}

function steps(text, number = "loss") {
  const records = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  return records.filter((record) => record.kind === "step").map((record) => record[number]);
}
