import { fileURLToPath } from 'node:url';

/** A path from the root of the repository. */
export function place(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

/** The built page. */
export const PAGE = place('web/dist');
/** The built client package. */
export const PACKAGE = place('web/packages/client');
/** The series that the project ships. */
export const SHIPPED = place('models/cifar10-vgg16');

/** What is made before the tests. */
export const MADE = place('target/browser-tests');
/** What the camera shows. */
export const CLIP = `${MADE}/clip.y4m`;
/** A series of a small network with made-up weights. */
export const TOY = `${MADE}/toy`;
/** The same with more work behind the first split point than a device should do itself while the link is fast. */
export const HEAVY = `${MADE}/heavy`;
