import type { OperatingPoint } from 'split-inference';

import { element, setText, svg } from '../dom.js';
import { cutOf, exactBytes, placeOf } from '../words.js';

type Shape = [number, number, number];

const HEIGHT = 198;
/** Where the middle of all blocks is. */
const MIDDLE = 94;
/** From the tallest block to the lowest. */
const TALLEST = 96;
const LOWEST = 14;
const GAP = 6;
/** Narrower blocks leave no room for their sides in figures. */
const ROOM_FOR_SIDES = 38;

/** A picture of the network: a block for what goes in and one for what each segment gives, the split point where it is. */
export class NetworkView {
  readonly #svg = element('network', SVGSVGElement);
  #shown: OperatingPoint | undefined;
  /** Bytes sent for the frame that is shown. */
  #sent: number | undefined;

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.#svg);
  }

  /** Draws the network of an operating point, with what was sent for the frame shown; before there is one, with what is usual. */
  show(point: OperatingPoint, messageBytes: number | undefined): void {
    this.#shown = point;
    this.#sent = messageBytes;
    this.#draw();
  }

  /** Shows what was sent for another frame with that point. */
  send(messageBytes: number): void {
    this.#sent = messageBytes;
    const sent = this.#svg.querySelector('.sent');
    if (sent && this.#shown) setText(sent, sentOf(this.#shown, messageBytes));
  }

  #draw(): void {
    const width = this.#svg.clientWidth;
    const point = this.#shown;
    if (!point || width === 0) return;
    const shapes: Shape[] = [[3, point.height, point.width], ...point.layers];
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    this.#svg.setAttribute('aria-label', inWords(point, shapes));
    this.#svg.replaceChildren(hatch(), ...drawing(point, shapes, width, this.#sent));
  }
}

/** Everything, for a picture of this width. */
function drawing(point: OperatingPoint, shapes: Shape[], width: number, messageBytes?: number): SVGElement[] {
  // The picture itself is always on the device.
  const onDevice = 1 + point.headLayers;
  const step = (width - GAP) / (shapes.length + 1);
  const left = (at: number) => GAP + step * (at < onDevice ? at : at + 1);
  const blocks = shapes.flatMap((shape, at) =>
    block(shape, { left: left(at), width: step - GAP, place: at < onDevice ? 'device' : 'edge', shapes }),
  );
  const border = GAP / 2 + step * (onDevice + 0.5);
  const halves = [
    half('This device', GAP, border - step / 2 - GAP / 2, 'device'),
    half('Edge worker', border + step / 2 + GAP / 2, width, 'edge'),
  ];
  return [...blocks, ...splitLine(point, border, width, messageBytes), ...halves.flat()];
}

interface Place {
  left: number;
  width: number;
  place: 'device' | 'edge';
  /** Those of the whole network. */
  shapes: Shape[];
}

/** As tall as what it stands for has sides, on a logarithmic scale; channels and sides are below. */
function block([channels, height, wide]: Shape, { left, width, place, shapes }: Place): SVGElement[] {
  const largest = Math.max(...shapes.map((it) => it[1]), 2);
  const tall = LOWEST + (TALLEST - LOWEST) * (Math.log2(height) / Math.log2(largest));
  const box = { x: left, y: MIDDLE - tall / 2, width, height: tall, rx: 3 };
  const middle = left + width / 2;
  const bottom = MIDDLE + TALLEST / 2;
  const made = [svg('rect', { ...box, class: `block block-${place}` })];
  if (place === 'edge') made.push(svg('rect', { ...box, class: 'hatched' }));
  made.push(text(`${channels}`, middle, bottom + 16, 'channels'));
  if (width >= ROOM_FOR_SIDES) made.push(text(`${height}×${wide}`, middle, bottom + 30, 'sides'));
  return made;
}

/** The split point, with what crosses it. */
function splitLine(point: OperatingPoint, x: number, width: number, messageBytes?: number): SVGElement[] {
  const nothing = placeOf(point) === 'device';
  const anchor = x < 60 ? 'start' : x > width - 60 ? 'end' : 'middle';
  const at = anchor === 'start' ? 0 : anchor === 'end' ? width : x;
  return [
    svg('line', { x1: x, x2: x, y1: 26, y2: MIDDLE + TALLEST / 2 + 20, class: 'split-line' }),
    svg('path', { d: `M${x - 9} ${MIDDLE - 6}l8 6l-8 6z`, class: nothing ? 'arrow arrow-none' : 'arrow' }),
    text(sentOf(point, messageBytes), at, HEIGHT - 4, 'sent', anchor),
  ];
}

/** What crosses the link for a frame. */
function sentOf(point: OperatingPoint, messageBytes?: number): string {
  if (placeOf(point) === 'device') return 'nothing is sent';
  return messageBytes === undefined ? `about ${exactBytes(point.meanMessageBytes)}` : exactBytes(messageBytes);
}

/** The name of a half above it, and a line along it. */
function half(name: string, left: number, right: number, place: 'device' | 'edge'): SVGElement[] {
  if (right - left < GAP) return [];
  const anchor = place === 'device' ? 'start' : 'end';
  return [
    svg('line', { x1: left, x2: Math.max(right - GAP, left), y1: 24, y2: 24, class: `half half-${place}` }),
    text(name, place === 'device' ? left : right - GAP, 15, `half-name half-name-${place}`, anchor),
  ];
}

function text(content: string, x: number, y: number, name: string, anchor = 'middle'): SVGElement {
  return svg('text', { x, y, class: name, 'text-anchor': anchor }, content);
}

/** Colour alone does not tell the halves apart for everyone. */
function hatch(): SVGElement {
  const line = svg('path', { d: 'M-1 7L7 -1', class: 'hatch-line' });
  const pattern = svg('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse' }, line);
  return svg('defs', {}, pattern);
}

function inWords(point: OperatingPoint, shapes: Shape[]): string {
  const sizes = shapes.map((it) => it.join(' by ')).join(', ');
  const { headLayers, layers } = point;
  return `The network, ${cutOf(point)}: ${headLayers} of its ${layers.length} parts run on this device. Channels, height and width from the picture on: ${sizes}`;
}
