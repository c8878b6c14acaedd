/** After the first visit the page works without a network. */

/** @param {import("./notices.js").Notices} notices */
export async function worksOffline(notices) {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    await navigator.serviceWorker.ready;
    document.documentElement.dataset.offline = "ready";
  } catch (error) {
    notices.tell(`The page will not work offline: ${error.message}`, "offline");
  }
}
