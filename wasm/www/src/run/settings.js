/** Settings of a live run: what may be changed, and their place in the address. */

/**
 * @typedef {{ value: unknown, min?: number, max?: number, step?: number, choices?: string[], help?: string }} Field
 * @typedef {Record<string, Field>} Fields as the training module describes them
 */

/**
 * @param {Fields} fields
 * @returns {Record<string, unknown>}
 */
export function defaultSettings(fields) {
  return Object.fromEntries(Object.entries(fields).map(([name, { value }]) => [name, structuredClone(value)]));
}

/**
 * The fragment of an address: the seed, and every setting that is not the default.
 * @param {Fields} fields
 * @param {Record<string, unknown>} settings
 */
export function toFragment(fields, settings) {
  const parts = new URLSearchParams();
  for (const [name, { value }] of Object.entries(fields)) {
    const text = String(settings[name]);
    if (name === "seed" || text !== String(value)) parts.set(name, text);
  }
  return `#${parts.toString().replaceAll("%2C", ",")}`;
}

/**
 * Reads a fragment. What it says wrongly is told, and the default stands.
 * @param {Fields} fields
 * @param {string} fragment
 * @returns {{ settings: Record<string, unknown>, given: boolean, complaints: string[] }}
 */
export function fromFragment(fields, fragment) {
  const settings = defaultSettings(fields);
  const complaints = [];
  let given = false;
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const field = fields[name];
    if (!field) {
      complaints.push(`“${name}” is no setting`);
      continue;
    }
    const read = Array.isArray(field.value) ? readList(text, field) : readOne(text, field);
    if (read.problem) complaints.push(`${name}=${text} ${read.problem}; ${String(field.value)} is used`);
    else settings[name] = read.value;
    given = true;
  }
  return { settings, given, complaints };
}

/** @returns {{ value?: unknown, problem?: string }} */
export function readOne(text, field) {
  if (typeof field.value !== "number") {
    return field.choices?.includes(text) ? { value: text } : { problem: `is none of ${field.choices?.join(", ")}` };
  }
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) return { problem: "is no number" };
  const { min = -Infinity, max = Infinity, step } = field;
  if (value < min || value > max) return { problem: `is not between ${min} and ${max}` };
  if (Number.isInteger(step) && !Number.isInteger(value)) return { problem: "is no whole number" };
  return { value };
}

function readList(text, { value, choices }) {
  const names = text.split(",");
  if (names.length > value.length) return { problem: `names more than ${value.length} lanes` };
  const unknown = names.find((name) => !choices.includes(name));
  if (unknown !== undefined) return { problem: `has “${unknown}”, which is none of ${choices.join(", ")}` };
  if (new Set(names).size < names.length) return { problem: "names a lane twice" };
  return { value: names };
}
