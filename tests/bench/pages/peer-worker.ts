// onnxruntime-web in a web worker, as one would use it: pictures are drawn on a canvas of the network's size.

import * as ort from 'onnxruntime-web/wasm';

import { epochMs } from './clock.js';
import { type Input, normalize, openSession } from './onnx.js';

/** Loads a network. */
export interface Start {
  type: 'start';
  /** URL of the ONNX file. */
  model: string;
  /** URL of the manifest that says what the network takes. */
  manifest: string;
  /** Name of the network there. */
  variant: string;
  threads: number;
}

/** Runs one frame. */
interface Frame {
  type: 'frame';
  picture: VideoFrame | ImageBitmap;
  began: number;
}

/** The answer to one frame, with its stages in milliseconds. */
export interface Answer {
  label: string;
  probability: number;
  timings: Record<'capture' | 'normalize' | 'head' | 'encode' | 'network' | 'queue' | 'decode' | 'tail', number>;
}

interface Ready {
  input: Input;
  classes: string[];
  session: ort.InferenceSession;
  context: OffscreenCanvasRenderingContext2D;
}

let ready: Ready | undefined;

/** The parts of a manifest that are used here. */
interface Manifest {
  classes: string[];
  input: Input;
  /** Some take another input than the others. */
  variants: { name: string; input?: Input }[];
}

async function start({ model, manifest, variant, threads }: Start): Promise<void> {
  const [{ input: usual, variants, classes }, session] = await Promise.all([
    fetch(manifest).then((it): Promise<Manifest> => it.json()),
    openSession(model, threads),
  ]);
  const input = variants.find((it) => it.name === variant)?.input ?? usual;
  const [, height, width] = input.shape;
  const context = new OffscreenCanvas(width, height).getContext('2d', { alpha: false, willReadFrequently: true });
  if (!context) throw new Error('no canvas');
  ready = { input, classes, session, context };
}

function draw(picture: VideoFrame | ImageBitmap, context: OffscreenCanvasRenderingContext2D): ImageData {
  const { width, height } = context.canvas;
  const [w, h] =
    'displayWidth' in picture ? [picture.displayWidth, picture.displayHeight] : [picture.width, picture.height];
  // The largest part in the middle that has the proportions of the network's input.
  const scale = Math.min(w / width, h / height);
  const [cropWidth, cropHeight] = [width * scale, height * scale];
  context.drawImage(picture, (w - cropWidth) / 2, (h - cropHeight) / 2, cropWidth, cropHeight, 0, 0, width, height);
  picture.close();
  return context.getImageData(0, 0, width, height);
}

async function infer({ picture, began }: Frame, { input, classes, session, context }: Ready): Promise<Answer> {
  const pixels = draw(picture, context);
  const captured = epochMs();
  const tensor = new ort.Tensor('float32', normalize(input, pixels.data), [1, ...input.shape]);
  const normalized = epochMs();
  const { output } = await session.run({ input: tensor });
  const ran = epochMs();
  const powers = Array.from(output?.data as Float32Array, Math.exp);
  const best = powers.indexOf(Math.max(...powers));
  return {
    label: classes[best] ?? '',
    probability: (powers[best] ?? 0) / powers.reduce((sum, it) => sum + it, 0),
    timings: {
      capture: captured - began,
      normalize: normalized - captured,
      head: ran - normalized,
      encode: epochMs() - ran,
      network: 0,
      queue: 0,
      decode: 0,
      tail: 0,
    },
  };
}

self.onmessage = async ({ data }: MessageEvent<Start | Frame>) => {
  if (data.type === 'start') {
    await start(data);
    self.postMessage({ type: 'ready' });
  } else if (ready) {
    self.postMessage(await infer(data, ready));
  }
};
