/** The recorded run and the ghosts: JSON files that stand beside the page. */

import { Run } from "./run.js";

/**
 * @param {string} url
 * @returns {Promise<Run>}
 */
export async function fetchRecording(url) {
  const [header, ...frames] = await fetchJson(url);
  if (header?.kind !== "header" || header.version !== 1) throw new Error(`${url} is no recording of version 1`);
  const run = new Run(header, "recorded");
  run.append(frames);
  return run;
}

/**
 * @typedef {{ method: string, points: [number, number][] }} GhostLane
 * @param {string} url
 * @returns {Promise<{ settings: Record<string, unknown>, lanes: GhostLane[] }>}
 */
export async function fetchGhosts(url) {
  return fetchJson(url);
}

async function fetchJson(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} could not be loaded: ${response.status} ${response.statusText}`);
  return response.json();
}
