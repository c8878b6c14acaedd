/** A GPU that goes away is noticed here, whoever opened it. */

/** @param {(reason: string) => void} report called for every device that is lost */
export function watchDevices(report) {
  if (typeof GPUAdapter === "undefined") return;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function watched(...args) {
    const device = await requestDevice.apply(this, args);
    device.lost.then((info) => report(info.message || info.reason));
    return device;
  };
}
