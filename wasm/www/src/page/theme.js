/** Light or dark: as the system says, until the reader says otherwise. */

import { h, setAttribute, setText } from "../dom/element.js";

const KEY = "hbat-theme";
const ORDER = ["system", "light", "dark"];

export function themeSwitch() {
  const button = h("button", { type: "button", class: "quiet theme" });
  let theme = read();
  const show = () => {
    setAttribute(document.documentElement, "data-theme", theme === "system" ? null : theme);
    setText(button, `Theme: ${theme}`);
    document.dispatchEvent(new Event("theme"));
  };
  button.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    write(theme);
    show();
  });
  show();
  return button;
}

function read() {
  try {
    const theme = localStorage.getItem(KEY);
    return ORDER.includes(theme) ? theme : "system";
  } catch {
    return "system";
  }
}

function write(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // A browser that stores nothing keeps the choice for this visit.
  }
}
