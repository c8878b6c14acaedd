/** The lab as a test sees it. */

import { test as base, expect } from "@playwright/test";
import { readFileSync } from "node:fs";

/** Settings with which a whole run takes few steps. */
export const SHORT = { examples: 32, measure_every: 2 };

/** What Chromium itself says where there is no GPU. */
const NO_GPU = "No available adapters.";

export class LabPage {
  constructor(page) {
    this.page = page;
  }

  /** Opens the page; with settings, the run that they describe begins at once. */
  async open(settings = null) {
    const fragment = settings ? `#${new URLSearchParams({ seed: "0", ...settings })}`.replaceAll("%2C", ",") : "";
    await this.page.goto(`/${fragment}`);
    if (settings) await this.live();
  }

  /** Waits for the live run. */
  async live() {
    await expect(this.page.locator(".source[data-source=live]")).toBeVisible({ timeout: 60_000 });
  }

  async step() {
    return Number(await this.page.evaluate(() => document.documentElement.dataset.step));
  }

  async reached(step, timeout = 30_000) {
    await this.page.waitForFunction((wanted) => Number(document.documentElement.dataset.step) >= wanted, step, {
      timeout,
    });
  }

  /** Plays to the end. */
  async finish(timeout = 120_000) {
    await this.fast();
    const paused = (await this.page.locator("html").getAttribute("data-playing")) === "false";
    if (paused && (await this.button("One step").isEnabled())) await this.button("Play").click();
    await expect(this.button("One step")).toBeDisabled({ timeout });
  }

  async fast() {
    await this.page.locator("#speed").selectOption({ label: "as fast as it goes" });
  }

  async pause() {
    const pause = this.page.getByRole("button", { name: "Pause", exact: true });
    if (await pause.isVisible()) await pause.click();
    await expect(this.button("Play")).toBeVisible();
  }

  async scrub(step) {
    await this.page.locator("#scrub").fill(String(step));
  }

  /** Does what starts another run, and waits for it. */
  async another(start) {
    const shown = await this.page.locator("html").getAttribute("data-run");
    await start();
    await expect(this.page.locator("html")).not.toHaveAttribute("data-run", shown, { timeout: 30_000 });
  }

  button(name) {
    return this.page.getByRole("button", { name, exact: true });
  }

  lane(method) {
    return this.page.locator(`.lane[data-method="${method}"]`);
  }

  /** A figure of a lane's card. */
  async figure(method, name) {
    const text = await this.lane(method).locator("dl > div", { hasText: name }).locator("dd").innerText();
    return Number(text.replace("−", "-").replace("%", ""));
  }

  /** What a chart shows, by its CSV. */
  async csv(panel) {
    const [file] = await Promise.all([
      this.page.waitForEvent("download"),
      this.page
        .locator(`#${panel}`)
        .getByRole("button", { name: / as CSV$/ })
        .click(),
    ]);
    const [head, ...rows] = readFileSync(await file.path(), "utf8")
      .trim()
      .split("\n")
      .map((line) => line.split(","));
    return rows.map((row) => Object.fromEntries(row.map((cell, at) => [head[at], number(cell)])));
  }

  /** A quantity over the steps, per lane. */
  async course(quantity) {
    await this.page.locator("#course select").selectOption(quantity);
    return this.csv("course");
  }

  /** Size of a PNG in pixels, and how many colours it has. */
  async picture(path) {
    const url = `data:image/png;base64,${readFileSync(path).toString("base64")}`;
    return this.page.evaluate(async (url) => {
      const image = Object.assign(new Image(), { src: url });
      await image.decode();
      const { naturalWidth: width, naturalHeight: height } = image;
      const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
      context.drawImage(image, 0, 0);
      const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
      return { width, height, colours: new Set(pixels).size };
    }, url);
  }

  async download(name) {
    const [file] = await Promise.all([this.page.waitForEvent("download"), this.button(name).click()]);
    return file.path();
  }
}

function number(cell) {
  return cell === "" || Number.isNaN(Number(cell)) ? cell : Number(cell);
}

/** A page on which nothing may go wrong unseen. */
export const test = base.extend({
  lab: async ({ page }, use) => {
    const problems = [];
    page.on("console", (message) => {
      const wrong = ["error", "warning"].includes(message.type()) && !message.text().startsWith(NO_GPU);
      if (wrong) problems.push(`${message.type()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => problems.push(error.stack));
    const lab = new LabPage(page);
    lab.problems = problems;
    await use(lab);
    expect(problems).toEqual([]);
  },
  /** A folder of the test's own, gone with the next tests. */
  // eslint-disable-next-line no-empty-pattern -- Playwright reads from it what a fixture needs.
  folder: async ({}, use, testInfo) => use(testInfo.outputPath()),
});

export { expect };
