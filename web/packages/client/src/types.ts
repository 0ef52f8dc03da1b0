import type { ErrorCode } from './errors.js';

/** Whatever holds a picture. A `VideoFrame` or `ImageBitmap` is taken over: it is closed once it was looked at. */
export type FrameSource =
  | VideoFrame
  | ImageBitmap
  | ImageData
  | HTMLVideoElement
  | HTMLCanvasElement
  | HTMLImageElement
  | OffscreenCanvas;

/** Whatever shows one picture after the other. */
export type StreamSource = MediaStreamTrack | HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas;

/** How the operating point is chosen. `among` narrows the choice to one way of working. */
export type Goal =
  /** Lowest latency with at least this top-1 accuracy, in percent. */
  | { kind: 'lowestLatency'; atLeast: number; among?: 'all' | 'device' | 'edge' | 'split' }
  /** Highest accuracy with at most this latency, in milliseconds. */
  | { kind: 'highestAccuracy'; atMost: number; among?: 'all' | 'device' | 'edge' | 'split' }
  /** This operating point, whatever it costs. */
  | { kind: 'fixed'; point: number };

/** What `SplitClient.connect` takes. */
export interface ConnectOptions {
  /** Where the edge worker is; default: where the page came from. */
  url?: string | URL;
  /** Name of the series; default: the edge worker's own default. */
  series?: string;
  /**
   * The folder of this package, with `dist` and `wasm` in it; default: beside the script that this is part of, or where a bundler put it.
   * Needed with bundlers that leave web workers out, such as Rollup and esbuild.
   */
  base?: string | URL;
  /** How the operating point is chosen; default: lowest latency within 1.5 percentage points of the best accuracy. */
  goal?: Goal;
  /** Access token, if the edge worker wants one. */
  token?: string;
  /** Whether results carry the RGBA pixels that the network saw; default: false. */
  pixels?: boolean;
  /** Told how far loading is. */
  onProgress?: (progress: Progress) => void;
  /** Gives up connecting; after that, closes the client. */
  signal?: AbortSignal;
}

/** A link that is slower than the real one, the same in both directions. */
export interface LinkThrottle {
  /** Rate at which messages go out and come in, one after the other; at least 2000. */
  bytesPerSecond: number;
  /** Time to the edge worker and back, from 0 to 4000. */
  roundTripMs: number;
}

/** What is made slower, for demonstrations and tests; what is left out is as fast as it is. */
export interface Throttle {
  /** Messages wait before they are sent and before they are looked at. */
  link?: LinkThrottle;
  /** How many times as long everything takes on the device, from 1 to 100. */
  device?: number;
}

/** What `infer` takes beside the source. */
export interface InferOptions {
  /** Gives up waiting for the result. */
  signal?: AbortSignal;
}

/** What `stream` takes beside the source. */
export interface StreamOptions {
  /** Ends the stream. */
  signal?: AbortSignal;
}

/** How far loading is. */
export interface Progress {
  /** What is being loaded: program and manifest, or parts of the network. */
  stage: 'program' | 'network';
  /** Bytes so far. */
  loadedBytes: number;
  /** Bytes in all; 0 while unknown. */
  totalBytes: number;
}

/** A class of the network with its probability. */
export interface ClassProbability {
  /** Place among the series' classes. */
  class: number;
  /** Name of the class. */
  label: string;
  /** From 0 to 1. */
  probability: number;
}

/** Where the time of one frame went, in milliseconds. */
export interface Timings {
  /** From `infer` to pixels of the network's size in the web worker, and the result's way back to the page. */
  capture: number;
  /** RGBA to the network's input. */
  normalize: number;
  /** The head, in this browser. */
  head: number;
  /** Features, or the picture, to payload. */
  encode: number;
  /** On the link, both ways. */
  network: number;
  /** Waiting for a processor of the edge worker. */
  queue: number;
  /** Payload to features, on the edge. */
  decode: number;
  /** The tail, on the edge. */
  tail: number;
  /** From `infer` to the result, everything included. */
  total: number;
}

/** The answer to one frame. */
export interface Result {
  /** Number of the frame, counting up from 0. */
  frame: number;
  /** The most likely class. */
  label: string;
  /** Its probability, from 0 to 1. */
  probability: number;
  /** The most likely classes, best first: all of them, up to ten. */
  top: ClassProbability[];
  /** Place of the operating point in the series. */
  point: number;
  /** Bytes sent for this frame, 0 if everything ran here. */
  messageBytes: number;
  /** Where the time went. */
  timings: Timings;
  /** What the network saw, if `pixels` was asked for. */
  pixels?: ImageData;
}

/** Variant, split point and codec setting, with what was measured of them together. */
export interface OperatingPoint {
  /** Place in the series. */
  index: number;
  /** Name of the pruned network. */
  variant: string;
  /** `input`, `output`, or the layer after which the network is cut. */
  split: string;
  /** How what crosses the link is coded. */
  codec: string;
  /** Width of the network's input, in pixels. */
  width: number;
  /** Height of the network's input, in pixels. */
  height: number;
  /** Top-1 accuracy in percent, through the codec. */
  accuracy: number;
  /** Mean size of a message. */
  meanMessageBytes: number;
  /** 95th percentile of the size of a message. */
  p95MessageBytes: number;
  /** Multiply–accumulate operations on the device. */
  headMacs: number;
  /** Multiply–accumulate operations on the edge. */
  tailMacs: number;
  /** Size of the files that the device needs: the head's and the codec. */
  headBytes: number;
  /** Shape of what crosses the link, `[C, H, W]`. */
  features: [number, number, number];
  /** Shape behind each segment of the network, `[C, H, W]`. */
  layers: [number, number, number][];
  /** How many of the segments run on the device. */
  headLayers: number;
  /** How the frame is coded at `input`; null elsewhere. */
  image: { type: string; quality: number } | null;
}

/** A series of pruned networks, as the edge worker offers it. */
export interface Series {
  /** Its name. */
  series: string;
  /** Name of the network's architecture. */
  network: string;
  /** Where the network's weights are from; may be empty. */
  origin: string;
  /** The notice that a licence demands of who shows the series; may be empty. */
  notice: string;
  /** SHA-256 of its manifest. */
  digest: string;
  /** Names of the classes. */
  classes: string[];
  /** Width of the network's input in pixels, where an operating point's is not another. */
  width: number;
  /** Height of the network's input in pixels, likewise. */
  height: number;
  /** Top-1 accuracy before pruning, in percent. */
  unprunedAccuracy: number;
  /** Work before pruning, in multiply–accumulate operations. */
  unprunedMacs: number;
  /** The images behind the accuracies. */
  measuredOn: string;
  /** How many they are. */
  measuredImages: number;
  /** The layers after which networks can be cut. */
  splitPoints: string[];
  /** What can be chosen. */
  points: OperatingPoint[];
  /** The operating point to start with. */
  defaultPoint: number;
  /** The goal to start with. */
  defaultGoal: Goal;
}

/** What the edge worker says of a series that it serves. */
export interface SeriesSummary {
  /** Its name, for `ConnectOptions.series`. */
  series: string;
  /** Name of the network's architecture. */
  network: string;
  /** How many classes it tells apart. */
  classes: number;
  /** Width of the network's input in pixels, where an operating point's is not another. */
  width: number;
  /** Height of the network's input in pixels, likewise. */
  height: number;
  /** The best top-1 accuracy of its operating points, in percent. */
  accuracy: number;
  /** Bytes that the device downloads for the operating point whose head is smallest; those without a head do not count. */
  leastBytes: number;
  /** The same for the one whose head is largest, in general a whole network. */
  mostBytes: number;
  /** Whether clients that name no series get this one. */
  isDefault: boolean;
}

/** Expected latency of an operating point, in milliseconds. */
export interface Prediction {
  /** From `infer` to pixels of the network's size in the web worker, and the result's way back; 0 until a frame was answered. */
  capture: number;
  /** Head and coding, in this browser. */
  device: number;
  /** Time in which the link takes the message. */
  transmission: number;
  /** The link's delay, both ways. */
  roundTrip: number;
  /** Queue, decoding and tail, on the edge. */
  edge: number;
  /** What waiting for a part of the network that is not there yet adds to a frame, on average over the next ten seconds. */
  download: number;
  /** The sum of all these. */
  total: number;
}

/** The operating point in use, and why. */
export interface Selection {
  /** Its place in the series. */
  point: number;
  /** Whether it was chosen by the goal, not by hand. */
  automatic: boolean;
  /** Whether it meets the goal; otherwise it is the nearest to it. */
  meets: boolean;
  /** Whether it stays only because the best one is better by too little. */
  kept: boolean;
  /** What it is expected to take; null before the link was measured. */
  predicted: Prediction | null;
  /** The next best. */
  runnerUp: { point: number; predicted: Prediction } | null;
  /** The operating point that takes over once its part of the network is here; null if none is waited for. */
  awaited: number | null;
  /**
   * The link, as measured; null before that, without a connection and while the edge worker is silent: then everything runs on the device, if it is
   * ready for that. The rate is null while it cannot be told: on a fast link, all messages take alike.
   */
  link: { rateBytesPerSecond: number | null; roundTripMs: number } | null;
}

/** The connection to the edge worker. Without one, everything runs on the device. */
export type ConnectionState = 'connecting' | 'connected' | 'offline' | 'closed';

/** A change of the connection. */
export interface StateChange {
  /** What it is now. */
  state: ConnectionState;
  /** Why the connection ended. */
  problem?: Problem;
  /** When connecting is tried again, in milliseconds from now. */
  retryMs?: number;
}

/** Something that is wrong, while the client goes on as well as it can. */
export interface Problem {
  /** What kind of problem. */
  code: ErrorCode;
  /** For people. */
  message: string;
}

/** What runs, and what was measured: for experts. */
export interface Diagnosis {
  /** The binary in use: with relaxed SIMD where the browser has it. */
  binary: 'relaxed' | 'simd';
  /** Its size, unpacked. */
  binaryBytes: number;
  /** Milliseconds from the web worker's start until each was there. */
  startMs: { program: number; manifest: number; ready: number };
  /** What was learnt of this device's speed; its form may change with every release. */
  profile: unknown;
}

/** What `on` listens to. */
export interface ClientEvents {
  /** The connection changed. */
  state: StateChange;
  /** Another operating point is in use, or the reason for it changed. */
  selection: Selection;
  /** A result arrived, whoever asked for it. */
  stats: Result;
  /** Something is wrong, but the client goes on: also why a frame got no answer. The same is told every five seconds at most. */
  problem: Problem;
  /** More of the network is being loaded. */
  progress: Progress;
}
