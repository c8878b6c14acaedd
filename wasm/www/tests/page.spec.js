import AxeBuilder from "@axe-core/playwright";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { expect, test } from "./lab-page.js";

/** Bytes of everything that the first visit loads. */
const MOST_BYTES = 5 * 1024 * 1024;

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing, ${colorScheme}`, async ({ lab, page }) => {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await lab.open();
    await expect(page.locator("#set-seed")).toBeEnabled();
    const { violations } = await new AxeBuilder({ page }).analyze();
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`)).toEqual([]);
  });
}

test("the theme can be switched and is kept", async ({ lab, page }) => {
  await lab.open();
  await page.getByRole("button", { name: /^Theme/ }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await page.reload();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
});

test("nothing is wider than a phone", async ({ lab, page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  await lab.open();
  await lab.reached(1);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
});

test("all buttons and fields are reached with the tabulator key", async ({ lab, page }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await lab.open();
  await expect(page.locator("#set-seed")).toBeEnabled();
  const wanted = await page.evaluate(() => {
    const all = [...document.querySelectorAll("button, input, select, summary, [tabindex='0']")];
    return all.filter((each) => !each.disabled && each.checkVisibility({ visibilityProperty: true })).length;
  });
  const seen = await page.evaluate(() => (window.seen = new Set()).size);
  expect(seen).toBe(0);
  for (let press = 0; press < wanted + 10; press++) {
    await page.keyboard.press("Tab");
    await page.evaluate(() => window.seen.add(document.activeElement));
  }
  expect(await page.evaluate(() => window.seen.size)).toBeGreaterThanOrEqual(wanted);
});

test("after the first visit the page, its recording and its training work without a network", async ({
  lab,
  page,
  context,
}) => {
  await lab.open();
  await page.waitForFunction(() => document.documentElement.dataset.offline === "ready", null, { timeout: 30_000 });
  await context.setOffline(true);
  await page.reload();
  await lab.reached(1, 5000);
  await page.locator("#train").click();
  await lab.live();
});

test("the first visit loads no more than is allowed", () => {
  const folder = new URL("../dist/", import.meta.url).pathname;
  const first = (entry) => entry.isFile() && !entry.parentPath.includes("on-demand");
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(first);
  const sizes = files.map(({ name, parentPath }) => [name, compressed(readFileSync(join(parentPath, name)), name)]);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  const each = sizes.map(([name, size]) => `${name} ${Math.ceil(size / 1000)} kB`).join(", ");
  console.log(`${(total / 1e6).toFixed(2)} MB with brotli: ${each}`);
  expect(total).toBeLessThan(MOST_BYTES);
});

function compressed(bytes, name) {
  if (name.endsWith(".woff2") || name.endsWith(".br")) return bytes.length;
  return brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }).length;
}

const SHOTS = {
  light: { width: 1440, height: 1000 },
  dark: { width: 1440, height: 1000 },
  phone: { width: 360, height: 740 },
};

for (const [name, viewport] of Object.entries(SHOTS)) {
  test(`screenshot, ${name}`, async ({ lab, page }) => {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme: name === "dark" ? "dark" : "light", reducedMotion: "reduce" });
    await lab.open();
    await expect(page.locator("#set-seed")).toBeEnabled();
    await page.evaluate(() => document.fonts.ready);
    await page.screenshot({ path: `screenshots/${name}.png`, fullPage: true });
  });
}
