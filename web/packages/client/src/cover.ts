/** The part of a picture that is looked at. */
export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The largest part in the middle of a picture that has the proportions of the network's input: nothing is squeezed. */
export function cover(width: number, height: number, targetWidth: number, targetHeight: number): Rectangle {
  const scale = Math.min(width / targetWidth, height / targetHeight);
  const [w, h] = [targetWidth * scale, targetHeight * scale];
  return { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h };
}
