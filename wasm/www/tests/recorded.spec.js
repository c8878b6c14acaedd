import { expect, test } from "./lab-page.js";

test("a recorded run plays within three seconds of opening", async ({ lab, page }) => {
  const began = Date.now();
  await lab.open();
  await lab.reached(1, 3000);
  expect(Date.now() - began).toBeLessThan(3000);
  await expect(page.locator(".source")).toHaveText(/^Recorded run · seed \d+ · \w+ model$/);
  await expect(page.locator(".lane")).toHaveCount(3);
  const before = await lab.step();
  await page.waitForTimeout(500);
  expect(await lab.step()).toBeGreaterThan(before);
});

test("it pauses, takes a step, a phase, and goes back", async ({ lab, page }) => {
  await lab.open();
  await lab.reached(3);
  await lab.pause();
  const at = await lab.step();
  await page.waitForTimeout(200);
  expect(await lab.step()).toBe(at);
  await lab.button("One step").click();
  await lab.reached(at + 1);
  await page.waitForTimeout(200);
  expect(await lab.step()).toBe(at + 1);

  await lab.fast();
  await lab.button("One phase").click();
  const ends = await page
    .locator(".ribbon")
    .evaluateAll((ribbons) => ribbons.map((ribbon) => Number(/(\d+) steps/.exec(ribbon.querySelector("li").title)[1])));
  await lab.reached(Math.min(...ends));
  await expect(lab.button("Play")).toBeVisible();
  expect(await lab.step()).toBe(Math.min(...ends));

  await lab.scrub(2);
  await expect(page.locator(".place")).toHaveText(/^step 2 of/);
});

test("pointing at a point of the plane brings back that moment's answers", async ({ lab, page }) => {
  await lab.open();
  await lab.reached(1);
  await lab.fast();
  await expect(lab.button("One step")).toBeDisabled({ timeout: 10_000 });
  const answers = page.locator(".answers");
  const atEnd = await answers.innerText();
  await page.locator(".trails .lane-0 .dot").first().hover({ force: true });
  await expect(answers).not.toHaveText(atEnd, { useInnerText: true });
  await page.mouse.move(0, 0);
  await expect.poll(() => answers.innerText()).toBe(atEnd);
});

test("the keyboard goes from moment to moment as well", async ({ lab, page }) => {
  await lab.open();
  await lab.reached(1);
  await lab.fast();
  await expect(lab.button("One step")).toBeDisabled({ timeout: 10_000 });
  const head = page.getByRole("slider", { name: "Trail of HBAT" });
  await head.focus();
  await page.keyboard.press("Home");
  await expect(head).toHaveAttribute("aria-valuenow", "0");
  await page.keyboard.press("ArrowRight");
  await expect(head).not.toHaveAttribute("aria-valuenow", "0");
  const step = Number(await head.getAttribute("aria-valuenow"));
  expect(step).toBeGreaterThan(0);
  await page.keyboard.press("Enter");
  await expect.poll(() => lab.step()).toBe(step);
});

test("every chart has a table, a CSV and, where it is one, a picture", async ({ lab, page }) => {
  await lab.open();
  await lab.reached(10);
  await lab.pause();
  for (const panel of ["plane", "units", "course", "generations"]) {
    const box = page.locator(`#${panel}`);
    await box.getByRole("button", { name: "Table" }).click();
    expect(await box.locator("tbody tr").count()).toBeGreaterThan(2);
    expect((await lab.csv(panel)).length).toBe(await box.locator("tbody tr").count());
    await box.getByRole("button", { name: "Chart" }).click();
    await expect(box.locator(".table")).toBeHidden();
  }
  for (const [title, name, tall] of [
    ["The plane", "plane", 400],
    ["Over the steps", "course", 190],
    ["Unit by unit", "units", 3 * 54],
  ]) {
    const [picture] = await Promise.all([page.waitForEvent("download"), lab.button(`${title} as PNG`).click()]);
    expect(picture.suggestedFilename()).toBe(`${name}.png`);
    const { width, height, colours } = await lab.picture(await picture.path());
    expect(width).toBeGreaterThan(400);
    expect(height).toBeGreaterThan(tall);
    expect(colours, name).toBeGreaterThan(3);
  }
});

test("the importance rule can be switched, and its degeneracy is seen", async ({ lab, page }) => {
  await lab.open();
  await lab.reached(1);
  await lab.pause();
  const [first] = await page
    .locator(".lane[data-method=hbat] .ribbon li")
    .evaluateAll((parts) => parts.map((part) => part.title));
  await lab.scrub(Number(/(\d+) steps/.exec(first)[1]) + 1);
  const effective = page.locator(".effective strong");
  await expect(effective).toContainText("units");
  const units = Number(/of (\d+) units/.exec(await effective.innerText())[1]);
  const held = async (rule) => {
    await page.locator(`[data-rule=${rule}]`).click();
    await expect(page.locator(`[data-rule=${rule}]`)).toHaveAttribute("aria-pressed", "true");
    return Number((await effective.innerText()).split(" ")[0]);
  };
  expect(await held("paper")).toBeCloseTo(units, 1);
  await expect(page.locator(".rules")).toHaveAttribute("data-degenerate", "uniform");
  expect(await held("reference")).toBeLessThan(2);
  await expect(page.locator(".rules")).toHaveAttribute("data-degenerate", "one");
  expect(await held("relative")).toBeLessThan(units * 0.99);
  expect(await held("proportional")).toBeGreaterThan(2);
});

test("who wants less motion sees the end of the run, still", async ({ lab, page }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await lab.open();
  await expect(lab.button("Play")).toBeVisible();
  await expect(lab.button("One step")).toBeDisabled();
});

test("a recording that cannot be loaded is told, and nothing else breaks", async ({ lab, page }) => {
  await page.route("**/recording.json", (route) => route.fulfill({ status: 404, body: "" }));
  await lab.open();
  await expect(page.getByRole("alert")).toContainText("The recorded run could not be opened");
  lab.problems.length = 0;
});

test("the tour has five stops and brings the page along", async ({ lab, page }) => {
  await lab.open();
  await lab.reached(1);
  await lab.button("Tour, five steps").click();
  const card = page.getByRole("dialog");
  await expect(card).toContainText("1 of 5");
  await expect(page.locator("#generations")).toHaveAttribute("data-toured");
  expect(await lab.step()).toBe(0);
  for (const at of [2, 3, 4]) {
    await card.getByRole("button", { name: "Next" }).click();
    await expect(card).toContainText(`${at} of 5`);
  }
  await expect(page.locator(".effective strong")).toContainText("units effectively held");
  await page.keyboard.press("ArrowRight");
  await expect(page.locator("#controls")).toHaveAttribute("data-toured");
  await card.getByRole("button", { name: "Done" }).click();
  await expect(card).toBeHidden();
});
