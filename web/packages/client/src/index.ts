/**
 * Split inference in the browser: the head of a network runs here, in WebAssembly in a web worker, the tail on an edge worker.
 *
 * ```ts
 * const client = await SplitClient.connect({ url: 'https://edge.example/' });
 * for await (const result of client.stream(video)) console.log(result.label, result.probability);
 * ```
 *
 * @packageDocumentation
 */

export { SplitClient } from './client.js';
export { type ErrorCode, SplitError } from './errors.js';
export type {
  ClassProbability,
  ClientEvents,
  ConnectionState,
  ConnectOptions,
  Diagnosis,
  FrameSource,
  Goal,
  InferOptions,
  LinkThrottle,
  OperatingPoint,
  Prediction,
  Problem,
  Progress,
  Result,
  Selection,
  Series,
  SeriesSummary,
  StateChange,
  StreamOptions,
  StreamSource,
  Throttle,
  Timings,
} from './types.js';
