/** Milliseconds since the epoch, as finely as the browser tells: the page and its web workers share this clock. */
export function epochMs(): number {
  return performance.timeOrigin + performance.now();
}
