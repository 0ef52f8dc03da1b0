/** Ways of working to choose among. */
export const MODES = ['automatic', 'device', 'edge', 'split'] as const;
export type Mode = (typeof MODES)[number];
