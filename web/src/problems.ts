import { type ErrorCode, SplitError } from 'split-inference';

import { html } from './dom.js';

/** What a problem is about. Of each there is one message at a time. */
export type Topic = 'client' | 'connection' | 'source' | 'stall' | 'page';

/** A button that helps. */
export interface Remedy {
  label: string;
  run: () => void;
}

/** The area of the page that says what is wrong, and what to do. */
export class Problems {
  readonly #area: HTMLElement;
  readonly #shown = new Map<Topic, { text: string; box: HTMLElement }>();

  constructor(area: HTMLElement) {
    this.#area = area;
  }

  /** Shows a message in place of the last one on its topic. The same one is not read out twice. */
  show(topic: Topic, text: string, remedy?: Remedy): void {
    if (this.#shown.get(topic)?.text === text) return;
    this.clear(topic);
    const buttons = html('div', { className: 'problem-actions' });
    if (remedy) buttons.append(button(remedy));
    buttons.append(button({ label: 'Dismiss', run: () => this.clear(topic) }));
    const box = html('div', { className: 'problem' }, html('p', {}, text), buttons);
    this.#shown.set(topic, { text, box });
    this.#area.append(box);
  }

  /** Takes a message away. */
  clear(topic: Topic): void {
    this.#shown.get(topic)?.box.remove();
    this.#shown.delete(topic);
  }
}

/** Loads the page anew. */
export const RELOAD: Remedy = { label: 'Load the page anew', run: () => location.reload() };

/** Kinds of problems that pass by themselves once frames are answered again. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  'busy',
  'no-credit',
  'edge-failed',
  'edge-shutting-down',
  'download-failed',
  'no-usable-point',
  'not-ready',
  'source-not-ready',
]);

/** Whether the state of the connection tells the same. */
export function isLoss(code: ErrorCode): boolean {
  return code === 'connection-lost' || code === 'offline';
}

/** What a problem of the client is about. */
export function topicOf(code: ErrorCode): Topic {
  return ['source-invalid', 'source-not-ready', 'canvas-blocked'].includes(code) ? 'source' : 'client';
}

/** Whether a problem is over once frames are answered again. */
export function passes(code: ErrorCode): boolean {
  return PASSING.has(code);
}

const ANEW = 'Load the page anew; if that does not help, tell whoever runs the edge worker.';
const RELEASE = 'Page and edge worker have to be of one release: load the page anew.';

/** What to do, beyond what the messages themselves say. */
const ADVICE: Partial<Record<ErrorCode, string>> = {
  'download-failed': 'Check that this device is online and that the edge worker runs; the page tries again by itself.',
  'segment-damaged': ANEW,
  'segment-invalid': ANEW,
  'manifest-version': RELEASE,
  'manifest-invalid': RELEASE,
  'manifest-mismatch': RELEASE,
  'protocol-version': RELEASE,
  protocol: RELEASE,
  'worker-failed': ANEW,
  internal: ANEW,
  unauthorized: 'Add #token= and the access token to the address of this page, and load it anew.',
  'no-such-point': 'Take ?point= out of the address of this page, or choose another operating point.',
  'no-usable-point': 'Choose a wider goal, or Automatic.',
  'head-failed': 'Another operating point is used instead.',
};

/** A problem for people: what is wrong, then what to do. */
export function explain({ code, message }: Pick<SplitError, 'code' | 'message'>): string {
  const advice = ADVICE[code];
  return advice ? `${sentence(message)} ${advice}` : sentence(message);
}

/** What to do where page and edge worker are of different origins; empty where they are not. */
export function elsewhere(edge: URL, page: Pick<Location, 'origin'>): string {
  if (edge.origin === page.origin) return '';
  const served = `The page of an edge worker connects to that one only: open ${edge.origin} instead.`;
  const other = `Any other page needs ${edge.origin} in connect-src of its Content-Security-Policy`;
  return `${served} ${other}, and the edge worker the option --allow-origin ${page.origin}.`;
}

/** Whether loading the page anew helps. */
export function needsReload(code: ErrorCode): boolean {
  return [ANEW, RELEASE].includes(ADVICE[code] ?? '');
}

/** Anything thrown, as a message. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof SplitError) return explain(thrown);
  return sentence(thrown instanceof Error ? thrown.message : String(thrown));
}

/** Messages are written without capital and full stop, so that they can be parts of others. Addresses and names of files stay as they are. */
export function sentence(text: string): string {
  const begun = /^\S*[./:]\S/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

function button({ label, run }: Remedy): HTMLButtonElement {
  return html('button', { type: 'button', onclick: run }, label);
}
