/** Which backend there is to train on. */

/**
 * @typedef {"auto" | "cpu" | "webgpu"} Wish
 * @param {Wish} wish
 * @returns {Promise<{ backend: "cpu" | "webgpu", notice: string | null }>}
 */
export async function chooseBackend(wish) {
  if (wish === "cpu") return { backend: "cpu", notice: null };
  const adapter = await findAdapter();
  const software = adapter?.info?.isFallbackAdapter ?? false;
  if (adapter && (wish === "webgpu" || !software)) return { backend: "webgpu", notice: null };
  return { backend: "cpu", notice: whyNot(software) };
}

/**
 * What the browser tells of its GPU; null where it offers none.
 * @returns {Promise<Record<string, string> | null>}
 */
export async function adapterFacts() {
  const adapter = await findAdapter();
  if (!adapter) return null;
  const told = ["vendor", "architecture", "device", "description"].map((name) => [name, adapter.info?.[name]]);
  return Object.fromEntries(told.filter(([, value]) => value));
}

async function findAdapter() {
  try {
    return (await navigator.gpu?.requestAdapter()) ?? null;
  } catch {
    return null;
  }
}

function whyNot(software) {
  return software
    ? "WebGPU is only emulated here, so training runs on the processor"
    : "This browser offers no WebGPU, so training runs on the processor";
}
