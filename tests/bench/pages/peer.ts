// The whole network on the device, in onnxruntime-web: takes frames and tells results as the product's page does.

import { epochMs } from './clock.js';
import type { Answer, Start } from './peer-worker.js';

const parameters = new URLSearchParams(location.search);
const worker = new Worker('/pages/peer-worker.js', { type: 'module' });

function ask<T>(message: object, transfer: Transferable[] = []): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<T>) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(message, transfer);
  });
}

/** Gives a picture now, and says when there is another. */
interface Source {
  take(): Promise<VideoFrame | ImageBitmap>;
  next(): Promise<unknown>;
}

async function camera(): Promise<Source> {
  const video = document.querySelector('video') as HTMLVideoElement;
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  await video.play();
  return {
    take: async () => new VideoFrame(video),
    next: () => new Promise((resolve) => video.requestVideoFrameCallback(resolve)),
  };
}

async function sample(): Promise<Source> {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  return {
    take: () => {
      context.fillStyle = `hsl(${performance.now() / 20} 80% 50%)`;
      context.fillRect(0, 0, canvas.width, canvas.height);
      return createImageBitmap(canvas);
    },
    next: () => new Promise((resolve) => requestAnimationFrame(resolve)),
  };
}

async function run(): Promise<void> {
  const start: Start = {
    type: 'start',
    model: parameters.get('model') ?? '',
    manifest: parameters.get('manifest') ?? '',
    variant: parameters.get('variant') ?? '',
    threads: Number(parameters.get('threads') ?? 1),
  };
  const [source] = await Promise.all([parameters.get('source') === 'sample' ? sample() : camera(), ask(start)]);
  const label = document.querySelector('#label') as HTMLElement;
  for (let frame = 0; ; frame += 1) {
    const began = epochMs();
    const picture = await source.take();
    const { timings, ...answer } = await ask<Answer>({ type: 'frame', picture, began }, [picture]);
    label.textContent = answer.label;
    const detail = { frame, messageBytes: 0, ...answer, timings: { ...timings, total: epochMs() - began } };
    document.dispatchEvent(new CustomEvent('result', { detail }));
    await source.next();
  }
}

void run();
