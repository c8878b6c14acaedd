/** Charts as PNG: an SVG with the page's styles written into it, or canvases, drawn on one canvas. */

const STYLES = [
  "fill",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linecap",
  "stroke-linejoin",
  "opacity",
  "fill-opacity",
  "stroke-opacity",
  "font-family",
  "font-size",
  "font-weight",
  "text-anchor",
  "paint-order",
  "display",
  "visibility",
  "transform",
];

/** Pixels of the picture per pixel of the page. */
const SHARPNESS = 2;

/**
 * @param {SVGElement} chart
 * @returns {Promise<Blob>}
 */
export async function pngOfChart(chart) {
  const { width, height } = chart.getBoundingClientRect();
  const image = new Image();
  const source = new XMLSerializer().serializeToString(styledCopy(chart, width, height));
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
  await image.decode();
  return drawn(width, height, (context) => context.drawImage(image, 0, 0, width, height));
}

/** Pixels around strips, and for the title above each. */
const MARGIN = 12;
const TITLE = 24;

/**
 * Canvases one below the other, each with its title.
 * @param {{ title: string, canvas: HTMLCanvasElement }[]} strips
 * @returns {Promise<Blob>}
 */
export function pngOfStrips(strips) {
  const boxes = strips.map(({ canvas }) => canvas.getBoundingClientRect());
  const width = Math.max(...boxes.map((box) => box.width)) + 2 * MARGIN;
  const height = boxes.reduce((sum, box) => sum + TITLE + box.height + MARGIN, 0);
  return drawn(width, height, (context) => {
    const style = getComputedStyle(document.body);
    context.font = `13px ${style.fontFamily}`;
    context.fillStyle = style.color;
    let top = 0;
    strips.forEach(({ title, canvas }, at) => {
      context.fillText(title, MARGIN, top + TITLE - 8);
      context.drawImage(canvas, MARGIN, top + TITLE, boxes[at].width, boxes[at].height);
      top += TITLE + boxes[at].height + MARGIN;
    });
  });
}

/** A picture of so many pixels of the page on the page's own ground. */
function drawn(width, height, draw) {
  const canvas = Object.assign(document.createElement("canvas"), {
    width: width * SHARPNESS,
    height: height * SHARPNESS,
  });
  const context = canvas.getContext("2d");
  context.scale(SHARPNESS, SHARPNESS);
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--surface");
  context.fillRect(0, 0, width, height);
  draw(context);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function styledCopy(chart, width, height) {
  const copy = chart.cloneNode(true);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const originals = [chart, ...chart.querySelectorAll("*")];
  const copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, index) => {
    const style = getComputedStyle(original);
    for (const name of STYLES) copies[index].style.setProperty(name, style.getPropertyValue(name));
  });
  return copy;
}
