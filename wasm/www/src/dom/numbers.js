/** Numbers as a reader wants them: three significant digits, a real minus sign, a dash where there is none. */

const DASH = "–";

/**
 * @param {number | null | undefined} value
 * @param {number} [digits] after the point
 */
export function fixed(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const text = value.toFixed(digits);
  return minus(Number(text) === 0 ? (0).toFixed(digits) : text);
}

/**
 * Three significant digits, with an exponent where there would be many zeros.
 * @param {number | null | undefined} value
 */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return power(value);
  return minus(String(Number(value.toPrecision(3))));
}

/** @param {number | null | undefined} value a share of one */
export function percent(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  return `${minus(String(Math.round(value * 100)))}%`;
}

/** @param {number} value */
function power(value) {
  const [mantissa, exponent] = value.toExponential(1).split("e");
  const raised = [...String(Number(exponent))].map((digit) => SUPERSCRIPT[digit]).join("");
  return `${minus(mantissa)}×10${raised}`;
}

const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** @param {string} text */
function minus(text) {
  return text.replace("-", "−");
}
