/** Records half a second of a bar that moves, as WebM; to be run in a page. */
export async function recordClip(): Promise<number[]> {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d');
  const recorder = new MediaRecorder(canvas.captureStream());
  const parts: Blob[] = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start();
  for (let frame = 0; frame < 30; frame += 1) {
    context?.fillRect(9 * frame, 0, 5, 99);
    await new Promise(requestAnimationFrame);
  }
  await new Promise((resolve) => {
    recorder.onstop = resolve;
    recorder.stop();
  });
  return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
}
