/** WebGPU in software: slow, so few steps. */

import { readFileSync } from "node:fs";
import { SHORT, expect, test } from "./lab-page.js";

const golden = JSON.parse(readFileSync(new URL("./golden.json", import.meta.url), "utf8"));

async function onWebGpu(lab, settings) {
  await lab.open();
  await expect(lab.page.locator("#set-seed")).toBeEnabled({ timeout: 20_000 });
  await lab.page.locator("#set-backend").selectOption("webgpu");
  await lab.page.evaluate(
    (fragment) => (location.hash = fragment),
    `#${new URLSearchParams(settings)}`.replaceAll("%2C", ","),
  );
  await expect(lab.page.locator(".source")).toContainText("WebGPU", { timeout: 60_000 });
}

test("twenty steps on WebGPU give the losses of the native program", async ({ lab, page }) => {
  test.setTimeout(300_000);
  const only = { ...golden.settings, lanes: golden.settings.lanes[golden.lane], measure_every: 1000 };
  await onWebGpu(lab, only);
  await lab.fast();
  await lab.reached(golden.losses.length, 280_000);
  await lab.pause();
  const label = (await page.locator(".lane .lane-name").innerText()).trim();
  const losses = (await lab.course("loss")).map((row) => row[label]);
  golden.losses.forEach((loss, at) => expect(Math.abs(losses[at] - loss) / loss, `step ${at + 1}`).toBeLessThan(1e-3));
});

test("a GPU that is lost is replaced, and training goes on from the snapshot", async ({ lab, page, browser }) => {
  test.setTimeout(180_000);
  await onWebGpu(lab, { ...SHORT, seed: 0, lanes: "hbat", measure_every: 1000 });
  await lab.reached(1, 60_000);
  await lab.pause();
  const session = await browser.newBrowserCDPSession();
  await session.send("Browser.crashGpuProcess").catch(() => {});
  await expect(page.locator(".notice", { hasText: "The GPU was lost" })).toContainText(
    "goes on from the snapshot of step",
    { timeout: 60_000 },
  );
  await lab.button("One step").click();
  await lab.reached(1, 60_000);
  lab.problems.length = 0;
});
