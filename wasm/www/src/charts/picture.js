/** A chart as a PNG: the SVG with the page's styles written into it, drawn on a canvas. */

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
export async function png(chart) {
  const { width, height } = chart.getBoundingClientRect();
  const image = new Image();
  const source = new XMLSerializer().serializeToString(styledCopy(chart, width, height));
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {
    width: width * SHARPNESS,
    height: height * SHARPNESS,
  });
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--surface");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
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
