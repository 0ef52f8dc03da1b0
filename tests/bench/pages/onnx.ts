// What both pages need of onnxruntime-web.

import * as ort from 'onnxruntime-web/wasm';

/** What a network takes, as the manifest says it. */
export interface Input {
  shape: [number, number, number];
  mean: [number, number, number];
  std: [number, number, number];
}

/** Loads a network, with the settings that are fastest for one image on a processor. */
export async function openSession(url: string, threads: number): Promise<ort.InferenceSession> {
  ort.env.wasm.wasmPaths = '/ort/';
  ort.env.wasm.numThreads = threads;
  return ort.InferenceSession.create(url, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
}

/** RGBA to the network's input. */
export function normalize({ mean, std }: Input, rgba: Uint8ClampedArray | Uint8Array): Float32Array {
  const positions = rgba.length / 4;
  const values = new Float32Array(3 * positions);
  for (let channel = 0; channel < 3; channel += 1) {
    const scale = 1 / (255 * (std[channel] ?? 1));
    const shift = (mean[channel] ?? 0) / (std[channel] ?? 1);
    for (let at = 0; at < positions; at += 1) {
      values[channel * positions + at] = (rgba[4 * at + channel] ?? 0) * scale - shift;
    }
  }
  return values;
}
