/** WebGPU in software: slow, so few steps. */

import { readFileSync } from "node:fs";
import { expect, test } from "./lab-page.js";

const golden = JSON.parse(readFileSync(new URL("./golden.json", import.meta.url), "utf8"));

async function onWebGpu(lab, settings) {
  await lab.open();
  await expect(lab.page.locator("#set-seed")).toBeEnabled({ timeout: 20_000 });
  await lab.page.locator("#set-backend").selectOption("webgpu");
  await lab.page.evaluate(
    (fragment) => (location.hash = fragment),
    `#${new URLSearchParams(settings)}`.replaceAll("%2C", ","),
  );
  await expect(lab.page.locator(".source")).toContainText("WebGPU", { timeout: 120_000 });
}

test("twenty steps on WebGPU give the native losses, and a GPU that is lost is replaced", async ({
  lab,
  page,
  browser,
}) => {
  test.setTimeout(600_000);
  await onWebGpu(lab, { ...golden.settings, measure_every: 1000 });
  await lab.fast();
  await lab.reached(golden.losses.length, 500_000);
  await lab.pause();
  console.log(`${await page.locator(".source").innerText()}: ${await page.locator(".place").innerText()}`);
  const label = (await page.locator(".lane .lane-name").innerText()).trim();
  const losses = (await lab.course("loss")).map((row) => row[label]);
  golden.losses.forEach((loss, at) => expect(Math.abs(losses[at] - loss) / loss, `step ${at + 1}`).toBeLessThan(1e-3));

  const reached = await lab.step();
  const session = await browser.newBrowserCDPSession();
  await session.send("Browser.crashGpuProcess").catch(() => {});
  const notice = page.locator(".notice", { hasText: "The GPU was lost" });
  await expect(notice).toContainText("goes on from the snapshot of step", { timeout: 120_000 });
  expect(await lab.step()).toBeLessThanOrEqual(reached);
  const from = await lab.step();
  await lab.button("One step").click();
  await lab.reached(from + 1, 120_000);
  lab.problems.length = 0;
});

test("the GPU is checked against the processor", async ({ lab, page }) => {
  test.setTimeout(300_000);
  await lab.open();
  await page.getByLabel("Steps to compare").selectOption("4");
  await lab.button("Check my GPU").click();
  await expect(page.locator("#trust .hint")).toContainText("After 4 steps", { timeout: 280_000 });
  await expect(page.locator("#trust tbody tr")).toHaveCount(4);
  await expect(page.locator("#trust .adapter")).toContainText(/name.+vendor/s);
});

test("a reader with a GPU trains a larger model on it", async ({ lab, page }) => {
  await lab.open();
  await expect(page.locator("#set-seed")).toBeEnabled({ timeout: 20_000 });
  await page.locator("#set-backend").selectOption("webgpu");
  await page.locator("#train").click();
  const source = page.locator(".source");
  await expect(source).toHaveText(/^Live · seed 0 · small model · WebGPU, \w+/, { timeout: 120_000 });
});
